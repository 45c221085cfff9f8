"""Low-rank adaptation (LoRA): small trainable matrices beside frozen weights, merged into them exactly at the end."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from vitreous.errors import InputError
from vitreous.model.layers import SwiGLU
from vitreous.model.linear import Linear, linear
from vitreous.model.vit import Block, ViT

LoRATarget = Literal["q", "k", "v", "proj", "fc1", "fc2"]


@dataclass(frozen=True)
class LoRASettings:
    """Which linear maps of the blocks are adapted, and by matrices of which rank.

    Attributes:
        rank: Rank r of each update.
        alpha: The update is scaled by alpha / rank, so that the learning rate needn't follow the rank.
        targets: Of q, k and v (the queries, keys and values), proj (after attention), fc1 and fc2 (the MLP).
    """

    rank: int = 8
    alpha: float = 16.0
    targets: tuple[LoRATarget, ...] = ("q", "v")

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise InputError(f"lora.rank is {self.rank}: it must be at least 1")
        if not 0 < self.alpha < math.inf:
            raise InputError(f"lora.alpha is {self.alpha}: it must be above 0")
        known = get_args(LoRATarget)
        if not self.targets or not set(self.targets) <= set(known) or len(set(self.targets)) < len(self.targets):
            raise InputError(f"lora.targets is {list(self.targets)}: choose one or more of {', '.join(known)}")


class LoRALinear(Linear):
    """A linear map W x + b plus α / r · B A x (Hu et al. 2022, "LoRA", equation 3), of which only A and B are trained.

    A map that holds several side by side, as queries, keys and values, has one pair of A and B for each adapted one.
    `weight` and `bias` keep their names and values; B starts at zero, so that the map is the same at first.
    """

    def __init__(self, base: nn.Linear, parts: Sequence[int], num_parts: int, settings: LoRASettings) -> None:
        """Adapt a map.

        Args:
            base: the map, whose weight and bias are shared and frozen.
            parts: which of its parts are adapted, in order.
            num_parts: number of parts of equal size in its outputs.
            settings: rank and scale.
        """
        super().__init__(base.in_features, base.out_features, base.bias is not None, device="meta")
        self.weight, self.bias = base.weight, base.bias
        for frozen in (self.weight, self.bias):
            if frozen is not None:
                frozen.requires_grad_(False)
        self.parts, self.num_parts, self.scale = tuple(parts), num_parts, settings.alpha / settings.rank
        count, rank, size = len(self.parts), settings.rank, base.out_features // num_parts
        self.lora_A = nn.Parameter(base.weight.new_empty(count, rank, base.in_features))
        self.lora_B = nn.Parameter(base.weight.new_zeros(count, size, rank))
        if not self.lora_A.is_meta:
            nn.init.trunc_normal_(self.lora_A, std=base.in_features**-0.5)

    def forward(self, tokens: Tensor) -> Tensor:
        """(..., in) to (..., out)."""
        return self._plus_update(tokens, linear(tokens, self.weight, self.bias))

    def first(self, tokens: Tensor, count: int) -> Tensor:
        """Compute the first `count` outputs only: (..., in) to (..., count)."""
        return self.forward(tokens)[..., :count]

    def _plus_update(self, tokens: Tensor, outputs: Tensor) -> Tensor:
        low_rank = linear(tokens, self.lora_A.flatten(0, 1), None).unflatten(-1, (len(self.parts), -1))
        updates = {part: linear(low_rank[..., i, :], self.lora_B[i], None) for i, part in enumerate(self.parts)}
        if self.num_parts == 1:
            return torch.add(outputs, updates[0], alpha=self.scale)
        chunks = outputs.chunk(self.num_parts, -1)
        return torch.cat(
            [
                torch.add(chunk, updates[part], alpha=self.scale) if part in updates else chunk
                for part, chunk in enumerate(chunks)
            ],
            -1,
        )

    @torch.no_grad()
    def merged(self) -> Linear:
        """Return the plain map with the same outputs: W + α / r · B A, added in float64."""
        weight = self.weight.to(torch.float64, copy=True)
        rows = weight.chunk(self.num_parts)
        for index, part in enumerate(self.parts):
            rows[part].add_(self.lora_B[index].double() @ self.lora_A[index].double(), alpha=self.scale)
        plain = Linear(self.in_features, self.out_features, self.bias is not None, device="meta")
        plain.weight, plain.bias = nn.Parameter(weight.to(self.weight.dtype)), self.bias
        return plain


def freeze_all_but_head(model: ViT) -> None:
    """Leave only the head's weights to be trained."""
    for name, weight in model.named_parameters():
        weight.requires_grad_(name.startswith("head."))


def add_lora(model: ViT, settings: LoRASettings) -> None:
    """Freeze a model except for its head, and add LoRA matrices to its blocks.

    The adapted model is for training: merge it before it is explained or quantized, which read the weights.

    Args:
        model: changed in place.
        settings: which maps, and of which rank.

    Example:
        >>> from vitreous.model.config import ViTConfig
        >>> model = ViT(ViTConfig(image_size=32, patch_size=4, embed_dim=64, depth=2, num_heads=2, num_classes=10))
        >>> add_lora(model, LoRASettings(rank=4))
        >>> sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
        2698
    """
    freeze_all_but_head(model)
    for block in model.blocks:
        assert isinstance(block, Block)
        qkv = [index for index, name in enumerate("qkv") if name in settings.targets]
        if qkv:
            block.attn.qkv = LoRALinear(block.attn.qkv, qkv, 3, settings)
        if "proj" in settings.targets:
            block.attn.proj = LoRALinear(block.attn.proj, [0], 1, settings)
        if "fc1" in settings.targets:
            gates = 2 if isinstance(block.mlp, SwiGLU) else 1
            block.mlp.fc1 = LoRALinear(block.mlp.fc1, range(gates), gates, settings)
        if "fc2" in settings.targets:
            block.mlp.fc2 = LoRALinear(block.mlp.fc2, [0], 1, settings)


def merge_lora(model: nn.Module) -> None:
    """Replace each adapted map of a model by the plain one with the same outputs (up to rounding), in place."""
    for owner, name, layer in list(_adapted(model)):
        setattr(owner, name, layer.merged())


def lora_state_dict(model: nn.Module) -> dict[str, Tensor]:
    """Return the LoRA matrices of a model by name, without the weights that they are added to."""
    return {name: weight.detach() for name, weight in model.state_dict().items() if ".lora_" in name}


def load_lora(model: nn.Module, matrices: Mapping[str, Tensor]) -> None:
    """Fill the LoRA matrices of an adapted model.

    Raises:
        InputError: the names or shapes aren't those of the model.
    """
    own = lora_state_dict(model)
    for name in sorted(own.keys() | matrices.keys()):
        if name not in matrices:
            raise InputError(f"the LoRA file has no matrix {name}, which this model needs: it is of another model")
        if name not in own:
            raise InputError(f"the LoRA file has a matrix {name}, which this model hasn't: it is of another model")
        if own[name].shape != matrices[name].shape:
            shapes = f"{list(matrices[name].shape)} instead of {list(own[name].shape)}"
            raise InputError(f"the LoRA matrix {name} is {shapes}: the file is of another model or rank")
        own[name].copy_(matrices[name])


def _adapted(model: nn.Module) -> Iterator[tuple[nn.Module, str, LoRALinear]]:
    for owner in model.modules():
        for name, layer in owner.named_children():
            if isinstance(layer, LoRALinear):
                yield owner, name, layer
