"""The measures of one map against one mask: what is known by hand, by another library, and by chance."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, jaccard_score

from vitreous.diagnostics.localization.measures import (
    SHOWN,
    TOLERANCE,
    localization_scores,
    localize,
    pointing,
    widened,
)


def scene(seed=0, size_hw=(12, 20)):
    random = np.random.default_rng(seed)
    mask = np.zeros(size_hw, bool)
    mask[3:7, 5:12] = True
    return random.random(size_hw).astype(np.float32), mask


def test_a_map_that_is_the_mask_is_perfect():
    _, mask = scene()
    one = localize(mask.astype(np.float32), mask)
    assert (one.pointing, one.energy, one.precision, one.best_overlap, one.best_threshold) == (1, 1, 1, 1, 1)
    assert one.energy_over_chance == pytest.approx(1 / mask.mean())


def test_a_map_that_is_the_rest_is_as_bad_as_can_be():
    _, mask = scene()
    one = localize((~mask).astype(np.float32), mask)
    assert (one.pointing, one.energy) == (0, 0)
    assert one.precision == pytest.approx(mask.mean()) and one.best_overlap == pytest.approx(mask.mean())


@pytest.mark.parametrize("heat", [np.zeros, np.ones, lambda size: -np.ones(size)])
def test_a_map_that_says_nothing_scores_what_chance_gives(heat):
    _, mask = scene()
    one = localize(heat(mask.shape), mask)
    for value in (one.pointing, one.energy, one.precision, one.best_overlap):
        assert value == pytest.approx(mask.mean())
    assert one.energy_over_chance == pytest.approx(1)


def test_only_the_positive_part_of_a_signed_map_counts():
    heat, mask = scene()
    signed = heat - 0.5
    assert localize(signed, mask) == localize(np.maximum(signed, 0), mask)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), levels=st.sampled_from([3, 10, 10**6]))
@example(seed=83538, levels=10**6)
def test_ranking_agrees_with_scikit_learn(seed, levels):
    heat, mask = scene(seed)
    heat = (np.ceil(heat * levels) / levels).astype(np.float64)  # a cut in float32 would round to either side
    one = localize(heat, mask)
    assert one.precision == pytest.approx(average_precision_score(mask.ravel(), heat.ravel()))
    overlaps = [jaccard_score(mask.ravel(), (heat >= cut).ravel()) for cut in np.unique(heat)]
    assert one.best_overlap == pytest.approx(max(overlaps))
    cut = one.best_threshold * heat.max() * (1 - 1e-9)
    assert jaccard_score(mask.ravel(), (heat >= cut).ravel()) == pytest.approx(one.best_overlap)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), factor=st.sampled_from([1e-6, 2.0, 1e9]))
def test_units_do_not_matter(seed, factor):
    heat, mask = scene(seed)
    first, second = (vars(localize(one, mask)) for one in (heat, heat.astype(np.float64) * factor))
    assert first == pytest.approx(second, rel=1e-6)


def test_the_peak_may_lie_a_little_beside_if_asked():
    mask = np.zeros((100, 200), bool)
    mask[40:60, 100:120] = True
    near = widened(mask)
    reach = int(TOLERANCE * 200)
    for away, expected in ((reach, 1), (reach + 1, 0)):
        heat = np.zeros(mask.shape)
        heat[50, 119 + away] = 1
        assert pointing(heat, mask) == 0 and pointing(heat, near) == expected
    assert not near[39 - reach, 99 - reach], "round corners"


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_widened_is_what_the_distance_says(seed):
    random = np.random.default_rng(seed)
    mask = random.random((9, 40)) > 0.97
    mask[random.integers(9), random.integers(40)] = True
    places = np.argwhere(mask)
    rows, columns = np.indices(mask.shape)
    apart = np.min([np.hypot(rows - y, columns - x) for y, x in places], 0)
    assert np.array_equal(widened(mask, 0.1), apart <= 4)


def test_scores_are_means_over_the_images():
    ones = [localize(*scene(seed)) for seed in range(5)]
    scores = localization_scores(ones)
    assert list(scores) == list(SHOWN)
    assert scores["energy"].value == pytest.approx(np.mean([one.energy for one in ones])) and scores["energy"].n == 5
    assert all(score.low <= score.value <= score.high and score.direction == "higher" for score in scores.values())
