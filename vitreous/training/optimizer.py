"""The optimizers: Muon for the matrices of blocks and convolutions, AdamW for everything else; and the schedule."""

import math
from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from vitreous.errors import InputError
from vitreous.model.layers import SwiGLU
from vitreous.model.parameter_order import forward_order
from vitreous.model.vit import NO_WEIGHT_DECAY
from vitreous.training.sharding import distribute_like, full_tensor

Key = TypeVar("Key", bound=Hashable)

MOST_RATE, MOST_SCALE = 1e30, 1e6
"""The product of both, with a weight, is a number in float32."""
MUON_PREFIXES = ("blocks.", "patch_embed.convs.")
"""Prefixes of the names of the weights that Muon updates, if they are matrices."""

EMBEDDINGS = ("patch_embed.", "cls_token", "reg_token", "pos_embed", "norm_pre.")
"""Beginnings of the names of the weights before the first block."""


@dataclass(frozen=True)
class OptimizerSettings:
    """The optimizer and its settings.

    Attributes:
        learning_rate: Peak learning rate of Muon; of AdamW if `kind` is "adamw".
        stem_lr_scale: Factor on `learning_rate` for the convolutions of a stem under Muon; they learn best at a
            higher rate.
        head_lr_scale: Factor on the learning rate of the head, which is new where the rest is pretrained.
        adamw_learning_rate: Peak learning rate of AdamW for the weights that Muon leaves: biases, norms, embeddings,
            head.
        layer_decay: Scales the learning rates of block l of `depth` (counted from 0) by layer_decay ** (depth - l), and
            those of the embeddings once more (Clark et al. 2020, "ELECTRA"; Bao et al. 2022, "BEiT"). The head learns
            at the full rate. 1 for the same rate everywhere.
        clip_grad_norm: Clip the gradient to this norm over all weights; null for no clipping.
    """

    kind: Literal["muon", "adamw"] = "muon"
    learning_rate: float = 3e-3
    stem_lr_scale: float = 4.0
    head_lr_scale: float = 1.0
    adamw_learning_rate: float = 3e-3
    weight_decay: float = 0.05
    momentum: float = 0.95
    betas: tuple[float, float] = (0.9, 0.98)
    layer_decay: float = 1.0
    clip_grad_norm: float | None = None

    def __post_init__(self) -> None:
        for name in ("learning_rate", "adamw_learning_rate", "weight_decay"):
            if not 0 <= getattr(self, name) <= MOST_RATE:
                raise InputError(f"{name} is {getattr(self, name)}: it must be at least 0 and at most {MOST_RATE:g}")
        for name in ("stem_lr_scale", "head_lr_scale"):
            if not 0 <= getattr(self, name) <= MOST_SCALE:
                raise InputError(f"{name} is {getattr(self, name)}: it must be at least 0 and at most {MOST_SCALE:g}")
        if not 0 < self.layer_decay <= 1:
            raise InputError(f"layer_decay is {self.layer_decay}: it must be above 0 and at most 1")
        for name, value in (("momentum", self.momentum), ("betas", self.betas[0]), ("betas", self.betas[1])):
            if not 0 <= value < 1:
                raise InputError(f"{name} is {value}: it must be at least 0 and below 1")
        if self.clip_grad_norm is not None and not self.clip_grad_norm > 0:
            raise InputError(f"clip_grad_norm is {self.clip_grad_norm}: it must be above 0")


