"""Weights that make up for classes of unequal size."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vitreous.data.class_weights import class_weights


@given(st.lists(st.integers(1, 10_000), min_size=1, max_size=30))
def test_every_class_counts_the_same_and_the_mean_is_one(counts):
    weights = class_weights(counts)
    shares = weights * torch.tensor(counts)
    assert weights.mean().item() == pytest.approx(1, rel=1e-5) and torch.allclose(shares, shares[0], rtol=1e-5)


def test_as_scikit_learn_has_it_but_for_a_factor():
    from sklearn.utils.class_weight import compute_class_weight

    labels = torch.tensor([0] * 7 + [1] * 2 + [2] * 31)
    theirs = torch.tensor(compute_class_weight("balanced", classes=np.arange(3), y=labels.numpy())).float()
    assert torch.allclose(class_weights(labels.bincount()), theirs / theirs.mean())


def test_empty_classes_count_for_nothing():
    assert class_weights([5, 0, 5]).tolist() == [1, 0, 1]
    with pytest.raises(AssertionError):
        class_weights([0, 0])
