"""RISE: equal to its definition, reproducible, for any model, and right where the map is known."""

import pytest
import torch
from torch import Tensor, nn

from vitreous.errors import InputError
from vitreous.explanation import perturbation
from vitreous.explanation.methods.rise import RandomMasks, rise
from vitreous.explanation.options import MethodOptions
from vitreous.model.config import ViTConfig
from vitreous.model.vit import ViT
from vitreous.tasks.classification.targets import ClassDifferenceTarget, ClassTarget, PredictedClassTarget


def brightness_model(images: Tensor) -> Tensor:
    light = images[:, :, 8:12, 28:32].mean((1, 2, 3))
    return torch.stack([-light, light], 1)


def spot() -> Tensor:
    image = torch.randn(1, 3, 28, 42, generator=torch.Generator().manual_seed(0)) * 0.1
    image[:, :, 8:12, 28:32] = 2
    return image


def small_vit(pooling="token") -> ViT:
    torch.manual_seed(0)
    vit = ViT(
        ViTConfig((12, 20), 4, embed_dim=24, depth=2, num_heads=2, num_classes=3, reg_tokens=2, global_pool=pooling)
    ).eval()
    with torch.no_grad():
        for weight in vit.parameters():
            weight.normal_(std=0.3)
    return vit


@pytest.mark.parametrize("target", [PredictedClassTarget(), ClassTarget(1, "bright")])
def test_the_deciding_position_is_found(target):
    found = rise(brightness_model, spot(), target, MethodOptions(n_samples=600)).values
    assert found.shape == (1, 28, 42)
    row, column = divmod(int(found[0].argmax()), 42)
    assert 6 <= row < 14 and 26 <= column < 34
    outside = found[0].clone()
    outside[2:18, 22:38] = 0
    assert found.max() > 4 * outside.abs().max()


def test_maps_equal_equation_6_less_the_mean_score():
    vit, images = small_vit(), torch.randn(2, 3, 12, 20)
    dog, eel = ClassTarget(1, "dog"), ClassTarget(2, "eel")
    masks = RandomMasks(40, (12, 20), 5).between(0, 40).double()
    vit.double()
    with torch.no_grad():
        logits = torch.stack([vit(images.double() * mask) for mask in masks])
    for target, scores in (
        (dog, logits.softmax(-1)[..., 1]),
        (ClassDifferenceTarget(dog, eel), logits[..., 1] - logits[..., 2]),
    ):
        paper = torch.einsum("nb,nhw->bhw", scores, masks) / (40 * 0.5)
        found = rise(vit, images.double(), target, MethodOptions(n_samples=40, seed=5)).values
        assert torch.allclose(found, paper - scores.mean(0)[:, None, None], atol=1e-6)


def test_a_constant_output_has_a_zero_map():
    found = rise(
        lambda images: torch.ones(len(images), 2),
        torch.randn(1, 3, 9, 14),
        PredictedClassTarget(),
        MethodOptions(n_samples=10),
    )
    assert found.values.abs().max() < 1e-6


@pytest.mark.parametrize("size_hw", [(28, 42), (9, 5), (1, 3), (224, 100)])
def test_pairs_of_masks_sum_to_one_and_their_mean_is_a_half(size_hw):
    masks = RandomMasks(200, size_hw, 0)
    drawn = masks.between(0, 200)
    assert drawn.shape == (200, *size_hw) and drawn.min() >= 0 and drawn.max() <= 1
    assert torch.allclose(drawn[::2] + drawn[1::2], torch.ones(()))
    assert torch.allclose(drawn.mean(0), torch.full(size_hw, 0.5), atol=1e-5)
    assert 0.3 < drawn[::2].mean() < 0.7 and drawn.std(0).min() > 0.1
    parts = [masks.between(start, min(200, start + 7)) for start in range(0, 200, 7)]
    assert torch.equal(torch.cat(parts), drawn)


@pytest.mark.parametrize("pooling", ["token", "avg", "attention", "map"])
def test_a_batch_equals_single_images_for_any_pass_size(pooling, monkeypatch):
    vit, images, settings = small_vit(pooling), torch.randn(3, 3, 12, 20), MethodOptions(n_samples=30)
    together = rise(vit, images, PredictedClassTarget(), settings).values
    assert torch.equal(rise(vit, images, PredictedClassTarget(), settings).values, together)
    assert not torch.allclose(
        rise(vit, images, PredictedClassTarget(), MethodOptions(n_samples=30, seed=1)).values, together
    )
    monkeypatch.setitem(perturbation.MAX_PIXELS_PER_PASS, "cpu", 12 * 20 * 7)
    for i in range(3):
        alone = rise(vit, images[i : i + 1], PredictedClassTarget(), settings).values
        assert torch.allclose(alone[0], together[i], atol=1e-5)


def test_any_module_is_explained():
    torch.manual_seed(0)
    cnn = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5)).eval()
    found = rise(cnn, torch.randn(2, 1, 15, 31), PredictedClassTarget(), MethodOptions(n_samples=20))
    assert found.values.shape == (2, 15, 31) and torch.isfinite(found.values).all() and found.logits.shape == (2, 5)


@pytest.mark.parametrize("samples", [0, 1, -2, 7])
def test_an_odd_number_of_masks_raises(samples):
    with pytest.raises(InputError, match="even number"):
        rise(small_vit(), torch.randn(1, 3, 12, 20), PredictedClassTarget(), MethodOptions(n_samples=samples))
