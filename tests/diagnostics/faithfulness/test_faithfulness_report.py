"""Areas, ranks and correlations against SciPy; reports on values whose order is known."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from vitreous.diagnostics.faithfulness.report import METRICS, build_reports, method_agreements, summarize_reports
from vitreous.diagnostics.faithfulness.statistics import (
    MIN_IMAGES,
    area_under_curve,
    correlation,
    improvement,
    is_better,
    rank_correlation,
    ranks,
    sort_patches,
)

FRACTIONS = np.linspace(0, 1, 5)


@given(st.lists(st.lists(st.integers(-3, 3), min_size=5, max_size=5), min_size=1, max_size=4))
def test_ranks_are_scipys(rows):
    assert np.array_equal(ranks(np.array(rows)), stats.rankdata(rows, axis=1) - 1)


@pytest.mark.parametrize("ties", [False, True])
def test_correlations_are_scipys(ties):
    random = np.random.default_rng(0)
    first, second = random.normal(size=(2, 20, 30)) + random.normal(size=(20, 30))
    if ties:
        first, second = first.round(), second.round()
    pairs = list(zip(first, second, strict=True))
    assert np.allclose(correlation(first, second), [stats.pearsonr(*pair).statistic for pair in pairs])
    assert np.allclose(rank_correlation(first, second), [stats.spearmanr(*pair).statistic for pair in pairs])


def test_a_constant_correlates_with_nothing():
    constant, other = np.full((2, 8), 0.1), np.arange(16.0).reshape(2, 8)
    assert correlation(constant, other).tolist() == rank_correlation(other, constant).tolist() == [0, 0]
    assert rank_correlation(other, other**3).tolist() == pytest.approx([1, 1])
    assert correlation(1e9 + other * 1e-3, other) == pytest.approx([1, 1], abs=1e-3)


def test_areas_by_trapezoids_over_unequal_steps():
    fractions = np.array([0, 0.1, 0.6, 1])
    curves = np.random.default_rng(0).random((6, 4))
    assert np.allclose(area_under_curve(fractions, curves), np.trapezoid(curves, fractions, axis=1))


def test_random_numbers_decide_between_equal_patches_only():
    maps = np.array([[1.0, 3.0, 1.0, 2.0], [0.0, 0.0, 0.0, 0.0]])
    tie_breakers = np.array([[0.9, 0.1, 0.2, 0.5], [0.4, 0.1, 0.3, 0.2]])
    assert sort_patches(maps, tie_breakers).tolist() == [[1, 3, 2, 0], [1, 3, 2, 0]]


def test_better_means_a_significant_paired_difference_on_enough_images():
    random = np.random.default_rng(0)
    hard = random.normal(0, 10, 50)  # images differ much more than methods
    assert is_better(hard + 0.1 + 0.01 * random.normal(size=50), hard, "higher")
    assert not is_better(hard + 0.1, hard, "lower")
    assert not is_better(hard + random.normal(size=50) * 0.1, hard, "higher")
    assert not is_better(hard, hard, "higher")
    few = hard[: MIN_IMAGES - 1]
    enough = hard[:MIN_IMAGES]
    assert not is_better(few + 1, few, "higher") and is_better(enough + 1, enough, "higher")
    assert improvement(hard - 1, hard, "lower").value == pytest.approx(1)


def values(quality: float, similarity: float, seed: int, count: int = 40) -> dict[str, np.ndarray]:
    """Values as they might be measured of a method: the higher `quality`, the better."""
    random = np.random.default_rng(seed)
    rise = quality * np.linspace(0, 1, 5) + 0.01 * random.random((count, 5))
    return {
        "map": random.random((count, 9)), "insertion": rise, "deletion": 1 - rise, "road_most": 1 - rise[:, :3],
        "road_least": rise[:, :3], "road_most_same": 1 - rise[:, :3].round(), "road_least_same": rise[:, :3].round(),
        "sensitivity_2": rise[:, 4], "sensitivity_4": rise[:, 4], "randomized_all": np.full(count, similarity),
    }  # fmt: skip


def test_a_report_names_the_baselines_that_a_method_is_not_better_than():
    measured = {"random map": values(0.2, 0, 0), "center bias": values(0.5, 1, 1), "fair": values(0.35, 0.1, 2),
                "good": values(0.9, 0.2, 3), "stubborn": values(0.9, 0.8, 4)}  # fmt: skip
    random, center, fair, good, stubborn = build_reports(measured, ["random map", "center bias"], FRACTIONS)
    compared = {name for name, metric in METRICS.items() if metric.is_compared}
    assert good.not_better_than == {} and fair.not_better_than == dict.fromkeys(compared, ("center bias",))
    assert (
        random.not_better_than == center.not_better_than == {}
        and random.baseline
        and center.baseline
        and not good.baseline
    )
    assert (
        summarize_reports([random, center, fair, good, stubborn])
        == "Better than both baselines in all 5 comparisons: good."
    )
    assert summarize_reports([random, fair]).endswith("comparisons: none.")
    assert [one.is_insensitive for one in (random, center, fair, good, stubborn)] == [False] * 4 + [True]
    assert good.scores["insertion"].value == pytest.approx(0.455, abs=0.01) and good.scores["insertion"].n == 40
    assert {name: score.direction for name, score in good.scores.items()} == {
        "insertion": "higher", "deletion": "lower", "road_most": "lower", "road_least": "higher",
        "sensitivity": "higher", "sensitivity_2": "higher", "sensitivity_4": "higher", "randomized_all": "lower",
    }  # fmt: skip
    assert len(good.road["road_most"]) == 3 and "road_most_same" in good.road
    assert "road_most_same" not in build_reports(measured, ["random map"], FRACTIONS, has_classes=False)[3].road


def test_with_few_images_nothing_is_claimed():
    """Intervals of few images would call too many methods better that are equal but for chance."""
    assert MIN_IMAGES == 32
    measured = {"random map": values(0.2, 0, 0, 31), "good": values(0.9, 0.2, 3, 31)}
    reports = build_reports(measured, ["random map"], FRACTIONS)
    assert summarize_reports(reports) == "Too few images, 31, to compare methods with the baselines: give at least 32."
    assert set(reports[1].not_better_than.values()) == {("random map",)}


def test_agreement_of_every_two_methods():
    maps = np.random.default_rng(0).random((12, 30))
    found = method_agreements({"a": {"map": maps}, "b": {"map": maps**3}, "c": {"map": -maps}})
    assert [(one.first, one.second, round(one.value, 6), one.n) for one in found] == [
        ("a", "b", 1, 12), ("a", "c", -1, 12), ("b", "c", -1, 12),
    ]  # fmt: skip
