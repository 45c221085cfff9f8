"""How a model holds out on changed images: which images it tells right under each change, to accuracies."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from vitreous.evaluation.intervals import Estimate, proportions


@dataclass(frozen=True)
class CorruptionScore:
    """Accuracy under one kind of corruption."""

    kind: str
    strengths: tuple[Estimate, ...]
    """At each strength, from the weakest."""
    mean: Estimate
    """Over all strengths."""


@dataclass(frozen=True)
class CorruptionScores:
    """Accuracy under corruption; every kind and strength counts alike."""

    clean: Estimate
    """On the same images as they are."""
    mean: Estimate
    """Mean corruption accuracy. 1 minus it is the mean corruption error (Hendrycks and Dietterich 2019, section 4.2),
    not divided by AlexNet's."""
    kinds: tuple[CorruptionScore, ...]


@dataclass(frozen=True)
class ChangePoint:
    """Accuracy when images are changed by `amount`."""

    amount: float
    accuracy: Estimate


@dataclass(frozen=True)
class ShiftScores:
    """Accuracy on images moved and turned."""

    shifts: tuple[ChangePoint, ...]
    """Over pixels, the mean of the four directions."""
    rotations: tuple[ChangePoint, ...]
    """Over degrees, counter-clockwise above 0."""


def corruption_scores(clean: np.ndarray, rights: Mapping[str, np.ndarray]) -> CorruptionScores:
    """Accuracies from which images were told right: bool (images) as they are, (strengths, images) a kind.

    The intervals are over images: all changed copies of one are drawn together.
    """
    kinds = np.stack([right.mean(0) for right in rights.values()])
    hits = np.concatenate([clean[None], kinds.mean(0, keepdims=True), kinds, *rights.values()])
    own, mean, *several = proportions(hits.T)
    means, strengths = several[: len(kinds)], iter(several[len(kinds) :])
    scores = [
        CorruptionScore(kind, tuple(islice(strengths, len(right))), each)
        for (kind, right), each in zip(rights.items(), means, strict=True)
    ]
    return CorruptionScores(own, mean, tuple(scores))


def change_points(amounts: Sequence[float], hits: np.ndarray) -> tuple[ChangePoint, ...]:
    """Accuracy at each amount from hits (images, amounts), 0 to 1."""
    return tuple(ChangePoint(*pair) for pair in zip(amounts, proportions(hits), strict=True))
