"""Calibration, temperature scaling and selective prediction: known values, scikit-learn and SciPy as references."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from sklearn.calibration import calibration_curve
from sklearn.metrics import log_loss

from vitreous.evaluation.calibration import (
    BINS,
    MIN_TEMPERATURE,
    equal_count_bins,
    fit_temperature,
    is_at_limit,
    measure_calibration,
)
from vitreous.evaluation.intervals import bootstrap, percentile_intervals
from vitreous.evaluation.report import Predictions, evaluate_predictions, fit_temperature_scaling
from vitreous.evaluation.selective import measure_selective, risk_coverage


def calibrated_predictions(count: int, classes: int, seed: int = 0, scale: float = 1.0) -> Predictions:
    """Logits whose labels are drawn from their own softmax, then made `scale`: perfectly calibrated at 1."""
    rng = np.random.default_rng(seed)
    logits = 2 * rng.normal(size=(count, classes))
    chances = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    labels = (rng.random((count, 1)) > chances.cumsum(1)).sum(1).clip(max=classes - 1)
    return Predictions(scale * logits, labels)


def test_known_calibration_errors():
    correct = np.array([True] * 6 + [False] * 4)
    assert measure_calibration(np.full(10, 0.6), correct).ece == pytest.approx(0)
    assert measure_calibration(np.full(10, 0.9), correct).ece == pytest.approx(0.3)
    halves = measure_calibration(np.repeat([0.95, 0.55], 10), np.concatenate([correct, correct]))
    assert halves.ece == pytest.approx((0.35 + 0.05) / 2)
    assert [(one.count, one.confidence) for one in halves.bins] == [
        (10, pytest.approx(0.55)),
        (10, pytest.approx(0.95)),
    ]


def test_edges_belong_to_the_lower_bin_and_the_ends_to_the_outer_bins():
    bins = measure_calibration(np.array([1 / BINS, 1.0, 0.0]), np.array([True, True, False])).bins
    assert [(one.low, one.count) for one in bins] == [(0.0, 2), (pytest.approx(14 / 15), 1)]


@pytest.mark.parametrize("scale", [0.5, 1.0, 3.0])
def test_bins_agree_with_scikit_learn(scale):
    predictions = calibrated_predictions(3000, 4, 1, scale)
    accuracy, confidence = calibration_curve(predictions.correct, predictions.confidence, n_bins=BINS)
    found = measure_calibration(predictions.confidence, predictions.correct).bins
    assert [one.accuracy for one in found] == pytest.approx(accuracy)
    assert [one.confidence for one in found] == pytest.approx(confidence)


def test_the_error_of_a_calibrated_model_is_mostly_explained_by_chance():
    results = [
        measure_calibration(one.confidence, one.correct)
        for one in (calibrated_predictions(500, 5, seed) for seed in range(60))
    ]
    below = np.mean([one.ece <= one.ece_by_chance for one in results])
    assert 0.85 <= below <= 1
    sharp = calibrated_predictions(500, 5, 0, 3.0)
    assert measure_calibration(sharp.confidence, sharp.correct).ece > 0.1


@pytest.mark.parametrize("gap", [0.0, 0.03, 0.1])
def test_95_of_100_intervals_contain_the_true_error(gap, monkeypatch):
    monkeypatch.setattr("vitreous.evaluation.intervals.RESAMPLES", 300)
    monkeypatch.setattr("vitreous.evaluation.calibration.TRIALS", 300)
    contained = []
    for seed in range(50):
        rng = np.random.default_rng(seed)
        confidence = rng.uniform(0.4, 1, 800)
        one = measure_calibration(confidence, rng.random(800) < confidence - gap)
        sure = ((one.ece, one.ece_interval), (one.adaptive_ece, one.adaptive_ece_interval))
        assert all(low <= error <= high for error, (low, high) in sure)
        contained += [low <= gap <= high for _, (low, high) in sure]
    assert np.mean(contained) >= 0.85, "percentile intervals never contain a gap of 0"


def test_adaptive_bins_hold_equally_many():
    confidence = np.random.default_rng(0).random(1500)
    assert set(np.bincount(equal_count_bins(confidence))) == {100}
    assert len(set(equal_count_bins(np.full(50, 0.3)))) == 1


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 6), st.floats(0.3, 4), st.integers(0, 10**6))
def test_the_temperature_is_optimal_and_changes_no_prediction(classes, scale, seed):
    predictions = calibrated_predictions(200, classes, seed, scale)
    value = fit_temperature(predictions.logits, predictions.labels)
    best = minimize_scalar(
        lambda t: predictions.with_temperature(np.exp(t)).losses.mean(),
        bounds=(np.log(0.05), np.log(20)),
        method="bounded",
    )
    assert predictions.with_temperature(value).losses.mean() <= best.fun + 1e-6
    assert predictions.with_temperature(value).losses.mean() <= predictions.losses.mean() + 1e-12
    assert np.array_equal(predictions.with_temperature(value).predicted, predictions.predicted)


@pytest.mark.parametrize("scale", [0.5, 2.0])
def test_the_temperature_undoes_a_scaling_of_the_logits(scale):
    scaling = fit_temperature_scaling(
        calibrated_predictions(20_000, 5, 1, scale), calibrated_predictions(5000, 5, 2, scale)
    )
    assert scaling.temperature == pytest.approx(scale, rel=0.05) and scaling.num_validation_images == 20_000
    assert scaling.ece_after < 0.3 * scaling.ece_before and scaling.loss_after < scaling.loss_before
    assert scaling.calibration.ece == scaling.ece_after
    assert scaling.ece_after_interval == scaling.calibration.ece_interval
    for name in ("loss_before", "loss_after", "ece_before", "ece_after"):
        low, high = getattr(scaling, f"{name}_interval")
        assert low <= getattr(scaling, name) <= high and low < high
    assert scaling.ece_before_interval[0] > scaling.ece_after_interval[1]


def test_a_temperature_without_an_optimum_is_at_the_limit():
    logits = np.eye(3)
    assert fit_temperature(logits, np.arange(3)) == pytest.approx(MIN_TEMPERATURE, rel=1e-6)
    assert is_at_limit(fit_temperature(logits, np.arange(3))) and is_at_limit(
        fit_temperature(logits, np.arange(3)[::-1])
    )
    assert not is_at_limit(1.3)


def test_the_area_under_risk_and_coverage():
    confidence, correct = np.array([0.9, 0.8, 0.7, 0.6]), np.array([True, True, True, False])
    one = measure_selective(confidence, correct)
    assert one.aurc == one.aurc_optimal == pytest.approx(0.25 / 4) and one.aurc_random == 0.25
    reversed_ = measure_selective(1 - confidence, correct)
    assert reversed_.aurc == pytest.approx((1 + 1 / 2 + 1 / 3 + 1 / 4) / 4) and reversed_.aurc > reversed_.aurc_random
    assert [point.accuracy for point in one.points] == pytest.approx([1, 1, 0.75, 0.75])


def test_equal_confidence_is_a_random_ranking():
    correct = np.random.default_rng(0).random(40) < 0.6
    coverage, risk = risk_coverage(np.full(40, 0.5), correct)
    assert risk == pytest.approx(np.full(40, 1 - correct.mean())) and coverage[-1] == 1
    assert measure_selective(np.full(40, 0.5), correct).aurc == pytest.approx(1 - correct.mean())


def test_half_of_equally_confident_images_has_the_interval_of_half_as_many():
    correct = np.random.default_rng(0).random(400) < 0.7
    half = measure_selective(np.full(400, 0.5), correct).points[0].accuracy_interval
    spread = 1.96 * np.sqrt(correct.mean() * (1 - correct.mean()) / 200)
    assert half == pytest.approx((correct.mean() - spread, correct.mean() + spread), abs=0.012)


def test_ties_are_averaged_within_each_resample(monkeypatch):
    monkeypatch.setattr("vitreous.evaluation.intervals.RESAMPLES", 200)
    rng = np.random.default_rng(1)
    confidence, correct = rng.integers(0, 6, 60) / 6, rng.random(60) < 0.6

    def area(draws: np.ndarray) -> float:
        wrong = []
        for level in sorted(set(confidence[draws]), reverse=True):
            group = correct[draws][confidence[draws] == level]
            wrong += [1 - group.mean()] * len(group)
        return sum(sum(wrong[:end]) / end for end in range(1, 61)) / 60

    drawn = bootstrap(area, 60)
    found = measure_selective(confidence, correct)
    assert found.aurc == pytest.approx(area(np.arange(60)))
    assert found.aurc_interval == pytest.approx(percentile_intervals(drawn)[0])


def test_confidence_and_losses_are_softmax_and_cross_entropy():
    predictions = calibrated_predictions(50, 4)
    chances = np.exp(predictions.logits) / np.exp(predictions.logits).sum(1, keepdims=True)
    assert predictions.confidence == pytest.approx(chances.max(1))
    assert predictions.losses.mean() == pytest.approx(log_loss(predictions.labels, chances, labels=range(4)))


def test_without_errors_every_error_is_zero():
    all_correct = Predictions(20 * np.eye(3)[[0, 1, 2, 0]], np.array([0, 1, 2, 0]))
    scores = evaluate_predictions(all_correct, ("a", "b", "c"))
    assert scores.top1 == 1 and scores.top1_interval[0] < 0.6 and scores.selective.aurc == 0
    assert scores.calibration.ece == pytest.approx(0, abs=1e-6)
