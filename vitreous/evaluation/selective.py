"""What a model would score if it answered only where it is sure: the risk-coverage curve and its area."""

from dataclasses import dataclass

import numpy as np

from vitreous.evaluation.intervals import Interval, intervals, resampled, wilson

COVERAGES = (0.5, 0.8, 0.9, 1.0)


@dataclass(frozen=True)
class Covered:
    """What is right among the share `coverage` of the images that the model is surest of."""

    coverage: float
    accuracy: float
    accuracy_interval: Interval
    """Of what is right above the confidence that divides these images from the others, if it is kept for new ones."""


@dataclass(frozen=True)
class Selective:
    """How well confidence tells right answers from wrong ones."""

    aurc: float
    """Area under the risk-coverage curve: mean over all coverages of the share of wrong answers (Geifman and El-Yaniv
    2017, section 2; Geifman et al. 2019, equation 3). Lower is better; it lies between `aurc_best` and `aurc_random`
    unless confidence misleads."""
    aurc_interval: Interval
    """By bootstrap; where no answer is wrong, up to what it may be if confidence said nothing."""
    aurc_best: float
    """The area if every wrong answer had lower confidence than every right one."""
    aurc_random: float
    """The area if confidence said nothing: the share of wrong answers."""
    covered: tuple[Covered, ...]


def selective(confidence: np.ndarray, right: np.ndarray, seed: int = 0) -> Selective:
    """Selective prediction by `confidence`, float (images), of answers that were `right`, bool (images)."""
    order, firsts = by_confidence(confidence)
    wrong, count = ~right[order], right.size
    rank = np.argsort(order)

    def risk(draws: np.ndarray) -> np.ndarray:
        return risks(wrong_by_rank(wrong, np.bincount(rank[draws], minlength=count), firsts))

    own = risk(np.arange(count))
    ((low, high),) = intervals(resampled(lambda draws: risk(draws).mean(), count, seed))
    return Selective(
        aurc=float(own.mean()),
        aurc_interval=(low, high if wrong.any() else wilson(0, count)[1]),
        aurc_best=float(risks(np.sort(~right)).mean()),
        aurc_random=float(1 - right.mean()),
        covered=tuple(covered(own, coverage) for coverage in COVERAGES),
    )


def covered(risk: np.ndarray, coverage: float) -> Covered:
    """A point of the risk-coverage curve.

    Which images are surest is told by confidence alone; of these, the number right is binomial, or spread less.
    """
    answered = max(1, round(coverage * risk.size))
    right = float(1 - risk[answered - 1])
    return Covered(coverage, right, wilson(right * answered, answered))


def risk_coverage(confidence: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Coverage and risk when the 1, 2, ... all surest images are answered: both float64 (images).

    >>> risk_coverage(np.array([0.9, 0.6, 0.8, 0.7]), np.array([True, False, True, True]))[1]
    array([0.  , 0.  , 0.  , 0.25])
    """
    order, firsts = by_confidence(confidence)
    wrong = wrong_by_rank(~right[order], np.ones(right.size, np.int64), firsts)
    return np.arange(1, right.size + 1) / right.size, risks(wrong)


def by_confidence(confidence: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The images from the surest to the least sure, and where in that order each other confidence begins: int64."""
    order = np.argsort(-np.asarray(confidence), kind="stable")
    return order, np.flatnonzero(np.diff(confidence[order], prepend=np.inf))


def wrong_by_rank(wrong: np.ndarray, times: np.ndarray, firsts: np.ndarray) -> np.ndarray:
    """How wrong each drawn image was told (0 to 1), from the surest to the least sure: float64 (drawn images).

    Images of equal confidence, whose order is arbitrary, share the mean of theirs.

    Args:
        wrong: bool (images), from the surest to the least sure.
        times: how often each is drawn, int64 (images).
        firsts: where each other confidence begins.
    """
    drawn, faults = np.add.reduceat(times, firsts), np.add.reduceat(times * wrong, firsts)
    return np.repeat(faults / np.maximum(drawn, 1), drawn)


def risks(wrong: np.ndarray) -> np.ndarray:
    """The share of wrong answers among the first 1, 2, ... all: float64 (images)."""
    return np.cumsum(wrong) / np.arange(1, wrong.size + 1)