def build_optimizers(model: nn.Module, settings: OptimizerSettings) -> dict[str, torch.optim.Optimizer]:
    """Build the optimizers by kind; every weight of the model belongs to exactly one of them.

    Weights with one axis (biases, norms, layer scales), positions, class token and registers get no weight decay.
    """
    named = [(name, weight) for name, weight in model.named_parameters() if weight.requires_grad]
    muon = settings.kind == "muon"
    hidden = {name for name, weight in named if muon and name.startswith(MUON_PREFIXES) and weight.ndim == 2}
    rate = settings.adamw_learning_rate if muon else settings.learning_rate
    depth = len(getattr(model, "blocks", ()))
    scales = {name: settings.layer_decay ** layers_above(name, depth) for name, _ in named}
    scales |= {name: settings.head_lr_scale for name, _ in named if name.startswith("head.")}
    groups: defaultdict[tuple[bool, float], list[Tensor]] = defaultdict(list)
    for decays in (True, False):
        for name, weight in named:
            if name not in hidden and uses_weight_decay(name, weight) is decays:
                groups[decays, scales[name]].append(weight)
    params = [
        {"params": weights, "weight_decay": settings.weight_decay if decays else 0.0, "lr": scale * rate}
        for (decays, scale), weights in groups.items()
    ]
    optimizers: dict[str, torch.optim.Optimizer] = {
        "adamw": torch.optim.AdamW(params, lr=rate, betas=settings.betas, fused=True)
    }
    if hidden:
        stem = {name: settings.stem_lr_scale if name.startswith("patch_embed.") else 1.0 for name in hidden}
        matrices = [
            MuonParam(weight, count_stacked(model, name), stem[name] * scales[name])
            for name, weight in named
            if name in hidden
        ]
        optimizers["muon"] = Muon(matrices, settings.learning_rate, settings.momentum, settings.weight_decay)
    return optimizers


def layers_above(name: str, depth: int) -> int:
    """Count the layers between a weight and the head: 0 for the head and the final norm, depth + 1 for embeddings.

    >>> [layers_above(name, 12) for name in ("head.bias", "blocks.11.norm1.weight", "blocks.0.ls1.gamma", "pos_embed")]
    [0, 1, 12, 13]
    """
    if name.startswith("blocks."):
        return depth - int(name.split(".")[1])
    return depth + 1 if name.startswith(EMBEDDINGS) else 0


def uses_weight_decay(name: str, weight: Tensor) -> bool:
    """Whether weight decay applies to this weight."""
    return weight.ndim > 1 and name not in NO_WEIGHT_DECAY


def count_stacked(model: nn.Module, name: str) -> int:
    """Count the matrices that a weight holds in its rows: 3 for query, key and value; 2 for gate and value; else 1."""
    owner, _, layer = name.removesuffix(".weight").rpartition(".")
    if layer == "qkv":
        return 3
    return 2 if layer == "fc1" and isinstance(model.get_submodule(owner), SwiGLU) else 1


def clip_gradients(model: nn.Module, max_norm: float) -> None:
    """Scale the model's gradient down to `max_norm` where its norm over all weights is larger.

    The norm is summed in the order of the forward pass, tokens before the patches first and as one tensor. Any other
    order would change the last bits of the result, and a resumed run would no longer be the uninterrupted one.
    """
    gradients = {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}
    groups = [[gradients[name] for name in names if name in gradients] for names in forward_order(model)]
    ordered = [torch.cat(group, 1) if len(group) > 1 else group[0] for group in groups if group]
    norm = torch.nn.utils.get_total_norm(ordered)
    torch.nn.utils.clip_grads_with_norm_(model.parameters(), max_norm, norm)


class MuonParam(NamedTuple):
    """A weight that Muon updates."""

    weight: Tensor
    stacked: int = 1
    """Number of matrices in its rows: 3 in a joint query-key-value map. Each is orthogonalized by itself, whereas
    torch.optim.Muon would take them as one."""
    lr_scale: float = 1.0
    """Factor on the learning rate."""


