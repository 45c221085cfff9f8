"""Textures have the statistics of photos, and are always the same."""

from itertools import pairwise

import numpy as np
import pytest

from vitreous.data.textures import dead_leaves, natural_textures, pink_noise
from vitreous.errors import InputError


@pytest.mark.parametrize("size_hw", [(1, 1), (4, 9), (224, 160)])
def test_images_are_of_the_size_and_always_the_same(size_hw):
    first, second = natural_textures(size_hw), natural_textures(size_hw)
    assert all(one.shape == (*size_hw, 3) and one.dtype == np.uint8 for one in first)
    assert all(map(np.array_equal, first, second)) and not first[-1].any()


@pytest.mark.parametrize("kind", [dead_leaves, pink_noise])
def test_power_falls_with_the_frequency_as_in_photos(kind):
    """Torralba and Oliva 2003, "Statistics of natural image categories": as 1 / f to the power of about 2."""
    image = kind((256, 256), np.random.default_rng(0)).mean(2)
    rows, columns = np.meshgrid(np.fft.fftfreq(256), np.fft.fftfreq(256), indexing="ij")
    frequency, power = np.hypot(rows, columns).ravel(), np.abs(np.fft.fft2(image - image.mean())).ravel() ** 2
    edges = np.geomspace(0.01, 0.4, 9)
    means = [power[(frequency >= low) & (frequency < high)].mean() for low, high in pairwise(edges)]
    slope = np.polyfit(np.log(np.sqrt(edges[:-1] * edges[1:])), np.log(means), 1)[0]
    assert -3 < slope < -1.5


def test_no_size_is_refused():
    with pytest.raises(InputError, match="0 × 4 pixels"):
        natural_textures((0, 4))
