"""A ViT whose blocks multiply 8-bit integers: about 1.5 times as fast as bfloat16 where the processor has VNNI.

Weights are rounded by output channel, what is multiplied with them by tensor, both linearly: Jacob et al. 2018,
"Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference", equations 1 to 9.
"""

import copy
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from vitreous.errors import InputError
from vitreous.model.blocks import MLP, Block, SwiGLU
from vitreous.model.linear import Linear
from vitreous.model.vit import ViT

FUSED_GELUS = {"gelu": "none", "gelu-tanh": "tanh"}
"""Kinds of MLP whose activation the product computes with it, and its name for the form."""

HEADROOM = 1.2
"""How much further than on the images measured steps reach, but for what is within an MLP, whose few far numbers make
steps coarse enough (LOG.md, 2026-11-21)."""


class Steps(NamedTuple):
    """How a tensor becomes unsigned integers: q = x / size + zero, rounded, from 0 to 255."""

    size: float
    zero: int

    def round(self, numbers: Tensor) -> Tensor:
        """Numbers to uint8; what is out of reach becomes the nearest that is within."""
        return torch.add(self.zero + 0.5, numbers.float(), alpha=1 / self.size).clamp_(0, 255).to(torch.uint8)


@dataclass
class Reach:
    """The least and the greatest number of each channel that came into a linear map, (in) each."""

    least: Tensor
    greatest: Tensor

    def steps(self, headroom: float = HEADROOM) -> Steps:
        """The finest steps from the least to the greatest, times `headroom`, one of which is 0.

        Raises:
            InputError: there is no least and greatest.
        """
        least, greatest = min(self.least.min().item(), 0.0), max(self.greatest.max().item(), 1e-6)
        if not math.isfinite(greatest - least):
            raise InputError("the model's numbers aren't finite: its weights are broken")
        size = headroom * (greatest - least) / 254
        return Steps(size, math.ceil(-headroom * least / size))


class EightBitLinear(Linear):
    """A linear map, and perhaps the activation behind it, by a product of 8-bit integers. Off the graph only."""

    def __init__(self, source: nn.Linear, steps: Steps, gelu: str | None = None, then: Steps | None = None) -> None:
        """`gelu` is the form of the activation; with `then`, the answer is rounded for the next map.

        The float weights are left on the device "meta": nothing multiplies them any more.
        """
        super().__init__(source.in_features, source.out_features, bias=source.bias is not None, device="meta")
        self.bias = source.bias
        self.steps, self.gelu, self.then = steps, gelu, then
        self.sizes = source.weight.abs().amax(1).clamp(min=1e-12) / 127
        rounded = (source.weight / self.sizes[:, None]).round().to(torch.int8)
        self.packed = torch.ops.onednn.qlinear_prepack(rounded, None)
        self.zeros = torch.zeros(source.out_features, dtype=torch.int64)

    def forward(self, tokens: Tensor) -> Tensor:
        """(..., in), or the same rounded already, to (..., out): in autocast's precision, or rounded by `then`.

        Raises:
            InputError: gradients are asked for.
        """
        if torch.is_grad_enabled():
            raise InputError(
                "8-bit products have no gradients: choose the precision bf16, or call under torch.no_grad()"
            )
        rounded = tokens if tokens.dtype == torch.uint8 else self.steps.round(tokens)
        size, zero, kind = (*self.then, torch.uint8) if self.then else (1.0, 0, _precision())
        after = ("none", "") if self.gelu is None else ("gelu", self.gelu)
        return torch.ops.onednn.qlinear_pointwise(
            rounded, self.steps.size, self.steps.zero, self.packed, self.sizes, self.zeros, self.bias,
            size, zero, kind, after[0], [], after[1],
        )  # fmt: skip

    def first(self, tokens: Tensor, count: int) -> Tensor:
        """The first `count` of a token's numbers, (..., in) to (..., count)."""
        return self(tokens)[..., :count]


