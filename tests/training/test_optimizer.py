"""The optimizers: Muon against torch's, which weights each updates, and the learning rate schedule."""

import pytest
import torch
from tiny_run import tiny_recipe

from vitreous.errors import InputError
from vitreous.model.config import ViTConfig
from vitreous.model.vit import ViT
from vitreous.training.optimizer import (
    Muon,
    MuonParam,
    OptimizerSettings,
    ScheduleSettings,
    build_optimizers,
    lr_multiplier,
    orthogonalize,
)


def test_every_weight_belongs_to_one_optimizer(colored_folder):
    model = ViT(tiny_recipe(colored_folder).model)
    for kind in ("muon", "adamw"):
        optimizers = build_optimizers(model, OptimizerSettings(kind))
        owned = [id(weight) for o in optimizers.values() for group in o.param_groups for weight in group["params"]]
        assert sorted(owned) == sorted(id(weight) for weight in model.parameters())


def test_newton_schulz_brings_singular_values_near_one():
    torch.manual_seed(0)
    for shape in ((5, 16, 48), (5, 48, 16)):
        values = torch.linalg.svdvals(orthogonalize(torch.randn(shape)))
        assert values.min() > 0.6 and values.max() < 1.3


def test_muon_is_torchs_muon_on_single_matrices():
    """torch's Muon with the same scaling, for one matrix; it computes in bfloat16, hence the tolerance."""
    torch.manual_seed(0)
    start, gradients = torch.randn(12, 20), [torch.randn(12, 20) for _ in range(4)]
    ours, torchs = start.clone().requires_grad_(), start.clone().requires_grad_()
    options = {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.1}
    reference = torch.optim.Muon([torchs], **options, adjust_lr_fn="match_rms_adamw")
    mine = Muon([MuonParam(ours)], 0.1, 0.9, 0.1)
    for gradient in gradients:
        for weight, optimizer in ((ours, mine), (torchs, reference)):
            weight.grad = gradient.clone()
            optimizer.step()
    moved = (torchs - start).norm()
    assert (ours - torchs).norm() < 0.03 * moved


def test_muon_orthogonalizes_query_key_and_value_separately():
    torch.manual_seed(0)
    joint, gradient = torch.zeros(24, 8, requires_grad=True), torch.randn(24, 8)
    parts = [torch.zeros(8, 8, requires_grad=True) for _ in range(3)]
    joint.grad = gradient.clone()
    for part, its in zip(parts, gradient.chunk(3), strict=True):
        part.grad = its.clone()
    Muon([MuonParam(joint, 3)], 0.1, 0.9, 0.0).step()
    Muon([MuonParam(part) for part in parts], 0.1, 0.9, 0.0).step()
    assert torch.allclose(joint, torch.cat(parts), atol=1e-6)


def test_the_schedule_ends_at_zero_and_stays_in_its_range():
    for shape in ("linear", "cosine"):
        for warmup in (0.0, 0.1, 0.5):
            settings = ScheduleSettings(warmup, shape)
            values = [lr_multiplier(step, 40, settings) for step in range(41)]
            assert max(values) == pytest.approx(1, abs=0.03) and values[-1] == 0 and min(values[:-1]) > 0
            peak = values.index(max(values))
            assert values[peak:] == sorted(values[peak:], reverse=True)


def test_a_constant_schedule_stays_at_its_peak():
    assert [lr_multiplier(step, 10, ScheduleSettings(0.2, "constant")) for step in (0, 1, 2, 9)] == [0.5, 1, 1, 1]


@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_layer_decay_scales_the_rates_of_the_layers(kind):
    model = ViT(ViTConfig(16, 4, embed_dim=16, depth=3, num_heads=2, num_classes=2, reg_tokens=1))
    settings = OptimizerSettings(kind, learning_rate=0.5, adamw_learning_rate=0.5, layer_decay=0.5)
    rates = {
        id(weight): group["lr"]
        for optimizer in build_optimizers(model, settings).values()
        for group in optimizer.param_groups
        for weight in group["params"]
    }
    found = {name: rates[id(weight)] for name, weight in model.named_parameters()}
    for name, rate in found.items():
        block = name.startswith("blocks.") and int(name.split(".")[1])
        layer = 0 if name.startswith(("head.", "norm.")) else 4 if block is False else 3 - block
        assert rate == 0.5 * 0.5**layer, name
    assert {found["pos_embed"], found["cls_token"], found["reg_token"]} == {0.5**5}


@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_the_head_learns_at_a_rate_of_its_own(kind):
    model = ViT(ViTConfig(16, 4, embed_dim=16, depth=2, num_heads=2, num_classes=2))
    settings = OptimizerSettings(kind, learning_rate=0.5, adamw_learning_rate=0.5, layer_decay=0.5, head_lr_scale=8)
    optimizers = build_optimizers(model, settings).values()
    rates = {id(weight): group["lr"] for one in optimizers for group in one.param_groups for weight in group["params"]}
    found = {name: rates[id(weight)] for name, weight in model.named_parameters()}
    assert (found["head.weight"], found["head.bias"], found["norm.weight"]) == (4.0, 4.0, 0.5)
    assert found["blocks.1.attn.qkv.weight"] == 0.25
    with pytest.raises(InputError, match="head_lr_scale is -1: it must be at least 0"):
        OptimizerSettings(head_lr_scale=-1)


@pytest.mark.parametrize("value", [0.0, 1.5, float("nan")])
def test_a_layer_decay_out_of_range_is_refused(value):
    with pytest.raises(InputError, match=f"layer_decay is {value}: it must be above 0 and at most 1"):
        OptimizerSettings(layer_decay=value)
