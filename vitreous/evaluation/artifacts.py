"""Artifact patches of a map: single patches far above all others around them (Darcet et al. 2024, section 2)."""

import numpy as np

ARTIFACT_RATIO, NEIGHBOR_RATIO = 5.0, 3.0
"""An artifact patch exceeds the median of the map, and each of its eight neighbors, by these factors."""
MAX_ARTIFACT_FRACTION = 0.05
"""Artifact patches with a larger fraction of the map than this distort it. Measured: on DINOv2 ViT-S/14, one to three
patches hold 9 to 13 % of every rollout; on `shapes`, one image in eight has any; on CIFAR-10, none."""


def artifact_patches(patch_map: np.ndarray) -> np.ndarray:
    """Find the artifact patches of a map, float (rows, columns): bool (rows, columns).

    >>> patch_map = np.ones((3, 4))
    >>> patch_map[1, 2] = 20
    >>> np.argwhere(artifact_patches(patch_map)).tolist()
    [[1, 2]]
    """
    rows, columns = patch_map.shape
    padded = np.pad(patch_map, 1)
    offsets = [(row, column) for row in range(3) for column in range(3) if (row, column) != (1, 1)]
    neighbors = np.max([padded[row : row + rows, column : column + columns] for row, column in offsets], 0)
    return (patch_map > ARTIFACT_RATIO * np.median(patch_map)) & (patch_map > NEIGHBOR_RATIO * neighbors)


def artifact_fraction(patch_map: np.ndarray) -> float:
    """Return the fraction of a non-negative map, float (rows, columns), that its artifact patches hold."""
    total = float(patch_map.sum())
    return float(patch_map[artifact_patches(patch_map)].sum()) / total if total > 0 else 0.0
