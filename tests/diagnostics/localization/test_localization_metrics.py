"""The metrics of one map on one mask: known by hand, from scikit-learn, and by chance."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, jaccard_score

from vitreous.diagnostics.localization.metrics import (
    METRICS,
    TOLERANCE,
    average_scores,
    dilate_mask,
    measure_localization,
    pointing_game,
)
from vitreous.evaluation.intervals import wilson_interval


def scene(seed=0, size_hw=(12, 20)):
    random = np.random.default_rng(seed)
    mask = np.zeros(size_hw, bool)
    mask[3:7, 5:12] = True
    return random.random(size_hw).astype(np.float32), mask


def test_a_map_that_is_the_mask_is_perfect():
    _, mask = scene()
    one = measure_localization(mask.astype(np.float32), mask)
    assert (one.pointing_game, one.energy, one.average_precision, one.max_iou, one.max_iou_threshold) == (1, 1, 1, 1, 1)
    assert one.energy_over_chance == pytest.approx(1 / mask.mean())


def test_a_map_that_is_the_background_is_the_worst():
    _, mask = scene()
    one = measure_localization((~mask).astype(np.float32), mask)
    assert (one.pointing_game, one.energy) == (0, 0)
    assert one.average_precision == pytest.approx(mask.mean()) and one.max_iou == pytest.approx(mask.mean())


@pytest.mark.parametrize("heatmap", [np.zeros, np.ones, lambda size: -np.ones(size)])
def test_a_constant_map_scores_as_by_chance(heatmap):
    _, mask = scene()
    one = measure_localization(heatmap(mask.shape), mask)
    for value in (one.pointing_game, one.energy, one.average_precision, one.max_iou):
        assert value == pytest.approx(mask.mean())
    assert one.energy_over_chance == pytest.approx(1)


def test_only_the_positive_part_of_a_signed_map_counts():
    heatmap, mask = scene()
    signed = heatmap - 0.5
    assert measure_localization(signed, mask) == measure_localization(np.maximum(signed, 0), mask)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), levels=st.sampled_from([3, 10, 10**6]))
@example(seed=83538, levels=10**6)
def test_ranking_agrees_with_scikit_learn(seed, levels):
    heatmap, mask = scene(seed)
    heatmap = (np.ceil(heatmap * levels) / levels).astype(np.float64)  # float32 would round a threshold to either side
    one = measure_localization(heatmap, mask)
    assert one.average_precision == pytest.approx(average_precision_score(mask.ravel(), heatmap.ravel()))
    ious = [jaccard_score(mask.ravel(), (heatmap >= cut).ravel()) for cut in np.unique(heatmap)]
    assert one.max_iou == pytest.approx(max(ious))
    cut = one.max_iou_threshold * heatmap.max() * (1 - 1e-9)
    assert jaccard_score(mask.ravel(), (heatmap >= cut).ravel()) == pytest.approx(one.max_iou)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), factor=st.sampled_from([1e-6, 2.0, 1e9]))
def test_the_scale_of_the_map_does_not_matter(seed, factor):
    heatmap, mask = scene(seed)
    first, second = (vars(measure_localization(one, mask)) for one in (heatmap, heatmap.astype(np.float64) * factor))
    assert first == pytest.approx(second, rel=1e-6)


def test_the_peak_may_be_beside_the_object_within_the_tolerance():
    mask = np.zeros((100, 200), bool)
    mask[40:60, 100:120] = True
    tolerant = dilate_mask(mask)
    reach = int(TOLERANCE * 200)
    for away, expected in ((reach, 1), (reach + 1, 0)):
        heatmap = np.zeros(mask.shape)
        heatmap[50, 119 + away] = 1
        assert pointing_game(heatmap, mask) == 0 and pointing_game(heatmap, tolerant) == expected
    assert not tolerant[39 - reach, 99 - reach], "round corners"


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_dilation_agrees_with_the_distance(seed):
    random = np.random.default_rng(seed)
    mask = random.random((9, 40)) > 0.97
    mask[random.integers(9), random.integers(40)] = True
    points = np.argwhere(mask)
    rows, columns = np.indices(mask.shape)
    distance = np.min([np.hypot(rows - y, columns - x) for y, x in points], 0)
    assert np.array_equal(dilate_mask(mask, 0.1), distance <= 4)


def test_proportions_have_wilson_intervals():
    heatmap, mask = np.eye(6), np.eye(6, dtype=bool)
    scores = average_scores([measure_localization(heatmap, mask)] * 26)
    assert scores["pointing_game"].value == 1
    assert (scores["pointing_game"].low, scores["pointing_game"].high) == wilson_interval(26, 26)
    assert scores["pointing_game"].low == pytest.approx(0.8713, abs=1e-4)


def test_scores_are_means_over_the_images():
    ones = [measure_localization(*scene(seed)) for seed in range(5)]
    scores = average_scores(ones)
    assert list(scores) == list(METRICS)
    assert scores["energy"].value == pytest.approx(np.mean([one.energy for one in ones])) and scores["energy"].n == 5
    assert all(score.low <= score.value <= score.high and score.direction == "higher" for score in scores.values())
