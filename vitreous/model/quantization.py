"""A ViT whose blocks multiply 8-bit integers: about 1.5 times as fast as bfloat16 on a CPU that has VNNI.

Weights are quantized per output channel, what is multiplied with them per tensor, both linearly: Jacob et al. 2018,
"Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference", equations 1 to 9.
"""

import copy
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from vitreous.errors import InputError
from vitreous.model.layers import Mlp, SwiGLU
from vitreous.model.linear import Linear
from vitreous.model.vit import Attention, Block, ViT

FUSED_GELUS = {"gelu": "none", "gelu-tanh": "tanh"}
"""The kinds of MLP whose activation is computed together with the product, and oneDNN's name for the form."""

HEADROOM = 1.2
"""How much wider the range of a tensor is taken than the one measured. Inside an MLP it is 1: a few outliers there make
the steps coarse enough (LOG.md, 2026-11-21)."""


class QuantParams(NamedTuple):
    """How a tensor becomes unsigned integers: q = x / scale + zero_point, rounded, from 0 to 255."""

    scale: float
    zero_point: int

    def quantize(self, tensor: Tensor) -> Tensor:
        """Quantize to uint8; values out of range become the nearest in range."""
        return torch.add(self.zero_point + 0.5, tensor.float(), alpha=1 / self.scale).clamp_(0, 255).to(torch.uint8)


@dataclass
class ChannelRange:
    """The minimum and maximum of each channel that came into a linear map, (in) each."""

    minimum: Tensor
    maximum: Tensor

    def quant_params(self, headroom: float = HEADROOM) -> QuantParams:
        """Find the finest steps that cover the range times `headroom`, so that 0 is represented exactly.

        Raises:
            InputError: the range isn't finite.
        """
        low, high = min(self.minimum.min().item(), 0.0), max(self.maximum.max().item(), 1e-6)
        if not math.isfinite(high - low):
            raise InputError("the model's activations aren't finite: its weights are damaged")
        scale = headroom * (high - low) / 254
        return QuantParams(scale, math.ceil(-headroom * low / scale))


class QuantizedLinear(Linear):
    """A linear map, and perhaps the GELU after it, by a product of 8-bit integers. For inference only."""

    def __init__(
        self,
        source: nn.Linear,
        input_params: QuantParams,
        gelu: str | None = None,
        output_params: QuantParams | None = None,
    ) -> None:
        """Quantize the weights of `source`.

        `gelu` is the form of the activation; with `output_params`, the output is quantized for the next map. The float
        weights are left on the device "meta": nothing multiplies them any more.
        """
        super().__init__(source.in_features, source.out_features, bias=source.bias is not None, device="meta")
        self.bias = source.bias
        self.input_params, self.gelu, self.output_params = input_params, gelu, output_params
        self.weight_scales = source.weight.abs().amax(1).clamp(min=1e-12) / 127
        quantized = (source.weight / self.weight_scales[:, None]).round().to(torch.int8)
        self.packed = torch.ops.onednn.qlinear_prepack(quantized, None)
        self.weight_zero_points = torch.zeros(source.out_features, dtype=torch.int64)

    def forward(self, tokens: Tensor) -> Tensor:
        """(..., in), float or quantized already, to (..., out): in autocast's precision, or quantized.

        Raises:
            InputError: gradients are enabled.
        """
        if torch.is_grad_enabled():
            raise InputError(
                "8-bit products have no gradients: choose the precision bf16, or call under torch.no_grad()"
            )
        quantized = tokens if tokens.dtype == torch.uint8 else self.input_params.quantize(tokens)
        scale, zero_point, dtype = (*self.output_params, torch.uint8) if self.output_params else (1.0, 0, _precision())
        activation, form = ("none", "") if self.gelu is None else ("gelu", self.gelu)
        return torch.ops.onednn.qlinear_pointwise(
            quantized, self.input_params.scale, self.input_params.zero_point, self.packed, self.weight_scales,
            self.weight_zero_points, self.bias, scale, zero_point, dtype, activation, [], form,
        )  # fmt: skip

    def first(self, tokens: Tensor, count: int) -> Tensor:
        """Compute the first `count` outputs only: (..., in) to (..., count)."""
        return self(tokens)[..., :count]


