"""FLOPs and parameters by formula are what torch counts."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from vitreous.errors import InputError
from vitreous.model.config import SIZES, ViTConfig, named_config
from vitreous.model.flops import count_macs, count_parameters
from vitreous.model.vit import ViT
from vitreous.workflows.models import model_sizes

TINY = {"embed_dim": 16, "depth": 2, "num_heads": 2, "num_classes": 5}
CONFIGS = {
    "plain": {},
    "conv stem": {"stem": "conv"},
    "conv stem, one": {"stem": "conv", "stem_convs": 1},
    "conv stem, three": {"stem": "conv", "stem_convs": 3},
    "mean": {"global_pool": "avg"},
    "attention": {"global_pool": "attention"},
    "map": {"global_pool": "map"},
    "two vectors": {"global_pool": "token-avg"},
    "swiglu": {"mlp_layer": "swiglu", "reg_tokens": 3},
    "ratio": {"mlp_ratio": 2.5, "pos_embed": "rope"},
    "features": {"num_classes": 0},
    "one channel": {"in_chans": 1, "qk_norm": True},
}


def count_with_torch(config: ViTConfig) -> int:
    """Multiply-adds as torch counts them, which counts two operations for each."""
    model = ViT(config).eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(torch.rand(1, config.in_chans, *config.image_size))
    assert counter.get_total_flops() % 2 == 0
    return counter.get_total_flops() // 2


@pytest.mark.parametrize("name", CONFIGS)
def test_the_formula_is_what_torch_counts(name):
    config = ViTConfig((16, 24), 4, **{**TINY, **CONFIGS[name]})
    assert count_macs(config) == count_with_torch(config)
    assert count_parameters(config) == sum(weight.numel() for weight in ViT(config).parameters())


@pytest.mark.parametrize("name", ["nano/4-28", "mini/4-32", "Ti/32"])
def test_sizes_are_what_torch_counts(name):
    assert count_macs(SIZES[name]) == count_with_torch(SIZES[name])


def test_published_figures():
    # Here the class token has no learned position, which timm adds to it.
    assert (
        count_parameters(named_config("B/16")) == 86_567_656 - 768
        and count_parameters(named_config("S/16")) == 22_050_664 - 384
    )
    assert count_macs(named_config("B/16")) / 1e9 == pytest.approx(17.6, abs=0.05)


def test_sizes_are_listed_and_measured():
    assert [one.name for one in model_sizes()] == list(SIZES)
    one = model_sizes(["nano/4-28"], measure=True, device="cpu", precision="fp32")[0]
    assert one.speed is not None and one.speed.images_per_second > 1 and one.speed.precision == "fp32"
    assert one.speed.batch == 128 and "cpu" in one.speed.device
    with pytest.raises(InputError, match="no size 'b/16'"):
        model_sizes(["b/16"])
