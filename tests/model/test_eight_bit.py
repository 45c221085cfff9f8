"""A model in 8-bit products answers nearly as it did, and refuses what it can't do."""

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
    {"mlp": "gelu"},
    {"mlp": "gelu-tanh"},
    {"mlp": "quick-gelu"},
    {"mlp": "swiglu"},
    {"norm": "rms", "qk_norm": True, "layer_scale": 0.5},
    {"positions": "rotary", "pooling": "class"},
]


def model(**changes) -> ViT:
    """A small model that doesn't answer all alike: fresh ones have branches that end in zeros."""
    torch.manual_seed(0)
    vit = ViT(replace(named_config("nano/4-28"), **changes)).eval()
    for weight in vit.blocks.parameters():
        if weight.ndim == 2:
            nn.init.normal_(weight, std=weight.shape[1] ** -0.5)
    return vit


def make_images(vit: ViT, count: int = 4) -> torch.Tensor:
    return torch.randn(count, vit.config.in_chans, *vit.config.image_size, generator=torch.Generator().manual_seed(1))


def tokens_of(vit: nn.Module, shown: torch.Tensor) -> torch.Tensor:
    """The last layer's tokens."""
    trace = Trace()
    vit(shown, trace)
    return trace.tokens[-1]


def error(found: torch.Tensor, expected: torch.Tensor) -> float:
    """The length of the difference over that of what was expected."""
    return ((found - expected).norm() / expected.norm()).item()


@pytest.mark.parametrize(("numbers", "steps", "expected"), [
    ([-1.0, 0.0, 0.5, 1.0], QuantParams(0.01, 100), [0, 100, 150, 200]),
    ([-9.0, 9.0], QuantParams(0.01, 100), [0, 255]),
    ([0.0, 1.0], QuantParams(1 / 255, 0), [0, 255]),
])  # fmt: skip
def test_numbers_are_rounded_to_the_nearest_step(numbers, steps, expected):
    assert steps.round(torch.tensor(numbers)).tolist() == expected
    assert steps.round(torch.tensor(numbers).bfloat16()).tolist() == expected


@pytest.mark.parametrize("ends", [(-3.0, 5.0), (0.5, 2.0), (-4.0, -1.0), (0.0, 0.0)])
def test_steps_hold_all_that_was_seen_and_zero(ends):
    low, high = (torch.tensor([end]) for end in ends)
    steps = ChannelRange(low, high).steps()
    assert 0 <= steps.zero <= 255
    for number in (*ends, 0.0):
        back = (steps.round(torch.tensor([number])).item() - steps.zero) * steps.size
        assert back == pytest.approx(number, abs=steps.size)
    assert steps.round(torch.zeros(1)).item() == steps.zero


@needs_vnni
@pytest.mark.parametrize("gelu", [None, "none", "tanh"])
@pytest.mark.parametrize("has_bias", [True, False])
@torch.no_grad()
def test_a_map_in_eight_bits_is_as_exact_as_its_steps(gelu, has_bias):
    torch.manual_seed(0)
    source, tokens = nn.Linear(64, 48, bias=has_bias), torch.randn(2, 33, 64)
    ours = QuantizedLinear(source, ChannelRange(tokens.amin((0, 1)), tokens.amax((0, 1))).steps(), gelu)
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
def test_tokens_stay_nearly_what_they_were(changes, precision):
    vit = model(**changes)
    shown, before = make_images(vit), {name: weight.clone() for name, weight in vit.state_dict().items()}
    coarse = quantize(vit, shown)
    with torch.autocast("cpu", precision, enabled=precision != torch.float32):
        found = tokens_of(coarse, shown).float()
    expected = tokens_of(vit, shown)
    assert 0 < error(found, expected) < 0.04
    assert all(torch.equal(weight, before[name]) for name, weight in vit.state_dict().items())
    kinds = {type(module) for module in coarse.blocks.modules()}
    assert QuantizedLinear in kinds and not {Linear, nn.Linear} & kinds
    assert (QuantizedMlp in kinds) == (changes.get("mlp", "gelu") in quantization.FUSED_GELUS)


@torch.no_grad()
def test_evening_out_channels_changes_no_answer():
    vit = model()
    shown = make_images(vit)
    expected, seen = tokens_of(vit, shown), observe_channels(vit, shown)
    for block in vit.blocks:
        width = vit.config.embed_dim
        attention = block.attention
        smooth_channels(block.norm1.parameters(), attention.qkv, seen[attention.qkv])
        values = (attention.qkv.weight[2 * width :], attention.qkv.bias[2 * width :])
        smooth_channels(values, attention.projection, seen[attention.projection])
        smooth_channels(block.norm2.parameters(), block.mlp.fc1, seen[block.mlp.fc1])
    assert torch.allclose(tokens_of(vit, shown), expected, atol=1e-3)
    for linear, again in observe_channels(vit, shown).items():
        assert torch.allclose(again.least, seen[linear].least, atol=1e-3)
        assert torch.allclose(again.greatest, seen[linear].greatest, atol=1e-3)


@needs_vnni
@torch.no_grad()
def test_channels_that_reach_far_cost_little(monkeypatch):
    vit = model()
    for block in vit.blocks:
        for norm, linear in ((block.norm1, block.attn.qkv), (block.norm2, block.mlp.fc1)):
            norm.weight[3] *= 50
            linear.weight[:, 3] /= 50
    shown = make_images(vit)
    expected, evened = tokens_of(vit, shown), error(tokens_of(quantize(vit, shown), shown), tokens_of(vit, shown))
    monkeypatch.setattr(quantization, "smooth_channels", lambda *_: None)
    assert error(tokens_of(quantize(vit, shown), shown), expected) > 3 * evened


@needs_vnni
def test_gradients_are_refused():
    vit = model()
    coarse = quantize(vit, make_images(vit))
    with pytest.raises(InputError, match=r"no gradients.*bf16"):
        coarse(make_images(vit))


@needs_vnni
def test_weights_that_are_no_numbers_are_said_to_be_broken():
    vit = model()
    vit.blocks[0].mlp.fc1.weight.data[0, 0] = float("nan")
    with pytest.raises(InputError, match="weights are broken"):
        quantize(vit, make_images(vit))


@pytest.mark.parametrize("case", ["wrapped", "gpu", "old processor", "half precision"])
def test_where_there_are_no_such_products_another_precision_is_named(case, monkeypatch):
    vit: nn.Module = nn.Linear(2, 2) if case == "wrapped" else model()
    if case == "gpu":
        vit = vit.to("meta")
    if case == "half precision":
        vit = vit.bfloat16()
    if case == "old processor":
        monkeypatch.setattr(torch.cpu, "_is_vnni_supported", lambda: False)
    with pytest.raises(InputError, match=r"choose the precision bf16 or fp32|float32, not in bfloat16"):
        quantize(vit, torch.zeros(1, 1, 28, 28))
