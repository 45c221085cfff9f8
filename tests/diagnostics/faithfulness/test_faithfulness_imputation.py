"""Imputation by the neighbors' weighted mean: against the dense linear system, and on known solutions."""

import itertools

import numpy as np
import pytest
import torch

from vitreous.diagnostics.faithfulness.imputation import impute, neighbor_sum


def random_mask(height: int, width: int, fraction: float, seed: int = 0) -> torch.Tensor:
    """Return which pixels are kept: bool (1, height, width)."""
    kept = torch.rand(1, height, width, generator=torch.Generator().manual_seed(seed)) >= fraction
    kept[0, height // 2, width // 3] = True
    return kept


def make_image(height: int, width: int, channels: int = 3, seed: int = 0) -> torch.Tensor:
    return torch.rand(1, channels, height, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def impute_densely(plane: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Impute by the definition: one row per pixel, solved as a dense matrix."""
    height, width = plane.shape
    matrix, right = np.eye(height * width), np.where(kept, plane, 0).ravel()
    for row, column in np.argwhere(~kept):
        neighbors = [
            (row + down, column + across, 1 / 12 if down and across else 1 / 6)
            for down, across in itertools.product((-1, 0, 1), repeat=2)
            if (down or across) and 0 <= row + down < height and 0 <= column + across < width
        ]
        for y, x, weight in neighbors:
            matrix[row * width + column, y * width + x] = -weight / sum(weight for *_, weight in neighbors)
    return np.linalg.solve(matrix, right).reshape(height, width)


@pytest.mark.parametrize(("height", "width"), [(1, 7), (2, 2), (9, 16), (14, 11), (20, 5)])
@pytest.mark.parametrize("fraction", [0.1, 0.5, 0.95])
def test_it_solves_the_linear_system(height, width, fraction):
    original, kept = make_image(height, width), random_mask(height, width, fraction)
    imputed = impute(original, kept, tolerance=1e-12)[0].numpy()
    expected = [impute_densely(plane, kept[0].numpy()) for plane in original[0].numpy()]
    assert np.allclose(imputed, expected, atol=1e-9)


def test_a_linear_gradient_is_imputed_exactly():
    """The border is kept: a mean over half of the neighbors can't follow a slope."""
    y, x = torch.meshgrid(torch.arange(24.0), torch.arange(36.0), indexing="ij")
    ramp = (2 * y - 3 * x + 5).expand(1, 3, 24, 36).double()
    kept = random_mask(24, 36, 0.7)
    kept[:, [0, -1]] = kept[:, :, [0, -1]] = True
    kept[:, 4:12, 8:24] = False
    assert torch.allclose(impute(ramp, kept, tolerance=1e-12), ramp, atol=1e-8)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_kept_pixels_stay_to_the_bit_and_imputed_ones_in_their_range(dtype):
    original, kept = make_image(32, 48).to(dtype), random_mask(32, 48, 0.8)
    imputed = impute(original, kept)
    assert imputed.dtype == dtype
    mask = kept[:, None].expand_as(original)
    assert torch.equal(imputed[mask], original[mask])
    assert imputed.min() > -1e-2 and imputed.max() < 1 + 1e-2


def test_the_default_tolerance_is_finer_than_the_noise():
    original, kept = make_image(56, 56).float(), random_mask(56, 56, 0.9).repeat_interleave(1, 0)
    assert (impute(original, kept) - impute(original.double(), kept, tolerance=1e-12)).abs().max() < 0.01


def test_an_image_is_imputed_alone_as_in_a_batch():
    together = torch.cat([make_image(16, 24, seed=seed) for seed in range(3)])
    kept = torch.cat([random_mask(16, 24, fraction, seed=7) for fraction in (0.1, 0.9, 0.5)])
    imputed = impute(together, kept)
    for i in range(3):
        assert torch.allclose(impute(together[i : i + 1], kept[i : i + 1]), imputed[i : i + 1], atol=1e-12)


def test_a_constant_image_and_one_without_removed_pixels():
    gray, kept = torch.full((1, 3, 12, 20), 0.3), random_mask(12, 20, 0.9)
    assert torch.allclose(impute(gray, kept), gray)
    whole = torch.ones(1, 12, 20, dtype=torch.bool)
    original = make_image(12, 20)
    assert torch.equal(impute(original, whole), original)
    with pytest.raises(AssertionError, match="without kept pixels"):
        impute(original, ~whole)


def test_weights_of_the_eight_neighbors():
    point = torch.zeros(1, 1, 5, 5)
    point[0, 0, 2, 2] = 12
    expected = [[1, 2, 1], [2, 0, 2], [1, 2, 1]]
    assert torch.allclose(neighbor_sum(point)[0, 0, 1:4, 1:4], torch.tensor(expected, dtype=torch.float32), atol=1e-6)