class Muon(torch.optim.Optimizer):
    """Momentum with an orthogonalized update (Jordan et al. 2024), scaled to the size of AdamW's (Liu et al. 2025).

    Matrices of one shape are orthogonalized as one batch.
    """

    def __init__(
        self, matrices: Iterable[MuonParam], learning_rate: float, momentum: float, weight_decay: float
    ) -> None:
        groups: defaultdict[tuple[int, float], list[Tensor]] = defaultdict(list)
        for matrix in matrices:
            groups[matrix.stacked, matrix.lr_scale].append(matrix.weight)
        params = [
            {"params": weights, "stacked": stacked, "lr": lr_scale * learning_rate}
            for (stacked, lr_scale), weights in groups.items()
        ]
        super().__init__(params, {"lr": learning_rate, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # ty: ignore[incompatible-method-override]
        """Update all weights from their gradients."""
        parts: dict[tuple[int, int], Tensor] = {}
        for group in self.param_groups:
            for weight in group["params"]:
                update = full_tensor(self._momentum_update(weight, group["momentum"]))
                parts |= {(id(weight), row): part for row, part in enumerate(update.chunk(group["stacked"]))}
        directions = orthogonalize_batched(parts)
        for group in self.param_groups:
            for weight in group["params"]:
                rows = [directions[id(weight), row] for row in range(group["stacked"])]
                direction = distribute_like(torch.cat(rows) if len(rows) > 1 else rows[0], weight)
                weight.mul_(1 - group["lr"] * group["weight_decay"])
                weight.add_(direction, alpha=-group["lr"] * 0.2 * max(rows[0].shape) ** 0.5)

    def _momentum_update(self, weight: Tensor, momentum: float) -> Tensor:
        """Compute Nesterov's look-ahead on the running mean of the gradients."""
        assert weight.grad is not None, "Muon got a weight without a gradient"
        state = self.state[weight]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(weight)
        state["momentum"].lerp_(weight.grad, 1 - momentum)
        return weight.grad.lerp(state["momentum"], momentum)


def orthogonalize_batched(matrices: Mapping[Key, Tensor]) -> dict[Key, Tensor]:
    """Orthogonalize each matrix; those of one shape as one batch."""
    by_shape: defaultdict[tuple[int, ...], list[Key]] = defaultdict(list)
    for key, matrix in matrices.items():
        by_shape[tuple(matrix.shape)].append(key)
    batches = ((keys, orthogonalize(torch.stack([matrices[key] for key in keys]))) for keys in by_shape.values())
    return {key: matrix for keys, batch in batches for key, matrix in zip(keys, batch, strict=True)}


def orthogonalize(matrices: Tensor, steps: int = 5) -> Tensor:
    """Compute the nearest matrices (batch, rows, columns) with singular values near 1, by Newton-Schulz iteration.

    With the quintic coefficients (3.4445, −4.7750, 2.0315) of Jordan et al. 2024, "Muon", the singular values end
    between about 0.7 and 1.2 after five steps. The iteration runs in bfloat16 on a GPU and in float32 elsewhere.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.transpose(-2, -1) if tall else matrices
    x = (x.bfloat16() if x.is_cuda else x).contiguous()
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = x @ x.transpose(-2, -1)
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x.transpose(-2, -1) if tall else x).to(matrices.dtype)


@dataclass(frozen=True)
class ScheduleSettings:
    """A linear warm-up, then a decay to zero along a line or a cosine, or the peak rate to the end ("constant").

    Attributes:
        warmup_fraction: Fraction of the steps.
    """

    warmup_fraction: float = 0.1
    shape: Literal["linear", "cosine", "constant"] = "linear"

    def __post_init__(self) -> None:
        if not 0 <= self.warmup_fraction < 1:
            raise InputError(f"schedule.warmup_fraction is {self.warmup_fraction}: it must be at least 0 and below 1")


def lr_multiplier(step: int, steps: int, settings: ScheduleSettings) -> float:
    """Return the factor on the peak learning rate at `step` of `steps`: above 0 at step 0; 0 after the last step, or 1.

    >>> [round(lr_multiplier(step, 10, ScheduleSettings(warmup_fraction=0.2)), 3) for step in (0, 1, 2, 6, 10)]
    [0.5, 1.0, 1.0, 0.5, 0.0]
    """
    warmup_steps = settings.warmup_fraction * steps
    if step < warmup_steps:
        return min(1.0, (step + 1) / warmup_steps)
    if settings.shape == "constant":
        return 1.0
    left = (steps - step) / (steps - warmup_steps)
    return left if settings.shape == "linear" else (1 - math.cos(math.pi * left)) / 2