class EightBitMLP(nn.Module):
    """Linear, GELU, linear; what is between them exists in 8 bits only."""

    def __init__(self, source: MLP, seen: dict[nn.Module, Reach]) -> None:
        super().__init__()
        then = seen[source.contract].steps(headroom=1)
        self.expand = EightBitLinear(source.expand, seen[source.expand].steps(), FUSED_GELUS[source.kind], then)
        self.contract = EightBitLinear(source.contract, then)

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens (batch, tokens, width) to tokens."""
        return self.contract(self.expand(tokens))


@torch.no_grad()
def in_eight_bits(vit: nn.Module, images: Tensor) -> ViT:
    """A copy of a model whose blocks multiply 8-bit integers, in steps that reach as far as its numbers on images.

    Images of one kind are not enough: what one black frame makes of a model says little of what others do.

    Args:
        vit: our ViT, in float32 on the processor.
        images: (batch, channels, height, width), normalized, as the model takes them.

    Raises:
        InputError: the model or the machine has no such products; says which precision to take.
    """
    check_eight_bits(vit)
    assert isinstance(vit, ViT)
    coarse = copy.deepcopy(vit)
    seen = channels_seen(coarse, images)
    for block in coarse.blocks:
        assert isinstance(block, Block)
        attention, mlp = block.attention, block.mlp
        values = slice(2 * vit.config.width, None)
        for writers, linear in (
            (block.attention_norm.parameters(), attention.qkv),
            ((attention.qkv.weight[values], attention.qkv.bias[values]), attention.projection),
            (block.mlp_norm.parameters(), _first(mlp)),
        ):
            even_out(writers, linear, seen[linear])
        attention.qkv = EightBitLinear(attention.qkv, seen[attention.qkv].steps())
        projection = EightBitLinear(attention.projection, seen[attention.projection].steps())
        projection.weight = attention.projection.weight  # methods read it from the trace
        attention.projection = projection
        if isinstance(mlp, MLP) and mlp.kind in FUSED_GELUS:
            block.register_module("mlp", EightBitMLP(mlp, seen))
            continue
        for name, linear in list(_linears(mlp)):
            setattr(mlp, name, EightBitLinear(linear, seen[linear].steps(1 if linear is mlp.contract else HEADROOM)))
    return coarse


def check_eight_bits(vit: nn.Module) -> None:
    """Refuse 8-bit products where there are none, or where they would be slower.

    Raises:
        InputError: says why, and which precision to take.
    """
    instead = "choose the precision bf16 or fp32"
    if not isinstance(vit, ViT):
        raise InputError(f"int8 is for models in Vitreous' own form, not for wrapped ones: {instead}")
    weight = next(vit.parameters())
    if weight.device.type != "cpu":
        raise InputError(f"int8 is for processors, not for GPUs: {instead}")
    if weight.dtype != torch.float32:
        raise InputError(f"int8 is for weights in float32, not in {str(weight.dtype).removeprefix('torch.')}")
    if not torch.cpu._is_vnni_supported() or not hasattr(torch.ops.onednn, "qlinear_pointwise"):
        raise InputError(f"this processor (or this PyTorch) has no 8-bit products (AVX-512 VNNI): {instead}")


def channels_seen(vit: ViT, images: Tensor) -> dict[nn.Module, Reach]:
    """For each linear map of the blocks, what comes into it when the model looks at images."""
    seen: dict[nn.Module, Reach] = {}

    def note(linear: nn.Module, given: tuple[Any, ...], _: object) -> None:
        tokens = given[0].float().flatten(0, -2)
        seen[linear] = Reach(tokens.amin(0), tokens.amax(0))

    hooks = [linear.register_forward_hook(note) for _, linear in _linears(vit.blocks)]
    vit(images)
    for hook in hooks:
        hook.remove()
    return seen


def even_out(writers: Iterable[Tensor], linear: nn.Linear, seen: Reach) -> None:
    """Shrink channels that reach far where they are written, and let the map's weights grow for it: nothing changes.

    Then one size of steps fits all channels better (Xiao et al. 2023, "SmoothQuant", equation 4, with α = 1/2).
    `writers` have a row, or a number, a channel: a norm's factors, the rows that make the values.
    """
    reach = torch.maximum(seen.greatest, -seen.least).clamp(min=1e-5)
    factor = (reach / linear.weight.abs().amax(0).clamp(min=1e-5)).sqrt()
    for numbers in writers:
        numbers.t().div_(factor)
    linear.weight.mul_(factor)
    seen.least, seen.greatest = seen.least / factor, seen.greatest / factor


def _first(mlp: nn.Module) -> nn.Linear:
    """The map that reads the normalized tokens."""
    assert isinstance(mlp, MLP | SwiGLU)
    return mlp.expand if isinstance(mlp, MLP) else mlp.gate_and_value


def _linears(module: nn.Module) -> Iterator[tuple[str, nn.Linear]]:
    """The linear maps within, by name."""
    return ((name, one) for name, one in module.named_modules() if isinstance(one, nn.Linear))


def _precision() -> torch.dtype:
    """What a product answers in: autocast's precision where it is on."""
    return torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else torch.float32
