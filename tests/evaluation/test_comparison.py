"""Comparison of two models: paired intervals, McNemar's test against SciPy, and the sentence about it."""

import numpy as np
import pytest
from scipy.stats import binomtest

from vitreous.evaluation.comparison import (
    compare_predictions,
    format_p_value,
    mcnemar_p_value,
    paired_difference,
    summarize_comparison,
)
from vitreous.evaluation.intervals import bootstrap_means, percentile_intervals
from vitreous.evaluation.report import Predictions


def predictions_with(correct: np.ndarray, seed: int = 0) -> Predictions:
    """Predictions for three classes that are correct where `correct` is true."""
    labels = np.random.default_rng(seed).integers(0, 3, len(correct))
    logits = np.zeros((len(correct), 3))
    logits[np.arange(len(correct)), np.where(correct, labels, (labels + 1) % 3)] = 2
    return Predictions(logits, labels)


def test_differences_on_few_images_are_not_significant():
    yes, no = np.ones(3, bool), np.zeros(3, bool)
    assert not paired_difference("x", no, yes).is_significant and paired_difference("x", no, yes).value == 1
    low, high = paired_difference("x", yes, yes).interval
    assert low < -0.3 and high > 0.3
    assert paired_difference("x", yes[:0], yes[:0]).interval == (-1, 1)
    first, second = (
        np.repeat([1, 1, 0, 0], [7192, 423, 557, 1828]) > 0,
        np.repeat([1, 0, 1, 0], [7192, 423, 557, 1828]) > 0,
    )
    plain = percentile_intervals(bootstrap_means((second * 1.0 - first)[:, None]))[0]
    assert paired_difference("x", first, second).interval == pytest.approx(plain, abs=0.0005)


@pytest.mark.parametrize("pair", [(0, 0), (0, 1), (3, 3), (1, 9), (20, 5), (700, 620), (3000, 3500)])
def test_mcnemar_is_the_exact_binomial_test(pair):
    expected = binomtest(pair[0], sum(pair)).pvalue if sum(pair) else 1.0
    assert mcnemar_p_value(*pair) == pytest.approx(expected, rel=1e-9) and mcnemar_p_value(*pair) == mcnemar_p_value(
        *pair[::-1]
    )


def test_a_better_model_is_significantly_better():
    random = np.random.default_rng(4)
    correct = random.random(2000) < 0.7
    better = correct | (random.random(2000) < 0.1)
    result = compare_predictions(predictions_with(correct), predictions_with(better), ("a", "b", "c"))
    assert result.top1.value == pytest.approx(better.mean() - correct.mean()) and result.top1.is_significant
    assert result.only_first_correct == 0 and result.only_second_correct == (better & ~correct).sum()
    assert result.both_correct + result.only_second_correct + result.both_wrong == result.count == 2000
    assert result.p_value < 1e-6 and "b-run is better by" in summarize_comparison(result, "a-run", "b-run")
    assert "p < 0.001" in summarize_comparison(result, "a-run", "b-run")
    assert [one.name for one in result.recall] == ["a", "b", "c"]
    swapped = compare_predictions(predictions_with(better), predictions_with(correct), ("a", "b", "c"))
    assert swapped.top1.value == -result.top1.value
    assert summarize_comparison(swapped, "b-run", "a-run") == summarize_comparison(result, "a-run", "b-run")


def test_pairing_makes_the_interval_narrower():
    random = np.random.default_rng(5)
    hard = random.random(1000)
    first, second = hard < 0.6, hard < 0.62
    together = compare_predictions(predictions_with(first), predictions_with(second), ("a", "b", "c")).top1.interval
    apart = percentile_intervals(bootstrap_means(second[:, None], 1) - bootstrap_means(first[:, None], 2))[0]
    assert together[1] - together[0] < 0.4 * (apart[1] - apart[0])


def test_equal_models_are_reported_as_equal():
    correct = np.random.default_rng(0).random(300) < 0.5
    result = compare_predictions(predictions_with(correct), predictions_with(correct), ("a", "b", "c"))
    assert result.p_value == 1 and result.top1.interval == pytest.approx((-0.01, 0.01), abs=0.003)
    assert "classify equally many images correctly" in summarize_comparison(result, "x", "y")
    other = correct.copy()
    other[:3] = True
    assert "the difference is not significant" in summarize_comparison(
        compare_predictions(predictions_with(correct), predictions_with(other), tuple("abc")), "x", "y"
    )
    assert [format_p_value(p) for p in (0.21, 0.003, 0.0001)] == ["= 0.21", "= 0.003", "< 0.001"]
