"""Intervals that contain the truth as often as they promise, and the report that holds them."""

import time

import numpy as np
import pytest
from scipy.stats import binomtest

from vitreous.evaluation.intervals import (
    bootstrap,
    bootstrap_means,
    f1_interval,
    percentile_intervals,
    proportions,
    wilson_interval,
)
from vitreous.evaluation.report import Predictions, evaluate_predictions


def test_means_by_counts_and_by_indexing_agree():
    values = np.random.default_rng(0).normal(size=(50, 2))
    assert bootstrap_means(values, 3) == pytest.approx(bootstrap(lambda draws: values[draws].mean(0), 50, 3))


def test_95_of_100_intervals_contain_the_truth():
    rng = np.random.default_rng(1)
    rates = rng.random(150) * 0.6 + 0.2
    contained = [proportions(rng.random((400, 1)) < p)[0] for p in rates]
    assert 0.89 <= np.mean([one.low <= p <= one.high for one, p in zip(contained, rates, strict=True)]) <= 0.99


@pytest.mark.parametrize("pair", [(0, 5), (5, 5), (3, 3), (7, 9), (9186, 10_000)])
def test_wilson_is_scipys(pair):
    expected = binomtest(*pair).proportion_ci(method="wilson")
    assert wilson_interval(*pair) == pytest.approx((expected.low, expected.high))


def test_a_proportion_lies_in_its_interval_to_the_last_bit():
    pairs = [(hits, count) for count in range(1, 80) for hits in range(count + 1)]
    assert all(wilson_interval(*pair)[0] <= pair[0] / pair[1] <= wilson_interval(*pair)[1] for pair in pairs)
    assert {wilson_interval(count, count)[1] for count in range(80)} == {1} and {
        wilson_interval(0, n)[0] for n in range(80)
    } == {0}


def test_large_counts_agree_with_the_bootstrap():
    correct = np.arange(10_000) < 9186
    assert wilson_interval(9186, 10_000) == pytest.approx(
        percentile_intervals(bootstrap_means(correct[:, None]))[0], abs=0.0005
    )


def test_intervals_of_few_images_contain_the_truth():
    rng = np.random.default_rng(3)
    contained = [
        low <= 0.9 <= high for low, high in (wilson_interval(k, 5) for k in rng.binomial(5, 0.9, 2000).tolist())
    ]
    assert np.mean(contained) > 0.9, "of bootstrap intervals only 4 in 10: 5 of 5 correct gives a single point at 1"


def test_a_class_of_few_images_has_a_wide_interval_and_an_absent_one_the_widest():
    labels = np.repeat([0, 1], [5, 60])
    scores = evaluate_predictions(Predictions(9.0 * np.eye(3)[labels], labels), ("few", "many", "none"))
    few, many, none = scores.classes
    for name in ("precision", "recall", "f1"):
        assert getattr(few, name) == 1 and 0.5 < getattr(few, f"{name}_interval")[0] < 0.75
        assert getattr(many, f"{name}_interval")[0] > 0.9 and getattr(none, f"{name}_interval") == (0, 1)
    assert 0.9 < scores.top1_interval[0] < 1 == pytest.approx(scores.top1_interval[1])
    assert all(one.accuracy == 1 and one.accuracy_interval[0] < 0.99 for one in scores.selective.points)
    assert scores.selective.aurc == 0 and 0.02 < scores.selective.aurc_interval[1] < 0.1


def test_the_interval_of_f1_agrees_with_the_bootstrap():
    rng = np.random.default_rng(6)
    truth = rng.random(4000) < 0.3
    predicted = np.where(rng.random(4000) < 0.85, truth, ~truth)

    def f1(draws: np.ndarray) -> float:
        return 2 * (truth & predicted)[draws].sum() / (truth[draws].sum() + predicted[draws].sum())

    found = f1_interval(int((truth & predicted).sum()), int(truth.sum()), int(predicted.sum()))
    assert found == pytest.approx(percentile_intervals(bootstrap(f1, 4000))[0], abs=0.004)


def test_means_of_several_trials_are_resampled_and_single_trials_are_not():
    hits = np.array([[1, 1.0], [1, 0.5], [1, 0.75], [1, 1.0]])
    plain, mean = proportions(hits)
    assert (plain.low, plain.high) == wilson_interval(4, 4) and plain.low < 0.6
    assert (mean.low, mean.high) == percentile_intervals(bootstrap_means(hits[:, 1:]))[0]


def test_every_score_of_an_evaluation_lies_in_its_interval():
    rng = np.random.default_rng(2)
    predictions = Predictions(rng.normal(size=(600, 8)), rng.integers(0, 8, 600))
    scores = evaluate_predictions(predictions, tuple("abcdefgh"))
    pairs = [(getattr(scores, name), getattr(scores, f"{name}_interval")) for name in ("top1", "top5", "loss")]
    for one in scores.classes:
        pairs += [(getattr(one, name), getattr(one, f"{name}_interval")) for name in ("precision", "recall", "f1")]
    pairs += [(scores.selective.aurc, scores.selective.aurc_interval)]
    assert len(pairs) == 28 and all(low < value < high for value, (low, high) in pairs)
    calibration = scores.calibration
    errors = [
        (calibration.ece, calibration.ece_interval),
        (calibration.adaptive_ece, calibration.adaptive_ece_interval),
    ]
    assert all(0 < low < value < high for value, (low, high) in errors)
    spread = np.sqrt(scores.top1 * (1 - scores.top1) / 600)
    assert scores.top1_interval == pytest.approx((scores.top1 - 1.96 * spread, scores.top1 + 1.96 * spread), abs=0.006)


def test_ten_thousand_images_are_evaluated_in_a_second():
    rng = np.random.default_rng(0)
    predictions = Predictions(rng.normal(size=(10_000, 10)), rng.integers(0, 10, 10_000))
    started = time.process_time()
    evaluate_predictions(predictions, tuple("abcdefghij"))
    assert time.process_time() - started < 3, "on an idle core 0.7 s"


def test_what_follows_from_the_logits_is_computed_once():
    predictions = Predictions(9.0 * np.eye(3), np.arange(3))
    for name in ("predicted", "correct", "confidence", "losses"):
        assert getattr(predictions, name) is getattr(predictions, name)
    assert predictions.with_temperature(9.0).confidence[0] < predictions.confidence[0]
