"""A quantized model computes nearly what it did, and refuses what it can't do."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from vitreous.errors import InputError
from vitreous.model import quantization
from vitreous.model.config import named_config
from vitreous.model.linear import Linear
from vitreous.model.quantization import (
    ChannelRange,
    QuantizedLinear,
    QuantizedMlp,
    QuantParams,
    observe_channels,
    quantize,
    smooth_channels,
)
from vitreous.model.trace import Trace
from vitreous.model.vit import ViT

needs_vnni = pytest.mark.skipif(not torch.cpu._is_vnni_supported(), reason="no AVX-512 VNNI: no 8-bit products")
KINDS = [
    {"mlp_layer": "gelu"},
    {"mlp_layer": "gelu-tanh"},
    {"mlp_layer": "quick-gelu"},
    {"mlp_layer": "swiglu"},
    {"norm_layer": "rmsnorm", "qk_norm": True, "init_values": 0.5},
    {"pos_embed": "rope", "global_pool": "token"},
]


def model(**changes) -> ViT:
    """A small model whose output depends on its blocks: fresh ones have branches that end in zeros."""
    torch.manual_seed(0)
    vit = ViT(replace(named_config("nano/4-28"), **changes)).eval()
    for weight in vit.blocks.parameters():
        if weight.ndim == 2:
            nn.init.normal_(weight, std=weight.shape[1] ** -0.5)
    return vit


def make_images(vit: ViT, count: int = 4) -> torch.Tensor:
    return torch.randn(count, vit.config.in_chans, *vit.config.image_size, generator=torch.Generator().manual_seed(1))


def tokens_of(vit: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """The last layer's tokens."""
    trace = Trace()
    vit(images, trace)
    return trace.tokens[-1]


def error(found: torch.Tensor, expected: torch.Tensor) -> float:
    """The length of the difference over that of what was expected."""
    return ((found - expected).norm() / expected.norm()).item()


@pytest.mark.parametrize(("values", "params", "expected"), [
    ([-1.0, 0.0, 0.5, 1.0], QuantParams(0.01, 100), [0, 100, 150, 200]),
    ([-9.0, 9.0], QuantParams(0.01, 100), [0, 255]),
    ([0.0, 1.0], QuantParams(1 / 255, 0), [0, 255]),
])  # fmt: skip
def test_values_are_rounded_to_the_nearest_step(values, params, expected):
    assert params.quantize(torch.tensor(values)).tolist() == expected
    assert params.quantize(torch.tensor(values).bfloat16()).tolist() == expected


@pytest.mark.parametrize("ends", [(-3.0, 5.0), (0.5, 2.0), (-4.0, -1.0), (0.0, 0.0)])
def test_the_steps_cover_the_range_and_represent_zero_exactly(ends):
    low, high = (torch.tensor([end]) for end in ends)
    params = ChannelRange(low, high).quant_params()
    assert 0 <= params.zero_point <= 255
    for value in (*ends, 0.0):
        back = (params.quantize(torch.tensor([value])).item() - params.zero_point) * params.scale
        assert back == pytest.approx(value, abs=params.scale)
    assert params.quantize(torch.zeros(1)).item() == params.zero_point


@needs_vnni
@pytest.mark.parametrize("gelu", [None, "none", "tanh"])
@pytest.mark.parametrize("has_bias", [True, False])
@torch.no_grad()
def test_a_quantized_linear_map_is_as_exact_as_its_steps(gelu, has_bias):
    torch.manual_seed(0)
    source, tokens = nn.Linear(64, 48, bias=has_bias), torch.randn(2, 33, 64)
    ours = QuantizedLinear(source, ChannelRange(tokens.amin((0, 1)), tokens.amax((0, 1))).quant_params(), gelu)
    expected = source(tokens)
    if gelu:
        expected = nn.functional.gelu(expected, approximate=gelu)
    assert error(ours(tokens), expected) < 0.02
    if not gelu:
        assert torch.equal(ours.first(tokens, 20), ours(tokens)[..., :20])


