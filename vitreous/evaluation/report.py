"""The scores of a set of images with all that says how far they can be believed."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from vitreous.evaluation.calibration import Calibration, calibration, fit_temperature
from vitreous.evaluation.classification import ClassScore, Scores, score
from vitreous.evaluation.intervals import Interval, f1_interval, intervals, resampled_means, wilson
from vitreous.evaluation.selective import Selective, selective


@dataclass(frozen=True)
class ClassEstimate(ClassScore):
    """How well one class was told, and how sure that is."""

    precision_interval: Interval
    recall_interval: Interval
    f1_interval: Interval


@dataclass(frozen=True)
class TemperatureScaling:
    """What dividing the logits by one number, fitted on other images, does to loss and calibration."""

    value: float
    """The temperature; above 1 the model was too sure of itself."""
    fitted_on: int
    """Validation images that it was fitted on."""
    loss_before: float
    loss_before_interval: Interval
    loss_after: float
    loss_after_interval: Interval
    error_before: float
    """Expected calibration error."""
    error_before_interval: Interval
    error_after: float
    error_after_interval: Interval
    calibration: Calibration
    """Calibration with the temperature."""


@dataclass(frozen=True)
class Evaluation(Scores):
    """Scores with their intervals at 95 %, and how far its confidence holds.

    Those of shares are Wilson's (`share.wilson`), the others are by bootstrap over images.
    """

    classes: tuple[ClassEstimate, ...]
    top1_interval: Interval
    top5_interval: Interval | None
    loss_interval: Interval
    calibration: Calibration
    selective: Selective
    temperature: TemperatureScaling | None = None


@dataclass(frozen=True)
class Answers:
    """What a model said of each image, beside the truth, as numpy arrays."""

    logits: np.ndarray
    """float64 (images, classes)."""
    labels: np.ndarray
    """int64 (images)."""

    @property
    def predictions(self) -> np.ndarray:
        """The class each image was taken for: int64 (images)."""
        return self.logits.argmax(1)

    @property
    def right(self) -> np.ndarray:
        """Whether each image was told right: bool (images)."""
        return self.predictions == self.labels

    @property
    def confidence(self) -> np.ndarray:
        """The probability of the class it was taken for: float64 (images)."""
        return 1 / np.exp(self.logits - self.logits.max(1, keepdims=True)).sum(1)

    @property
    def losses(self) -> np.ndarray:
        """Cross-entropy of each image in nats: float64 (images)."""
        logits, labels = torch.from_numpy(self.logits), torch.from_numpy(self.labels)
        return functional.cross_entropy(logits, labels, reduction="none").numpy()

    def at(self, temperature: float) -> "Answers":
        """The same answers with the logits divided by a temperature."""
        return Answers(self.logits / temperature, self.labels)


def answers(logits: Tensor, labels: Tensor) -> Answers:
    """Logits (images, classes) and labels (images) on any device as `Answers`."""
    return Answers(logits.detach().double().cpu().numpy(), labels.cpu().numpy())


def judge(given: Answers, class_names: tuple[str, ...], seed: int = 0) -> Evaluation:
    """All scores of what a model said, with intervals."""
    plain = score(torch.from_numpy(given.logits), torch.from_numpy(given.labels), class_names)
    (loss_interval,) = intervals(resampled_means(given.losses[:, None], seed))
    return Evaluation(
        plain.top1,
        plain.top5,
        plain.loss,
        plain.count,
        class_estimates(plain),
        plain.confusion,
        top1_interval=wilson(plain.top1 * plain.count, plain.count),
        top5_interval=None if plain.top5 is None else wilson(plain.top5 * plain.count, plain.count),
        loss_interval=loss_interval,
        calibration=calibration(given.confidence, given.right, seed),
        selective=selective(given.confidence, given.right, seed),
    )


def class_estimates(scores: Scores) -> tuple[ClassEstimate, ...]:
    """The scores of each class with their intervals; all of 0 to 1 for what no image tells of."""
    confusion = np.array(scores.confusion)
    counts = zip(confusion.diagonal().tolist(), confusion.sum(1).tolist(), confusion.sum(0).tolist(), strict=True)
    return tuple(
        ClassEstimate(
            **vars(one),
            precision_interval=wilson(right, predicted),
            recall_interval=wilson(right, truths),
            f1_interval=f1_interval(right, truths, predicted),
        )
        for one, (right, truths, predicted) in zip(scores.classes, counts, strict=True)
    )


def temperature_scaling(validation: Answers, test: Answers, seed: int = 0) -> TemperatureScaling:
    """Fit a temperature on the answers for validation images, and say what it does on the test images.

    The intervals are over the test images, for the temperature as it was fitted.
    """
    value = fit_temperature(validation.logits, validation.labels)
    scaled = test.at(value)
    before, after = (calibration(one.confidence, one.right, seed) for one in (test, scaled))
    losses = np.stack([test.losses, scaled.losses], 1)
    sure = intervals(resampled_means(losses, seed))
    return TemperatureScaling(
        value,
        len(validation.labels),
        loss_before=float(losses[:, 0].mean()),
        loss_before_interval=sure[0],
        loss_after=float(losses[:, 1].mean()),
        loss_after_interval=sure[1],
        error_before=before.error,
        error_before_interval=before.error_interval,
        error_after=after.error,
        error_after_interval=after.error_interval,
        calibration=after,
    )
