"""Predictions for a set of images, and the full report on them: metrics with intervals, calibration, selectivity."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from vitreous.evaluation.calibration import Calibration, fit_temperature, measure_calibration
from vitreous.evaluation.classification import ClassificationMetrics, ClassMetrics, compute_metrics
from vitreous.evaluation.intervals import Interval, bootstrap_means, f1_interval, percentile_intervals, wilson_interval
from vitreous.evaluation.selective import SelectivePrediction, measure_selective


@dataclass(frozen=True)
class ClassReport(ClassMetrics):
    """Metrics of one class with their 95 % confidence intervals."""

    precision_interval: Interval
    recall_interval: Interval
    f1_interval: Interval


@dataclass(frozen=True)
class TemperatureScaling:
    """The effect of dividing the logits by a temperature on loss and calibration of the test images.

    Attributes:
        temperature: Fitted on validation images; above 1 if the model was overconfident.
        ece_before: Expected calibration error.
        calibration: Calibration after scaling.
    """

    temperature: float
    num_validation_images: int
    loss_before: float
    loss_before_interval: Interval
    loss_after: float
    loss_after_interval: Interval
    ece_before: float
    ece_before_interval: Interval
    ece_after: float
    ece_after_interval: Interval
    calibration: Calibration


@dataclass(frozen=True)
class ClassificationReport(ClassificationMetrics):
    """Metrics with 95 % confidence intervals, calibration and selective prediction.

    Intervals of proportions are Wilson intervals, the others are bootstrap intervals over the images.
    """

    classes: tuple[ClassReport, ...]
    top1_interval: Interval
    top5_interval: Interval | None
    loss_interval: Interval
    calibration: Calibration
    selective: SelectivePrediction
    temperature: TemperatureScaling | None = None

    def __str__(self) -> str:
        """Format the main metrics, one per line."""
        rows = [("top-1", self.top1, self.top1_interval)]
        if self.top5 is not None and self.top5_interval is not None:
            rows.append(("top-5", self.top5, self.top5_interval))
        rows += [("loss", self.loss, self.loss_interval), ("ECE", self.calibration.ece, self.calibration.ece_interval)]
        lines = [f"{name:<6} {value:.4f}  ({low:.4f} to {high:.4f})" for name, value, (low, high) in rows]
        return "\n".join([f"{self.count:,} images, 95 % confidence intervals", *lines])


@dataclass(frozen=True)
class Predictions:
    """Logits and true labels of a set of images, as numpy arrays."""

    logits: np.ndarray
    """float64 (images, classes)."""
    labels: np.ndarray
    """int64 (images)."""

    @cached_property
    def predicted(self) -> np.ndarray:
        """Index of the predicted class: int64 (images)."""
        return self.logits.argmax(1)

    @cached_property
    def correct(self) -> np.ndarray:
        """Whether the predicted class is the true one: bool (images)."""
        return self.predicted == self.labels

    @cached_property
    def confidence(self) -> np.ndarray:
        """Probability of the predicted class: float64 (images)."""
        return 1 / np.exp(self.logits - self.logits.max(1, keepdims=True)).sum(1)

    @cached_property
    def losses(self) -> np.ndarray:
        """Cross-entropy in nats: float64 (images)."""
        logits, labels = torch.from_numpy(self.logits), torch.from_numpy(self.labels)
        return functional.cross_entropy(logits, labels, reduction="none").numpy()

    def with_temperature(self, temperature: float) -> "Predictions":
        """Divide the logits by a temperature."""
        return Predictions(self.logits / temperature, self.labels)


def to_predictions(logits: Tensor, labels: Tensor) -> Predictions:
    """Convert logits (images, classes) and labels (images) from any device."""
    return Predictions(logits.detach().double().cpu().numpy(), labels.cpu().numpy())


def evaluate_predictions(predictions: Predictions, class_names: tuple[str, ...], seed: int = 0) -> ClassificationReport:
    """Compute the report on predictions; `seed` is that of the bootstrap."""
    logits, labels = torch.from_numpy(predictions.logits), torch.from_numpy(predictions.labels)
    plain = compute_metrics(logits, labels, class_names)
    (loss_interval,) = percentile_intervals(bootstrap_means(predictions.losses[:, None], seed))
    top5_interval = None if plain.top5 is None else wilson_interval(plain.top5 * plain.count, plain.count)
    return ClassificationReport(
        plain.top1,
        plain.top5,
        plain.loss,
        plain.count,
        class_reports(plain),
        plain.confusion,
        top1_interval=wilson_interval(plain.top1 * plain.count, plain.count),
        top5_interval=top5_interval,
        loss_interval=loss_interval,
        calibration=measure_calibration(predictions.confidence, predictions.correct, seed),
        selective=measure_selective(predictions.confidence, predictions.correct, seed),
    )


def class_reports(metrics: ClassificationMetrics) -> tuple[ClassReport, ...]:
    """Add intervals to the metrics of each class; (0, 1) where no image says anything about the class."""
    confusion = np.array(metrics.confusion)
    counts = zip(confusion.diagonal().tolist(), confusion.sum(1).tolist(), confusion.sum(0).tolist(), strict=True)
    return tuple(
        ClassReport(
            **vars(one),
            precision_interval=wilson_interval(correct, predicted),
            recall_interval=wilson_interval(correct, truths),
            f1_interval=f1_interval(correct, truths, predicted),
        )
        for one, (correct, truths, predicted) in zip(metrics.classes, counts, strict=True)
    )


def fit_temperature_scaling(validation: Predictions, test: Predictions, seed: int = 0) -> TemperatureScaling:
    """Fit a temperature on validation images and measure its effect on the test images.

    The intervals cover the sampling of the test images, for the temperature as fitted.
    """
    temperature = fit_temperature(validation.logits, validation.labels)
    scaled = test.with_temperature(temperature)
    before, after = (measure_calibration(one.confidence, one.correct, seed) for one in (test, scaled))
    losses = np.stack([test.losses, scaled.losses], 1)
    loss_intervals = percentile_intervals(bootstrap_means(losses, seed))
    return TemperatureScaling(
        temperature,
        len(validation.labels),
        loss_before=float(losses[:, 0].mean()),
        loss_before_interval=loss_intervals[0],
        loss_after=float(losses[:, 1].mean()),
        loss_after_interval=loss_intervals[1],
        ece_before=before.ece,
        ece_before_interval=before.ece_interval,
        ece_after=after.ece,
        ece_after_interval=after.ece_interval,
        calibration=after,
    )
