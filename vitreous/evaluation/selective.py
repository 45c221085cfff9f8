"""What a model would score if it answered only where it is sure: the risk-coverage curve and its area."""

from dataclasses import dataclass

import numpy as np

from vitreous.evaluation.bootstrap import Interval, intervals, resampled

COVERAGES = (0.5, 0.8, 0.9, 1.0)


@dataclass(frozen=True)
class Covered:
    """What is right among the share `coverage` of the pictures that the model is surest of."""

    coverage: float
    accuracy: float
    accuracy_interval: Interval


@dataclass(frozen=True)
class Selective:
    """How well confidence tells right answers from wrong ones."""

    aurc: float
    """Area under the risk-coverage curve: mean over all coverages of the share of wrong answers (Geifman and El-Yaniv
    2017, section 2; Geifman et al. 2019, equation 3). Lower is better; it lies between `aurc_best` and `aurc_random`
    unless confidence misleads."""
    aurc_interval: Interval
    aurc_best: float
    """The area if every wrong answer had lower confidence than every right one."""
    aurc_random: float
    """The area if confidence said nothing: the share of wrong answers."""
    covered: tuple[Covered, ...]


def selective(confidence: np.ndarray, right: np.ndarray, seed: int = 0) -> Selective:
    """Selective prediction by `confidence`, float (pictures), of answers that were `right`, bool (pictures)."""
    wrong, rank, count = wrong_by_rank(confidence, right), ranks(confidence), right.size
    places = [max(1, round(coverage * count)) - 1 for coverage in COVERAGES]

    def statistic(wrong: np.ndarray) -> np.ndarray:
        risk = risks(wrong)
        return np.array([risk.mean(), *(1 - risk[places])])

    own = statistic(wrong).tolist()
    drawn = resampled(lambda draws: statistic(np.repeat(wrong, np.bincount(rank[draws], minlength=count))), count, seed)
    sure = intervals(drawn)
    return Selective(
        aurc=own[0],
        aurc_interval=sure[0],
        aurc_best=float(risks(np.sort(~right)).mean()),
        aurc_random=float(1 - right.mean()),
        covered=tuple(Covered(*row) for row in zip(COVERAGES, own[1:], sure[1:], strict=True)),
    )


def risk_coverage(confidence: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Coverage and risk when the 1, 2, ... all surest pictures are answered: both float64 (pictures).

    >>> risk_coverage(np.array([0.9, 0.6, 0.8, 0.7]), np.array([True, False, True, True]))[1]
    array([0.  , 0.  , 0.  , 0.25])
    """
    return np.arange(1, right.size + 1) / right.size, risks(wrong_by_rank(confidence, right))


def ranks(confidence: np.ndarray) -> np.ndarray:
    """The place of each picture, from the surest (0) to the least sure: int64 (pictures)."""
    rank = np.empty(confidence.size, np.int64)
    rank[np.argsort(-confidence, kind="stable")] = np.arange(confidence.size)
    return rank


def wrong_by_rank(confidence: np.ndarray, right: np.ndarray) -> np.ndarray:
    """How wrong each picture was told (0 or 1), from the surest to the least sure: float64 (pictures).

    Pictures of equal confidence, whose order is arbitrary, share the mean of theirs.
    """
    _, group = np.unique(-np.asarray(confidence), return_inverse=True)
    shared = np.bincount(group, ~right) / np.bincount(group)
    return np.repeat(shared, np.bincount(group))


def risks(wrong: np.ndarray) -> np.ndarray:
    """The share of wrong answers among the first 1, 2, ... all: float64 (pictures)."""
    return np.cumsum(wrong) / np.arange(1, wrong.size + 1)
