"""The order of the parameters in the forward pass, on which clipped gradients and randomized weights depend."""

import pytest
from torch import nn

from vitreous.model.config import ViTConfig
from vitreous.model.parameter_order import forward_order
from vitreous.model.vit import ViT

CONFIGS = {
    "linear": ViTConfig(32, 8, depth=2, num_classes=10),
    "conv": ViTConfig(32, 8, depth=2, num_classes=10, stem="conv", reg_tokens=3, init_values=0.1),
    "rotary": ViTConfig(32, 8, depth=1, num_classes=10, pos_embed="rope", global_pool="map", pre_norm=True),
    "average": ViTConfig(32, 8, depth=1, num_classes=0, global_pool="avg", fc_norm=True),
}


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_every_parameter_is_listed_once(config):
    model = ViT(config)
    names = [name for group in forward_order(model) for name in group]
    assert sorted(names) == sorted(name for name, _ in model.named_parameters())


def test_tokens_come_first_as_one_then_the_stem_then_positions():
    groups = forward_order(ViT(CONFIGS["conv"]))
    assert groups[0] == ("cls_token", "reg_token")
    names = [name for group in groups[1:] for name in group]
    assert all(len(group) == 1 for group in groups[1:])
    stem = [name for name in names if name.startswith("patch_embed.")]
    assert names[: len(stem)] == stem
    assert names[len(stem) : len(stem) + 2] == ["pos_embed", "blocks.0.norm1.weight"]
    assert names[-2:] == ["head.weight", "head.bias"]


def test_another_model_keeps_its_own_order():
    model = nn.Sequential(nn.Linear(2, 3), nn.LayerNorm(3))
    assert forward_order(model) == [("0.weight",), ("0.bias",), ("1.weight",), ("1.bias",)]
