"""What was measured of maps, a value an image, turned into scores, comparisons and verdicts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np

from vitreous.diagnostics.faithfulness.statistics import FEWEST_IMAGES, area, is_better, rank_correlation
from vitreous.evaluation.intervals import Estimate, bootstrap_mean

UNCHANGED = 0.5
"""Rank correlation with the map of a model of random weights, above which maps hardly depend on what was learned."""

Values = Mapping[str, np.ndarray]
"""What was measured of one method, by name; the first axis is the images."""
Direction = Literal["higher", "lower"]


@dataclass(frozen=True)
class Measure:
    """One way to judge maps."""

    direction: Direction
    title: str
    """In words, for a legend."""
    compared: bool = True
    """Whether a baseline's value is something to be better than."""


MEASURES: dict[str, Measure] = {
    "insertion": Measure("higher", "patches brought back into the blurred image, most relevant first"),
    "deletion": Measure("lower", "patches replaced by the mean color, most relevant first"),
    "road-most": Measure("lower", "patches imputed, most relevant first"),
    "road-least": Measure("higher", "patches imputed, least relevant first"),
    "sensitivity": Measure("higher", "what random sets weigh in the map, against what removing them does"),
    "randomized-head": Measure("lower", "likeness to the map of the model with a random head", compared=False),
    "randomized-all": Measure("lower", "likeness to the map of the model with random weights", compared=False),
}
"""Every measure that a table shows, in its order: four mean probabilities (areas under curves), then correlations."""


@dataclass(frozen=True)
class MethodReport:
    """How far a method's maps can be believed."""

    name: str
    baseline: bool
    """Whether it is no method, but something for methods to be better than."""
    scores: dict[str, Estimate]
    """Those of MEASURES that could be measured, and their parts: "sensitivity-N" for sets of N patches, and for signed
    maps "randomized-STAGE-absolute", of their absolute values."""
    not_better: dict[str, tuple[str, ...]]
    """By measure, the baselines that it isn't better than by more than chance: the interval of the paired difference
    holds 0. Measures with none are left out."""
    unchanged: bool
    """Whether its maps stay much the same (rank correlation above UNCHANGED) when all weights are drawn by lot."""
    curves: dict[str, tuple[float, ...]]
    """"insertion", "deletion": the means over the images at each point."""
    shares: dict[str, tuple[Estimate, ...]]
    """"road-most", "road-least": probability at each share removed; with "-same" the share of images whose target is
    still the prediction (Rong et al.'s accuracy)."""


@dataclass(frozen=True)
class Agreement:
    """How alike two methods' maps are: the mean rank correlation of their patches, with its bootstrap interval."""

    first: str
    second: str
    value: float
    low: float
    high: float
    n: int


def report(
    values: Mapping[str, Values], baselines: Sequence[str], shares: np.ndarray, *, has_classes: bool = True
) -> tuple[MethodReport, ...]:
    """A report on each method, in the order of `values`; `shares` are those of the points of the curves."""
    judged = {name: judged_values(found, shares) for name, found in values.items()}
    references = {name: judged[name] for name in baselines}
    return tuple(
        _report(name, values[name], judged[name], {} if name in references else references, has_classes)
        for name in values
    )


def judged_values(values: Values, shares: np.ndarray) -> dict[str, np.ndarray]:
    """One value an image for each measure and its parts, from what was measured of a method: each (images)."""
    parts = {name: found for name, found in values.items() if found.ndim == 1}
    sensitivities = [found for name, found in parts.items() if name.startswith("sensitivity-")]
    whole = {
        "insertion": area(shares, values["insertion"]),
        "deletion": area(shares, values["deletion"]),
        "road-most": values["road-most"].mean(1),
        "road-least": values["road-least"].mean(1),
        "sensitivity": np.mean(sensitivities, 0),
    }
    return {**whole, **parts}


def verdict(reports: Sequence[MethodReport]) -> str:
    """In words, which methods are better than every baseline, however it is judged, and change with the weights."""
    believed = [one.name for one in reports if not (one.baseline or one.not_better or one.unchanged)]
    comparisons = sum(measure.compared for measure in MEASURES.values())
    judged = max(score.n for one in reports for score in one.scores.values())
    if judged < FEWEST_IMAGES:
        return f"Of {judged} images nothing can be claimed: give at least {FEWEST_IMAGES}."
    return f"Better than both baselines in all {comparisons} comparisons: {', '.join(believed) or 'none'}."


def agreements(values: Mapping[str, Values]) -> tuple[Agreement, ...]:
    """How alike the maps of each two methods are."""
    found = []
    for first, second in combinations(values, 2):
        score = bootstrap_mean(rank_correlation(values[first]["map"], values[second]["map"]), "higher")
        found.append(Agreement(first, second, score.value, score.low, score.high, score.n))
    return tuple(found)


def direction(measure: str) -> Direction:
    """Which way is better, for a measure or a part of one."""
    if measure in MEASURES:
        return MEASURES[measure].direction
    return "higher" if measure.startswith("sensitivity-") else "lower"


def _report(
    name: str, values: Values, judged: Values, references: Mapping[str, Values], has_classes: bool
) -> MethodReport:
    worse = {
        measure: tuple(
            reference
            for reference, found in references.items()
            if not is_better(judged[measure], found[measure], MEASURES[measure].direction)
        )
        for measure in MEASURES
        if measure in judged and MEASURES[measure].compared
    }
    scores = {measure: bootstrap_mean(found, direction(measure)) for measure, found in judged.items()}
    likenesses = [scores[key].value for key in ("randomized-all", "randomized-all-absolute") if key in scores]
    shares = {
        key: tuple(bootstrap_mean(column, direction(key.removesuffix("-same"))) for column in values[key].T)
        for key in ("road-most", "road-least", "road-most-same", "road-least-same")
        if has_classes or not key.endswith("-same")
    }
    return MethodReport(
        name,
        not references,
        scores,
        {measure: baselines for measure, baselines in worse.items() if baselines},
        bool(references) and max(likenesses, default=0) > UNCHANGED,
        {key: tuple(values[key].mean(0).tolist()) for key in ("insertion", "deletion")},
        shares,
    )
