"""The convolutional stem: a token depends most on its patch, images don't mix, and Muon moves the convolutions."""

import pytest
import torch

from vitreous.model.config import ViTConfig, named_config
from vitreous.model.flops import count_macs
from vitreous.model.vit import ViT
from vitreous.training.optimizer import OptimizerSettings, build_optimizers

HW = (24, 32)


def build(patch_size: int = 4, **options) -> ViT:
    torch.manual_seed(0)
    return ViT(ViTConfig(HW, patch_size, num_classes=3, embed_dim=32, depth=1, num_heads=2, stem="conv", **options))


@pytest.mark.parametrize(("patch_size", "convolutions"), [(2, 2), (4, 2), (8, 2), (8, 1), (4, 3)])
def test_a_token_changes_most_with_its_own_patch(patch_size, convolutions):
    stem = build(patch_size, stem_convs=convolutions).patch_embed.double()
    images = torch.zeros(1, 3, *HW, dtype=torch.float64)
    plain = stem(images).square().sum(2)
    rows, columns = HW[0] // patch_size, HW[1] // patch_size
    for row, column in [(0, 0), (1, 2), (rows - 1, columns - 1)]:
        other = images.clone()
        patch = (slice(row * patch_size, (row + 1) * patch_size), slice(column * patch_size, (column + 1) * patch_size))
        other[..., *patch] = torch.randn(3, patch_size, patch_size, dtype=torch.float64)
        changed = (stem(other).square().sum(2) - plain).abs().view(rows, columns)
        assert changed.argmax() == row * columns + column


@pytest.mark.parametrize("training", [True, False])
def test_images_of_a_batch_do_not_mix(training):
    model, images = build().train(training), torch.randn(4, 3, *HW)
    torch.nn.init.normal_(model.head.weight)
    alone = torch.cat([model(image[None]) for image in images])
    assert alone.std() > 0.1 and torch.allclose(model(images), alone, atol=1e-5)


def test_muon_moves_the_convolutions_but_not_the_projection():
    model = build()
    optimizers = build_optimizers(model, OptimizerSettings())
    by_muon = {id(weight) for group in optimizers["muon"].param_groups for weight in group["params"]}
    convolutions = [block.weight for block in model.patch_embed.convs]
    assert len(convolutions) == 4 and all(id(weight) in by_muon for weight in convolutions)
    assert id(model.patch_embed.proj.weight) not in by_muon


@pytest.mark.parametrize("name", ["mini/4-32", "Ti/16", "S/8", "B/16"])
def test_it_costs_about_two_blocks(name):
    plain = count_macs(named_config(name))
    block = plain - count_macs(named_config(name, depth=named_config(name).depth - 1))
    assert 0 < count_macs(named_config(name, stem="conv")) - plain < 2.5 * block


def test_the_convolutions_have_a_learning_rate_of_their_own():
    model = build()
    muon = build_optimizers(model, OptimizerSettings(learning_rate=0.01, stem_lr_scale=3, weight_decay=0))["muon"]
    stem, block = model.patch_embed.convs[1].weight, model.blocks[0].mlp.fc2.weight
    before = [weight.detach().clone() for weight in (stem, block)]
    for group in muon.param_groups:
        for weight in group["params"]:
            weight.grad = torch.randn_like(weight)
    muon.step()
    with torch.no_grad():
        steps = [(new - old).square().mean() ** 0.5 for new, old in zip((stem, block), before, strict=True)]
    assert (steps[0] / steps[1]).item() == pytest.approx(3, rel=0.2)
