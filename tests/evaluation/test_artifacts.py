"""Artifact patches of a map."""

import numpy as np

from vitreous.evaluation.artifacts import artifact_fraction


def test_the_artifact_fraction_is_that_of_isolated_patches():
    patch_map = np.ones((4, 6))
    assert artifact_fraction(patch_map) == 0
    patch_map[1, 2] = 23
    assert artifact_fraction(patch_map) == 0.5
    patch_map[1, 3] = 23
    assert artifact_fraction(patch_map) == 0 and artifact_fraction(0 * patch_map) == 0
