"""Occlusion: equal to its definition, for any model, and right where the map is known."""

import pytest
import torch
from torch import Tensor, nn

from vitreous.errors import InputError
from vitreous.explanation import perturbation
from vitreous.explanation.methods.occlusion import fill_window, occlusion
from vitreous.explanation.options import MethodOptions
from vitreous.explanation.perturbation import forward_unperturbed
from vitreous.model.config import ViTConfig
from vitreous.model.trace import Trace
from vitreous.model.vit import ViT
from vitreous.tasks.classification.targets import ClassTarget, PredictedClassTarget
from vitreous.tasks.targets import FeatureNormTarget, RegionTarget


def small_vit(pooling="token") -> ViT:
    torch.manual_seed(0)
    vit = ViT(
        ViTConfig((12, 20), 4, embed_dim=24, depth=2, num_heads=2, num_classes=3, reg_tokens=2, global_pool=pooling)
    ).eval()
    with torch.no_grad():
        for weight in vit.parameters():
            weight.normal_(std=0.3)
    return vit


def brightness_model(images: Tensor) -> Tensor:
    """A model whose logit of class 1 is the brightness of rows 8 to 11, columns 16 to 19; class 0 is its negative."""
    light = images[:, :, 8:12, 16:20].mean((1, 2, 3))
    return torch.stack([-light, light], 1)


def spot(height=28, width=42) -> Tensor:
    image = torch.zeros(1, 3, height, width)
    image[:, :, 8:12, 16:20] = 2
    return image


@pytest.mark.parametrize("window", [None, 1, 2, 3, 4])
def test_only_the_deciding_position_is_found(window):
    maps = occlusion(brightness_model, spot(), PredictedClassTarget(), MethodOptions(patch_window=window))
    assert maps.values.shape == (1, 14, 21)
    found = maps.values[0]
    peak = divmod(int(found.argmax()), 21)
    assert 3 <= peak[0] <= 6 and 7 <= peak[1] <= 10
    reach = window or 2
    far = found.clone()
    far[4 - reach : 6 + reach, 8 - reach : 10 + reach] = 0
    assert far.abs().max() == 0 and found.max() > 0.1
    against = occlusion(brightness_model, spot(), ClassTarget(0, "dark"), MethodOptions(patch_window=window))
    assert torch.allclose(against.values, -maps.values)


def test_values_are_the_mean_drop_of_the_windows_that_cover_them():
    vit, images = small_vit(), torch.randn(2, 3, 12, 20)
    target = ClassTarget(1, "dog")
    found = occlusion(vit, images, target, MethodOptions(patch_window=2)).values
    with torch.no_grad():
        before = target(vit(images))
        sums, count = torch.zeros(2, 3, 5), torch.zeros(3, 5)
        for i in range(2):
            for j in range(4):
                copy = fill_window(images, slice(4 * i, 4 * i + 8), slice(4 * j, 4 * j + 8))
                sums[:, i : i + 2, j : j + 2] += (before - target(vit(copy)))[:, None, None]
                count[i : i + 2, j : j + 2] += 1
    assert torch.allclose(found, sums / count, atol=1e-5)


def test_a_filled_window_hides_its_pixels_and_changes_no_others():
    images = torch.randn(2, 3, 20, 30)
    others = images.clone()
    others[..., 4:12, 10:18] = torch.randn(2, 3, 8, 8) * 50
    down, across = slice(4, 12), slice(10, 18)
    copy = fill_window(images, down, across)
    assert torch.equal(copy, fill_window(others, down, across))
    copy[..., down, across] = images[..., down, across]
    assert torch.equal(copy, images)


@pytest.mark.parametrize(("down", "across"), [((0, 20), (0, 8)), ((12, 20), (22, 30)), ((0, 20), (1, 30))])
def test_a_flat_image_stays_flat_when_filled(down, across):
    flat = torch.full((1, 3, 20, 30), 0.7)
    assert torch.allclose(fill_window(flat, slice(*down), slice(*across)), flat, atol=1e-5)


@pytest.mark.parametrize("pooling", ["token", "avg", "attention", "map"])
def test_a_batch_equals_single_images_for_any_pass_size(pooling, monkeypatch):
    vit, images = small_vit(pooling), torch.randn(3, 3, 12, 20)
    together = occlusion(vit, images, PredictedClassTarget(), MethodOptions())
    assert together.values.shape == (3, 3, 5) and together.logits.shape == (3, 3)
    monkeypatch.setitem(perturbation.MAX_PIXELS_PER_PASS, "cpu", 1)
    for i in range(3):
        alone = occlusion(vit, images[i : i + 1], PredictedClassTarget(), MethodOptions())
        assert torch.allclose(alone.values[0], together.values[i], atol=1e-4)


def test_any_module_is_explained():
    torch.manual_seed(0)
    cnn = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5)).eval()
    grids = occlusion(cnn, torch.randn(2, 3, 28, 56), PredictedClassTarget(), MethodOptions(patch_window=4)).values
    assert grids.shape == (2, 14, 28) and torch.isfinite(grids).all() and grids.abs().max() > 0
    tiny = occlusion(
        lambda images: images.mean((2, 3)), torch.randn(1, 3, 3, 5), FeatureNormTarget(), MethodOptions(patch_window=1)
    )
    assert tiny.values.shape == (1, 3, 5)


def test_a_model_that_cannot_fill_a_trace_is_a_black_box():
    def unobservable(images: Tensor, trace: Trace | None = None) -> Tensor:
        if trace is not None:
            raise InputError("no attention is observed")
        return brightness_model(images)

    assert occlusion(unobservable, spot(), PredictedClassTarget(), MethodOptions()).values.shape == (1, 14, 21)


def test_passes_shrink_when_memory_runs_out():
    vit, images, largest = small_vit(), torch.randn(2, 3, 12, 20), []

    def full(inputs: Tensor) -> Tensor:
        if len(inputs) > 4:
            raise torch.OutOfMemoryError("full")
        largest.append(len(inputs))
        return vit(inputs)

    found = occlusion(full, images, PredictedClassTarget(), MethodOptions(patch_window=4)).values
    assert max(largest) == 4 and torch.isfinite(found).all()
    with pytest.raises(torch.OutOfMemoryError):
        occlusion(lambda inputs: full(inputs.repeat(5, 1, 1, 1)), images[:1], PredictedClassTarget(), MethodOptions())


def test_a_region_target_is_read_in_every_copy():
    vit, images = small_vit(), torch.randn(2, 3, 12, 20)
    region = RegionTarget.from_patch_box((1, 1, 2, 3), (3, 5))
    found = occlusion(vit, images, region, MethodOptions(patch_window=1)).values
    trace = forward_unperturbed(vit, images).trace
    held = region.detached(torch.empty(0), trace)
    copy, seen = fill_window(images, slice(4, 8), slice(8, 12)), Trace()
    with torch.no_grad():
        vit(copy, seen)
    drop = held(torch.empty(0), trace) - held(torch.empty(0), seen)
    assert torch.allclose(found[:, 1, 2], drop.detach(), atol=1e-4)


def test_empty_and_full_windows_raise():
    vit, images = small_vit(), torch.randn(1, 3, 12, 20)
    with pytest.raises(InputError, match="patch_window is 0"):
        occlusion(vit, images, PredictedClassTarget(), MethodOptions(patch_window=0))
    with pytest.raises(InputError, match="hides the whole image of 3 × 5"):
        occlusion(vit, images, PredictedClassTarget(), MethodOptions(patch_window=5))
    assert occlusion(vit, images, PredictedClassTarget(), MethodOptions(patch_window=4)).values.shape == (1, 3, 5)
