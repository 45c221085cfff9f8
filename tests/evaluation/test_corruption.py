"""Corruptions, shifts and rotations: the same every time, stronger with strength, and of any size."""

import itertools

import numpy as np
import pytest
import torch
from scipy import ndimage

from vitreous.data.shapes import draw_shapes
from vitreous.diagnostics.robustness.corruptions import AT_ONCE, KINDS, STRENGTHS, corrupt, disk, resized_by_area
from vitreous.diagnostics.robustness.filters import blurred, filtered, line_kernels, mirrored, rotated, shifted
from vitreous.diagnostics.robustness.scores import corruption_scores
from vitreous.errors import InputError

SHAPES = draw_shapes(48, 5, 32).images_u8


def change(images_u8: torch.Tensor, other: torch.Tensor) -> float:
    """The mean change of a number."""
    return (images_u8.float() - other.float()).abs().mean().item()


def test_there_are_fifteen_kinds_in_four_groups():
    assert len(KINDS) == 15 and {kind.group for kind in KINDS.values()} == {"noise", "blur", "weather", "digital"}


@pytest.mark.parametrize("kind", KINDS)
def test_strength_rises_and_nothing_else_changes(kind):
    worse = [corrupt(SHAPES, kind, strength) for strength in (0, *STRENGTHS)]
    assert torch.equal(worse[0], SHAPES)
    changes = [change(SHAPES, one) for one in worse]
    assert all(before < after for before, after in itertools.pairwise(changes)), changes
    assert all(one.shape == SHAPES.shape and one.dtype == torch.uint8 for one in worse)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(3, 12, 20), (1, 28, 28), (3, 5, 3), (3, 50, 33)])
def test_any_size_and_one_channel(kind, shape):
    images_u8 = torch.randint(0, 256, (3, *shape), dtype=torch.uint8)
    for strength in STRENGTHS:
        worse = corrupt(images_u8, kind, strength, seed=1)
        assert worse.shape == images_u8.shape and worse.dtype == torch.uint8
    assert torch.equal(worse, corrupt(images_u8, kind, 5, seed=1))


@pytest.mark.parametrize("kind", KINDS)
def test_an_images_place_decides_not_the_batch(kind):
    many = SHAPES[:2, :, ::2, ::2].repeat(AT_ONCE // 2 + 3, 1, 1, 1)
    whole = corrupt(many, kind, 3)
    last = corrupt(many[AT_ONCE:], kind, 3, first=AT_ONCE)
    assert torch.equal(whole[AT_ONCE:], last)


@pytest.mark.parametrize("kind", ["gaussian noise", "snow", "fog", "elastic", "glass blur"])
def test_other_seeds_draw_other_numbers(kind):
    assert not torch.equal(corrupt(SHAPES, kind, 3), corrupt(SHAPES, kind, 3, seed=1))


def test_unknown_kinds_and_strengths_are_refused():
    with pytest.raises(InputError, match="did you mean 'fog'"):
        corrupt(SHAPES, "fogg", 1)
    with pytest.raises(InputError, match="no strength 6"):
        corrupt(SHAPES, "fog", 6)


def test_filters_are_scipys():
    image = torch.rand(1, 1, 17, 11)
    plain = image[0, 0].double().numpy()
    ours = blurred(image, 1.4)[0, 0].numpy()
    assert ours == pytest.approx(ndimage.gaussian_filter(plain, 1.4, mode="reflect", radius=4), abs=1e-5)
    kernel = torch.rand(1, 5, 5)
    expected = ndimage.correlate(plain, kernel[0].numpy(), mode="reflect")
    assert filtered(image, kernel)[0, 0].numpy() == pytest.approx(expected, abs=1e-5)
    assert mirrored(image, 40)[0, 0].numpy() == pytest.approx(np.pad(image[0, 0].numpy(), 40, mode="symmetric"))


def test_each_image_is_filtered_by_its_own_kernel():
    images, kernels = torch.rand(3, 3, 9, 8), torch.rand(3, 3, 3)
    alone = [filtered(images[i : i + 1], kernels[i : i + 1]) for i in range(3)]
    assert torch.allclose(filtered(images, kernels), torch.cat(alone), atol=1e-6)


def test_kernels_weigh_one():
    assert disk(1.6).sum().item() == pytest.approx(1) and disk(1.6).shape == (5, 5)
    kernels = line_kernels(6, 2.0, torch.tensor([0.0, 0.4, 1.5]))
    assert kernels.sum((1, 2)).tolist() == pytest.approx([1, 1, 1])
    assert kernels[0, 6, 6:].sum().item() == pytest.approx(1), "a level movement stays in its row"


def test_resizing_by_area_keeps_the_mean_and_repeats_whole_pixels():
    image = torch.rand(1, 1, 12, 20)
    assert resized_by_area(image, (7, 9)).mean().item() == pytest.approx(image.mean().item(), abs=1e-6)
    halved = resized_by_area(image, (6, 10))
    assert torch.allclose(halved, torch.nn.functional.avg_pool2d(image, 2), atol=1e-6)
    assert torch.allclose(resized_by_area(halved, (12, 20)), halved.repeat_interleave(2, 2).repeat_interleave(2, 3))


def test_shifts_move_by_whole_pixels():
    image = torch.randint(0, 256, (2, 3, 7, 10), dtype=torch.uint8)
    assert torch.equal(shifted(image, 0, 0), image)
    moved = shifted(image, 2, -3)
    assert torch.equal(moved[..., 2:, :-3], image[..., :-2, 3:])
    assert torch.equal(moved[..., 1, :-3], image[..., 0, 3:]), "the border is mirrored"


def test_rotations_turn_counter_clockwise_about_the_middle():
    square = torch.randint(0, 256, (2, 3, 9, 9), dtype=torch.uint8)
    assert torch.equal(rotated(square, 0), square)
    for turns in (1, 2, 3):
        assert change(rotated(square, 90 * turns), square.rot90(turns, (2, 3))) < 0.01
    wide = torch.randint(0, 256, (1, 1, 6, 11), dtype=torch.uint8)
    assert change(rotated(wide, 180), wide.flip(2, 3)) < 0.01


def test_accuracies_under_corruption():
    random = np.random.default_rng(0)
    rights = {"fog": random.random((5, 200)) < 0.5, "snow": random.random((5, 200)) < 0.8}
    scores = corruption_scores(random.random(200) < 0.9, rights)
    assert scores.mean.value == pytest.approx(np.mean([right.mean() for right in rights.values()]))
    assert [one.kind for one in scores.kinds] == ["fog", "snow"]
    every = [one for kind in scores.kinds for one in (kind.mean, *kind.strengths)]
    assert len(every) == 12
    for one in (scores.clean, scores.mean, *every):
        assert one.low < one.value < one.high and one.n == 200
    assert [one.value for one in scores.kinds[0].strengths] == pytest.approx(rights["fog"].mean(1))
    assert scores.kinds[1].mean.value == pytest.approx(rights["snow"].mean())
