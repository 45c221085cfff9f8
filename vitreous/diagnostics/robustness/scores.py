"""Accuracies on transformed images, from whether each image is classified correctly under each transform."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from vitreous.evaluation.intervals import Estimate, proportions


@dataclass(frozen=True)
class CorruptionScore:
    """Accuracy under one corruption.

    Attributes:
        by_severity: From severity 1.
        mean: Over all severities.
    """

    corruption: str
    by_severity: tuple[Estimate, ...]
    mean: Estimate


@dataclass(frozen=True)
class CorruptionScores:
    """Accuracy under corruptions; every corruption and severity has the same weight.

    Attributes:
        clean: Accuracy on the uncorrupted images.
        mean: Mean accuracy over all corruptions and severities.
    """

    clean: Estimate
    mean: Estimate
    by_corruption: tuple[CorruptionScore, ...]

    @property
    def mean_corruption_error(self) -> float:
        """Unnormalized mean corruption error: 1 − `mean` (Hendrycks and Dietterich 2019, section 4.2, without dividing
        by the errors of AlexNet)."""
        return 1 - self.mean.value

    def __str__(self) -> str:
        """Format a table of accuracies in per cent."""
        lines = [f"{'clean':<18} {100 * self.clean.value:5.1f}"]
        for one in self.by_corruption:
            values = " ".join(f"{100 * score.value:5.1f}" for score in (*one.by_severity, one.mean))
            lines.append(f"{one.corruption:<18} {values}")
        return "\n".join([*lines, f"{'mean':<18} {100 * self.mean.value:5.1f}"])


@dataclass(frozen=True)
class TransformScore:
    """Accuracy under a transform of this amount."""

    amount: float
    accuracy: Estimate


@dataclass(frozen=True)
class ShiftScores:
    """Accuracy on translated and on rotated images.

    Attributes:
        shifts: By distance in pixels, mean over four directions.
        rotations: By angle in degrees, counter-clockwise above 0.
    """

    shifts: tuple[TransformScore, ...]
    rotations: tuple[TransformScore, ...]

    def __str__(self) -> str:
        """Format two lines of accuracies in per cent."""
        rows = (("shift, pixels", self.shifts), ("rotation, degrees", self.rotations))
        return "\n".join(
            f"{title}: {', '.join(f'{one.amount:g}: {100 * one.accuracy.value:.1f}' for one in scores)}"
            for title, scores in rows
        )


def corruption_scores(clean: np.ndarray, correct: Mapping[str, np.ndarray]) -> CorruptionScores:
    """Compute accuracies with intervals over the images; all corrupted copies of an image are resampled together.

    Args:
        clean: whether each uncorrupted image is classified correctly, bool (images).
        correct: the same for corrupted images, bool (severities, images) per corruption. These may be other images.
    """
    means = np.stack([one.mean(0) for one in correct.values()])
    columns = np.concatenate([means.mean(0, keepdims=True), means, *correct.values()])
    mean, *rest = proportions(columns.T)
    by_corruption, severities = rest[: len(means)], iter(rest[len(means) :])
    scores = [
        CorruptionScore(name, tuple(islice(severities, len(one))), average)
        for (name, one), average in zip(correct.items(), by_corruption, strict=True)
    ]
    return CorruptionScores(proportions(clean[:, None])[0], mean, tuple(scores))


def transform_scores(amounts: Sequence[float], hits: np.ndarray) -> tuple[TransformScore, ...]:
    """Compute the accuracy at each amount from hits (images, amounts), 0 to 1."""
    return tuple(TransformScore(*pair) for pair in zip(amounts, proportions(hits), strict=True))