@needs_vnni
@pytest.mark.parametrize("changes", KINDS, ids=lambda changes: " ".join(map(str, changes.values())))
@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
@torch.no_grad()
def test_a_quantized_model_computes_nearly_the_same_tokens(changes, precision):
    vit = model(**changes)
    images, before = make_images(vit), {name: weight.clone() for name, weight in vit.state_dict().items()}
    quantized = quantize(vit, images)
    with torch.autocast("cpu", precision, enabled=precision != torch.float32):
        found = tokens_of(quantized, images).float()
    expected = tokens_of(vit, images)
    assert 0 < error(found, expected) < 0.04
    assert all(torch.equal(weight, before[name]) for name, weight in vit.state_dict().items())
    kinds = {type(module) for module in quantized.blocks.modules()}
    assert QuantizedLinear in kinds and not {Linear, nn.Linear} & kinds
    assert (QuantizedMlp in kinds) == (changes.get("mlp_layer", "gelu") in quantization.FUSED_GELUS)


@torch.no_grad()
def test_smoothing_channels_changes_no_output():
    vit = model()
    images = make_images(vit)
    expected, ranges = tokens_of(vit, images), observe_channels(vit, images)
    for block in vit.blocks:
        width = vit.config.embed_dim
        attn = block.attn
        smooth_channels(block.norm1.parameters(), attn.qkv, ranges[attn.qkv])
        values = (attn.qkv.weight[2 * width :], attn.qkv.bias[2 * width :])
        smooth_channels(values, attn.proj, ranges[attn.proj])
        smooth_channels(block.norm2.parameters(), block.mlp.fc1, ranges[block.mlp.fc1])
    assert torch.allclose(tokens_of(vit, images), expected, atol=1e-3)
    for linear, again in observe_channels(vit, images).items():
        assert torch.allclose(again.minimum, ranges[linear].minimum, atol=1e-3)
        assert torch.allclose(again.maximum, ranges[linear].maximum, atol=1e-3)


@needs_vnni
@torch.no_grad()
def test_channels_of_wide_range_cost_little(monkeypatch):
    vit = model()
    for block in vit.blocks:
        for norm, linear in ((block.norm1, block.attn.qkv), (block.norm2, block.mlp.fc1)):
            norm.weight[3] *= 50
            linear.weight[:, 3] /= 50
    images = make_images(vit)
    expected, smoothed = tokens_of(vit, images), error(tokens_of(quantize(vit, images), images), tokens_of(vit, images))
    monkeypatch.setattr(quantization, "smooth_channels", lambda *_: None)
    assert error(tokens_of(quantize(vit, images), images), expected) > 3 * smoothed


@needs_vnni
def test_gradients_are_refused():
    vit = model()
    quantized = quantize(vit, make_images(vit))
    with pytest.raises(InputError, match=r"no gradients.*bf16"):
        quantized(make_images(vit))


@needs_vnni
def test_nan_weights_are_reported():
    vit = model()
    vit.blocks[0].mlp.fc1.weight.data[0, 0] = float("nan")
    with pytest.raises(InputError, match="weights are damaged"):
        quantize(vit, make_images(vit))


@pytest.mark.parametrize("case", ["wrapped", "gpu", "old CPU", "half precision"])
def test_where_int8_is_impossible_another_precision_is_named(case, monkeypatch):
    vit: nn.Module = nn.Linear(2, 2) if case == "wrapped" else model()
    if case == "gpu":
        vit = vit.to("meta")
    if case == "half precision":
        vit = vit.bfloat16()
    if case == "old CPU":
        monkeypatch.setattr(torch.cpu, "_is_vnni_supported", lambda: False)
    with pytest.raises(InputError, match=r"choose the precision bf16 or fp32|float32, not in bfloat16"):
        quantize(vit, torch.zeros(1, 1, 28, 28))
