"""Intervals that hold what they promise, and two models compared."""

import time

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
from vitreous.evaluation.intervals import (
    bootstrap,
    bootstrap_means,
    f1_interval,
    percentile_intervals,
    proportions,
    wilson_interval,
)
from vitreous.evaluation.report import Predictions, evaluate_predictions


def answers_with(right: np.ndarray, seed: int = 0) -> Predictions:
    """Answers for three classes that are right where they ought to be."""
    labels = np.random.default_rng(seed).integers(0, 3, len(right))
    logits = np.zeros((len(right), 3))
    logits[np.arange(len(right)), np.where(right, labels, (labels + 1) % 3)] = 2
    return Predictions(logits, labels)


def test_means_by_counting_and_by_gathering_agree():
    values = np.random.default_rng(0).normal(size=(50, 2))
    assert bootstrap_means(values, 3) == pytest.approx(bootstrap(lambda draws: values[draws].mean(0), 50, 3))


def test_ninety_five_of_a_hundred_intervals_hold_the_truth():
    random = np.random.default_rng(1)
    truths = random.random(150) * 0.6 + 0.2
    held = [proportions(random.random((400, 1)) < p)[0] for p in truths]
    assert 0.89 <= np.mean([one.low <= p <= one.high for one, p in zip(held, truths, strict=True)]) <= 0.99


@pytest.mark.parametrize("pair", [(0, 5), (5, 5), (3, 3), (7, 9), (9186, 10_000)])
def test_wilson_is_scipys(pair):
    theirs = binomtest(*pair).proportion_ci(method="wilson")
    assert wilson_interval(*pair) == pytest.approx((theirs.low, theirs.high))


def test_a_share_lies_in_its_interval_to_the_last_bit():
    pairs = [(hits, count) for count in range(1, 80) for hits in range(count + 1)]
    assert all(wilson_interval(*pair)[0] <= pair[0] / pair[1] <= wilson_interval(*pair)[1] for pair in pairs)
    assert {wilson_interval(count, count)[1] for count in range(80)} == {1} and {
        wilson_interval(0, n)[0] for n in range(80)
    } == {0}


def test_large_counts_give_what_resampling_gives():
    right = np.arange(10_000) < 9186
    assert wilson_interval(9186, 10_000) == pytest.approx(
        percentile_intervals(bootstrap_means(right[:, None]))[0], abs=0.0005
    )


def test_intervals_of_few_images_hold_the_truth():
    random = np.random.default_rng(3)
    held = [low <= 0.9 <= high for low, high in (wilson_interval(k, 5) for k in random.binomial(5, 0.9, 2000).tolist())]
    assert np.mean(held) > 0.9, "of resamples, 4 in 10: 5 of 5 right is a point at 1"


def test_a_class_of_few_images_is_not_certain_and_an_absent_one_says_nothing():
    labels = np.repeat([0, 1], [5, 60])
    scores = evaluate_predictions(Predictions(9.0 * np.eye(3)[labels], labels), ("few", "many", "none"))
    few, many, none = scores.classes
    for name in ("precision", "recall", "f1"):
        assert getattr(few, name) == 1 and 0.5 < getattr(few, f"{name}_interval")[0] < 0.75
        assert getattr(many, f"{name}_interval")[0] > 0.9 and getattr(none, f"{name}_interval") == (0, 1)
    assert 0.9 < scores.top1_interval[0] < 1 == pytest.approx(scores.top1_interval[1])
    assert all(one.accuracy == 1 and one.accuracy_interval[0] < 0.99 for one in scores.selective.points)
    assert scores.selective.aurc == 0 and 0.02 < scores.selective.aurc_interval[1] < 0.1


def test_the_interval_of_f1_is_that_of_resampled_images():
    random = np.random.default_rng(6)
    truth = random.random(4000) < 0.3
    said = np.where(random.random(4000) < 0.85, truth, ~truth)

    def f1(draws: np.ndarray) -> float:
        return 2 * (truth & said)[draws].sum() / (truth[draws].sum() + said[draws].sum())

    ours = f1_interval(int((truth & said).sum()), int(truth.sum()), int(said.sum()))
    assert ours == pytest.approx(percentile_intervals(bootstrap(f1, 4000))[0], abs=0.004)


def test_several_tries_an_image_are_resampled_and_single_ones_are_not():
    hits = np.array([[1, 1.0], [1, 0.5], [1, 0.75], [1, 1.0]])
    plain, mean = proportions(hits)
    assert (plain.low, plain.high) == wilson_interval(4, 4) and plain.low < 0.6
    assert (mean.low, mean.high) == percentile_intervals(bootstrap_means(hits[:, 1:]))[0]


