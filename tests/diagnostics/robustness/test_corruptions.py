"""Corruptions, shifts and rotations: reproducible, stronger with severity, for images of any size."""

import itertools

import numpy as np
import pytest
import torch
from scipy import ndimage

from vitreous.data.shapes import draw_shapes
from vitreous.diagnostics.robustness.corruptions import (
    BLOCK_SIZE,
    CORRUPTIONS,
    SEVERITIES,
    corrupt,
    disk,
    resize_by_area,
)
from vitreous.diagnostics.robustness.filters import (
    filter_images,
    gaussian_blur,
    motion_kernels,
    rotate,
    symmetric_pad,
    translate,
)
from vitreous.diagnostics.robustness.scores import corruption_scores
from vitreous.errors import InputError

SHAPES = draw_shapes(48, 5, 32).images_u8


def mean_change(images_u8: torch.Tensor, other: torch.Tensor) -> float:
    """Mean absolute change of a value."""
    return (images_u8.float() - other.float()).abs().mean().item()


def test_there_are_15_corruptions_in_four_groups():
    assert len(CORRUPTIONS) == 15 and {one.group for one in CORRUPTIONS.values()} == {
        "noise",
        "blur",
        "weather",
        "digital",
    }


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_higher_severity_changes_the_image_more(name):
    corrupted = [corrupt(SHAPES, name, severity) for severity in (0, *SEVERITIES)]
    assert torch.equal(corrupted[0], SHAPES)
    changes = [mean_change(SHAPES, one) for one in corrupted]
    assert all(before < after for before, after in itertools.pairwise(changes)), changes
    assert all(one.shape == SHAPES.shape and one.dtype == torch.uint8 for one in corrupted)


@pytest.mark.parametrize("name", CORRUPTIONS)
@pytest.mark.parametrize("shape", [(3, 12, 20), (1, 28, 28), (3, 5, 3), (3, 50, 33)])
def test_any_size_and_one_channel(name, shape):
    images_u8 = torch.randint(0, 256, (3, *shape), dtype=torch.uint8)
    for severity in SEVERITIES:
        corrupted = corrupt(images_u8, name, severity, seed=1)
        assert corrupted.shape == images_u8.shape and corrupted.dtype == torch.uint8
    assert torch.equal(corrupted, corrupt(images_u8, name, 5, seed=1))


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_the_index_of_an_image_decides_not_the_batch(name):
    many = SHAPES[:2, :, ::2, ::2].repeat(BLOCK_SIZE // 2 + 3, 1, 1, 1)
    whole = corrupt(many, name, 3)
    last = corrupt(many[BLOCK_SIZE:], name, 3, first_index=BLOCK_SIZE)
    assert torch.equal(whole[BLOCK_SIZE:], last)


@pytest.mark.parametrize("name", ["gaussian_noise", "snow", "fog", "elastic_transform", "glass_blur"])
def test_other_seeds_draw_other_numbers(name):
    assert not torch.equal(corrupt(SHAPES, name, 3), corrupt(SHAPES, name, 3, seed=1))


def test_unknown_corruptions_and_severities_are_errors():
    with pytest.raises(InputError, match="did you mean 'fog'"):
        corrupt(SHAPES, "fogg", 1)
    with pytest.raises(InputError, match="no severity 6"):
        corrupt(SHAPES, "fog", 6)


def test_filters_are_scipys():
    image = torch.rand(1, 1, 17, 11)
    plain = image[0, 0].double().numpy()
    ours = gaussian_blur(image, 1.4)[0, 0].numpy()
    assert ours == pytest.approx(ndimage.gaussian_filter(plain, 1.4, mode="reflect", radius=4), abs=1e-5)
    kernel = torch.rand(1, 5, 5)
    expected = ndimage.correlate(plain, kernel[0].numpy(), mode="reflect")
    assert filter_images(image, kernel)[0, 0].numpy() == pytest.approx(expected, abs=1e-5)
    assert symmetric_pad(image, 40)[0, 0].numpy() == pytest.approx(np.pad(image[0, 0].numpy(), 40, mode="symmetric"))


def test_each_image_is_filtered_by_its_own_kernel():
    images, kernels = torch.rand(3, 3, 9, 8), torch.rand(3, 3, 3)
    alone = [filter_images(images[i : i + 1], kernels[i : i + 1]) for i in range(3)]
    assert torch.allclose(filter_images(images, kernels), torch.cat(alone), atol=1e-6)


def test_kernels_sum_to_one():
    assert disk(1.6).sum().item() == pytest.approx(1) and disk(1.6).shape == (5, 5)
    kernels = motion_kernels(6, 2.0, torch.tensor([0.0, 0.4, 1.5]))
    assert kernels.sum((1, 2)).tolist() == pytest.approx([1, 1, 1])
    assert kernels[0, 6, 6:].sum().item() == pytest.approx(1), "horizontal motion stays in its row"


def test_resizing_by_area_keeps_the_mean_and_repeats_whole_pixels():
    image = torch.rand(1, 1, 12, 20)
    assert resize_by_area(image, (7, 9)).mean().item() == pytest.approx(image.mean().item(), abs=1e-6)
    halved = resize_by_area(image, (6, 10))
    assert torch.allclose(halved, torch.nn.functional.avg_pool2d(image, 2), atol=1e-6)
    assert torch.allclose(resize_by_area(halved, (12, 20)), halved.repeat_interleave(2, 2).repeat_interleave(2, 3))


def test_translations_move_by_whole_pixels():
    image = torch.randint(0, 256, (2, 3, 7, 10), dtype=torch.uint8)
    assert torch.equal(translate(image, 0, 0), image)
    moved = translate(image, 2, -3)
    assert torch.equal(moved[..., 2:, :-3], image[..., :-2, 3:])
    assert torch.equal(moved[..., 1, :-3], image[..., 0, 3:]), "the border is mirrored"


def test_rotations_are_counter_clockwise_about_the_center():
    square = torch.randint(0, 256, (2, 3, 9, 9), dtype=torch.uint8)
    assert torch.equal(rotate(square, 0), square)
    for turns in (1, 2, 3):
        assert mean_change(rotate(square, 90 * turns), square.rot90(turns, (2, 3))) < 0.01
    wide = torch.randint(0, 256, (1, 1, 6, 11), dtype=torch.uint8)
    assert mean_change(rotate(wide, 180), wide.flip(2, 3)) < 0.01


def test_accuracies_under_corruption():
    random = np.random.default_rng(0)
    correct = {"fog": random.random((5, 200)) < 0.5, "snow": random.random((5, 200)) < 0.8}
    scores = corruption_scores(random.random(200) < 0.9, correct)
    assert scores.mean.value == pytest.approx(np.mean([one.mean() for one in correct.values()]))
    assert [one.corruption for one in scores.by_corruption] == ["fog", "snow"]
    every = [one for row in scores.by_corruption for one in (row.mean, *row.by_severity)]
    assert len(every) == 12
    for one in (scores.clean, scores.mean, *every):
        assert one.low < one.value < one.high and one.n == 200
    assert [one.value for one in scores.by_corruption[0].by_severity] == pytest.approx(correct["fog"].mean(1))
    assert scores.by_corruption[1].mean.value == pytest.approx(correct["snow"].mean())