class QuantizedMlp(nn.Module):
    """Linear, GELU, linear; the hidden layer exists in 8 bits only."""

    def __init__(self, source: Mlp, ranges: dict[nn.Module, ChannelRange]) -> None:
        super().__init__()
        hidden = ranges[source.fc2].quant_params(headroom=1)
        gelu = FUSED_GELUS[source.activation]
        self.fc1 = QuantizedLinear(source.fc1, ranges[source.fc1].quant_params(), gelu, hidden)
        self.fc2 = QuantizedLinear(source.fc2, hidden)

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens (batch, tokens, width) to tokens."""
        return self.fc2(self.fc1(tokens))


@torch.no_grad()
def quantize(vit: nn.Module, images: Tensor) -> ViT:
    """Copy a model into one whose blocks multiply 8-bit integers, with ranges measured on some images.

    Give images of several kinds: what a model computes for one black frame says little of what it does for others.

    Args:
        vit: a ViT of Vitreous, in float32 on the CPU.
        images: (batch, channels, height, width), normalized, as the model takes them.

    Raises:
        InputError: the model or the machine can't; says which precision to take.
    """
    check_quantizable(vit)
    assert isinstance(vit, ViT)
    quantized = copy.deepcopy(vit)
    ranges = observe_channels(quantized, images)
    for block in quantized.blocks:
        assert isinstance(block, Block)
        _quantize_attention(block.attn, block.norm1, ranges)
        _quantize_mlp(block, ranges)
    return quantized


def _quantize_attention(attn: Attention, norm: nn.Module, ranges: dict[nn.Module, ChannelRange]) -> None:
    qkv, proj = attn.qkv, attn.proj
    values = slice(2 * qkv.in_features, None)
    smooth_channels(norm.parameters(), qkv, ranges[qkv])
    smooth_channels((qkv.weight[values], qkv.bias[values]), proj, ranges[proj])
    attn.qkv = QuantizedLinear(qkv, ranges[qkv].quant_params())
    attn.proj = QuantizedLinear(proj, ranges[proj].quant_params())
    attn.proj.weight = proj.weight  # methods read it from the trace


def _quantize_mlp(block: Block, ranges: dict[nn.Module, ChannelRange]) -> None:
    mlp = block.mlp
    assert isinstance(mlp, Mlp | SwiGLU)
    smooth_channels(block.norm2.parameters(), mlp.fc1, ranges[mlp.fc1])
    if isinstance(mlp, Mlp) and mlp.activation in FUSED_GELUS:
        block.register_module("mlp", QuantizedMlp(mlp, ranges))
        return
    mlp.fc1 = QuantizedLinear(mlp.fc1, ranges[mlp.fc1].quant_params())
    mlp.fc2 = QuantizedLinear(mlp.fc2, ranges[mlp.fc2].quant_params(headroom=1))


def check_quantizable(vit: nn.Module) -> None:
    """Refuse 8-bit products where there are none, or where they would be slower.

    Raises:
        InputError: says why, and which precision to take.
    """
    instead = "choose the precision bf16 or fp32"
    if not isinstance(vit, ViT):
        raise InputError(f"int8 needs a ViT of Vitreous, and this is a wrapped model of another kind: {instead}")
    weight = next(vit.parameters())
    if weight.device.type != "cpu":
        raise InputError(f"int8 is for CPUs, not for GPUs: {instead}")
    if weight.dtype != torch.float32:
        raise InputError(f"int8 needs weights in float32, not in {str(weight.dtype).removeprefix('torch.')}")
    if not torch.cpu._is_vnni_supported() or not hasattr(torch.ops.onednn, "qlinear_pointwise"):
        raise InputError(f"this CPU (or this PyTorch) has no 8-bit products (AVX-512 VNNI): {instead}")


def observe_channels(vit: ViT, images: Tensor) -> dict[nn.Module, ChannelRange]:
    """Measure the range of each channel that comes into each linear map of the blocks, on some images."""
    ranges: dict[nn.Module, ChannelRange] = {}

    def record(linear: nn.Module, inputs: tuple[Tensor, ...], _: object) -> None:
        tokens = inputs[0].float().flatten(0, -2)
        ranges[linear] = ChannelRange(tokens.amin(0), tokens.amax(0))

    hooks = [linear.register_forward_hook(record) for linear in _linear_maps(vit.blocks)]
    vit(images)
    for hook in hooks:
        hook.remove()
    return ranges


def smooth_channels(writers: Iterable[Tensor], linear: nn.Linear, channels: ChannelRange) -> None:
    """Shrink channels of wide range where they are written, and scale the map's weights up: the result is the same.

    Then one step size fits all channels better (Xiao et al. 2023, "SmoothQuant", equation 4, with α = 1/2).

    Args:
        writers: tensors with a row, or an element, for each channel: a norm's factors, the rows that make the values.
        linear: the map that reads the channels.
        channels: their range, which is updated.
    """
    largest = torch.maximum(channels.maximum, -channels.minimum).clamp(min=1e-5)
    factor = (largest / linear.weight.abs().amax(0).clamp(min=1e-5)).sqrt()
    for tensor in writers:
        tensor.t().div_(factor)
    linear.weight.mul_(factor)
    channels.minimum, channels.maximum = channels.minimum / factor, channels.maximum / factor


def _linear_maps(module: nn.Module) -> Iterator[nn.Linear]:
    return (one for one in module.modules() if isinstance(one, nn.Linear))


def _precision() -> torch.dtype:
    """The precision of a product's output: autocast's where it is on."""
    return torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else torch.float32