def test_differences_on_few_images_are_not_sure():
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


def test_every_score_of_an_evaluation_lies_in_its_interval():
    random = np.random.default_rng(2)
    given = Predictions(random.normal(size=(600, 8)), random.integers(0, 8, 600))
    scores = evaluate_predictions(given, tuple("abcdefgh"))
    pairs = [(getattr(scores, name), getattr(scores, f"{name}_interval")) for name in ("top1", "top5", "loss")]
    for one in scores.classes:
        pairs += [(getattr(one, name), getattr(one, f"{name}_interval")) for name in ("precision", "recall", "f1")]
    pairs += [(scores.selective.aurc, scores.selective.aurc_interval)]
    assert len(pairs) == 28 and all(low < value < high for value, (low, high) in pairs)
    own = scores.calibration
    errors = [(own.ece, own.ece_interval), (own.adaptive_ece, own.adaptive_ece_interval)]
    assert all(0 < low < value < high for value, (low, high) in errors)
    spread = np.sqrt(scores.top1 * (1 - scores.top1) / 600)
    assert scores.top1_interval == pytest.approx((scores.top1 - 1.96 * spread, scores.top1 + 1.96 * spread), abs=0.006)


def test_ten_thousand_images_are_judged_in_a_second():
    random = np.random.default_rng(0)
    given = Predictions(random.normal(size=(10_000, 10)), random.integers(0, 10, 10_000))
    started = time.process_time()
    evaluate_predictions(given, tuple("abcdefghij"))
    assert time.process_time() - started < 3, "on an idle core 0.7 s"


@pytest.mark.parametrize("pair", [(0, 0), (0, 1), (3, 3), (1, 9), (20, 5), (700, 620), (3000, 3500)])
def test_mcnemar_is_the_exact_binomial_test(pair):
    expected = binomtest(pair[0], sum(pair)).pvalue if sum(pair) else 1.0
    assert mcnemar_p_value(*pair) == pytest.approx(expected, rel=1e-9) and mcnemar_p_value(*pair) == mcnemar_p_value(
        *pair[::-1]
    )


def test_a_better_model_is_found_better():
    random = np.random.default_rng(4)
    right = random.random(2000) < 0.7
    better = right | (random.random(2000) < 0.1)
    result = compare_predictions(answers_with(right), answers_with(better), ("a", "b", "c"))
    assert result.top1.value == pytest.approx(better.mean() - right.mean()) and result.top1.is_significant
    assert result.only_first_correct == 0 and result.only_second_correct == (better & ~right).sum()
    assert result.both_correct + result.only_second_correct + result.both_wrong == result.count == 2000
    assert result.p_value < 1e-6 and "b-run is better by" in summarize_comparison(result, "a-run", "b-run")
    assert "p < 0.001" in summarize_comparison(result, "a-run", "b-run")
    assert [one.name for one in result.recall] == ["a", "b", "c"]
    turned = compare_predictions(answers_with(better), answers_with(right), ("a", "b", "c"))
    assert turned.top1.value == -result.top1.value
    assert summarize_comparison(turned, "b-run", "a-run") == summarize_comparison(result, "a-run", "b-run")


def test_pairing_makes_the_interval_narrower():
    random = np.random.default_rng(5)
    hard = random.random(1000)
    first, second = hard < 0.6, hard < 0.62
    together = compare_predictions(answers_with(first), answers_with(second), ("a", "b", "c")).top1.interval
    apart = percentile_intervals(bootstrap_means(second[:, None], 1) - bootstrap_means(first[:, None], 2))[0]
    assert together[1] - together[0] < 0.4 * (apart[1] - apart[0])


def test_equal_models_are_told_to_be_so():
    right = np.random.default_rng(0).random(300) < 0.5
    result = compare_predictions(answers_with(right), answers_with(right), ("a", "b", "c"))
    assert result.p_value == 1 and result.top1.interval == pytest.approx((-0.01, 0.01), abs=0.003)
    assert "tell equally many images right" in summarize_comparison(result, "x", "y")
    other = right.copy()
    other[:3] = True
    assert "too little to tell them apart" in summarize_comparison(
        compare_predictions(answers_with(right), answers_with(other), tuple("abc")), "x", "y"
    )
    assert [format_p_value(p) for p in (0.21, 0.003, 0.0001)] == ["= 0.21", "= 0.003", "< 0.001"]
