"""Intervals that hold what they promise, and two models compared."""

import time

import numpy as np
import pytest
from scipy.stats import binomtest

from vitreous.evaluation.bootstrap import intervals, resampled, resampled_means, shares
from vitreous.evaluation.certainty import Answers, judge
from vitreous.evaluation.comparison import compare, in_words, mcnemar, p_words


def answers_with(right: np.ndarray, seed: int = 0) -> Answers:
    """Answers for three classes that are right where they ought to be."""
    labels = np.random.default_rng(seed).integers(0, 3, len(right))
    logits = np.zeros((len(right), 3))
    logits[np.arange(len(right)), np.where(right, labels, (labels + 1) % 3)] = 2
    return Answers(logits, labels)


def test_means_by_counting_and_by_gathering_agree():
    values = np.random.default_rng(0).normal(size=(50, 2))
    assert resampled_means(values, 3) == pytest.approx(resampled(lambda draws: values[draws].mean(0), 50, 3))


def test_ninety_five_of_a_hundred_intervals_hold_the_truth():
    random = np.random.default_rng(1)
    truths = random.random(150) * 0.6 + 0.2
    held = [shares(random.random((400, 1)) < p)[0] for p in truths]
    assert 0.89 <= np.mean([one.low <= p <= one.high for one, p in zip(held, truths, strict=True)]) <= 0.99


def test_every_score_of_an_evaluation_lies_in_its_interval():
    random = np.random.default_rng(2)
    given = Answers(random.normal(size=(600, 8)), random.integers(0, 8, 600))
    scores = judge(given, tuple("abcdefgh"))
    pairs = [(getattr(scores, name), getattr(scores, f"{name}_interval")) for name in ("top1", "top5", "loss")]
    for one in scores.classes:
        pairs += [(getattr(one, name), getattr(one, f"{name}_interval")) for name in ("precision", "recall", "f1")]
    pairs += [(scores.selective.aurc, scores.selective.aurc_interval)]
    assert len(pairs) == 28 and all(low < value < high for value, (low, high) in pairs)
    own = scores.calibration
    errors = [(own.error, own.error_interval), (own.adaptive_error, own.adaptive_error_interval)]
    assert all(0 < low < value < high for value, (low, high) in errors)
    spread = np.sqrt(scores.top1 * (1 - scores.top1) / 600)
    assert scores.top1_interval == pytest.approx((scores.top1 - 1.96 * spread, scores.top1 + 1.96 * spread), abs=0.006)


def test_ten_thousand_pictures_are_judged_in_a_second():
    random = np.random.default_rng(0)
    given = Answers(random.normal(size=(10_000, 10)), random.integers(0, 10, 10_000))
    started = time.process_time()
    judge(given, tuple("abcdefghij"))
    assert time.process_time() - started < 3, "on an idle core 0.7 s"


@pytest.mark.parametrize("pair", [(0, 0), (0, 1), (3, 3), (1, 9), (20, 5), (700, 620), (3000, 3500)])
def test_mcnemar_is_the_exact_binomial_test(pair):
    expected = binomtest(pair[0], sum(pair)).pvalue if sum(pair) else 1.0
    assert mcnemar(*pair) == pytest.approx(expected, rel=1e-9) and mcnemar(*pair) == mcnemar(*pair[::-1])


def test_a_better_model_is_found_better():
    random = np.random.default_rng(4)
    right = random.random(2000) < 0.7
    better = right | (random.random(2000) < 0.1)
    result = compare(answers_with(right), answers_with(better), ("a", "b", "c"))
    assert result.top1.value == pytest.approx(better.mean() - right.mean()) and result.top1.is_sure
    assert result.only_first_right == 0 and result.only_second_right == (better & ~right).sum()
    assert result.both_right + result.only_second_right + result.both_wrong == result.count == 2000
    assert result.p_value < 1e-6 and "b-run is better by" in in_words(result, "a-run", "b-run")
    assert "p < 0.001" in in_words(result, "a-run", "b-run")
    assert [one.name for one in result.recall] == ["a", "b", "c"]
    turned = compare(answers_with(better), answers_with(right), ("a", "b", "c"))
    assert turned.top1.value == -result.top1.value
    assert in_words(turned, "b-run", "a-run") == in_words(result, "a-run", "b-run")


def test_pairing_makes_the_interval_narrower():
    random = np.random.default_rng(5)
    hard = random.random(1000)
    first, second = hard < 0.6, hard < 0.62
    together = compare(answers_with(first), answers_with(second), ("a", "b", "c")).top1.interval
    apart = intervals(resampled_means(second[:, None], 1) - resampled_means(first[:, None], 2))[0]
    assert together[1] - together[0] < 0.4 * (apart[1] - apart[0])


def test_equal_models_are_told_to_be_so():
    right = np.random.default_rng(0).random(300) < 0.5
    result = compare(answers_with(right), answers_with(right), ("a", "b", "c"))
    assert result.p_value == 1 and result.top1.interval == (0, 0) and not result.top1.is_sure
    assert "tell equally many pictures right" in in_words(result, "x", "y")
    other = right.copy()
    other[:3] = True
    assert "too little to tell them apart" in in_words(
        compare(answers_with(right), answers_with(other), tuple("abc")), "x", "y"
    )
    assert [p_words(p) for p in (0.21, 0.003, 0.0001)] == ["= 0.21", "= 0.003", "< 0.001"]
