"""Reports on methods: the values measured per image, turned into scores, comparisons with baselines and agreement."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np

from vitreous.diagnostics.faithfulness.statistics import MIN_IMAGES, area_under_curve, is_better, rank_correlation
from vitreous.evaluation.intervals import Estimate, bootstrap_mean

MAX_RANDOMIZED_CORRELATION = 0.5
"""Maps whose rank correlation with those of a randomized model is higher hardly depend on the weights."""

Values = Mapping[str, np.ndarray]
"""What was measured of one method, by name; the first axis is the images."""
Direction = Literal["higher", "lower"]


@dataclass(frozen=True)
class Metric:
    """One metric of maps."""

    direction: Direction
    """Which direction is better."""
    title: str
    is_compared: bool = True
    """Whether methods are compared with baselines by it."""


METRICS: dict[str, Metric] = {
    "insertion": Metric("higher", "patches inserted into the blurred image, most relevant first"),
    "deletion": Metric("lower", "patches replaced by the mean color, most relevant first"),
    "road_most": Metric("lower", "patches imputed, most relevant first"),
    "road_least": Metric("higher", "patches imputed, least relevant first"),
    "sensitivity": Metric("higher", "correlation of a map's sum over random sets with the effect of removing them"),
    "randomized_head": Metric("lower", "correlation with the map of the model with a random head", is_compared=False),
    "randomized_all": Metric("lower", "correlation with the map of the model with random weights", is_compared=False),
}
"""The metrics of the table, in its order: four mean probabilities (areas under curves), then correlations."""


@dataclass(frozen=True)
class MethodReport:
    """The faithfulness of one method's maps.

    Attributes:
        baseline: Whether it is a baseline, which doesn't depend on the model.
        scores: The `METRICS` that could be measured, and their parts: "sensitivity_N" for sets of N patches, and for
            signed maps "randomized_STAGE_absolute", of the absolute values.
        not_better_than: By metric, the baselines that the method is not significantly better than; metrics without
            any are left out.
        is_insensitive: Whether the maps stay similar (rank correlation above MAX_RANDOMIZED_CORRELATION) with random
            weights.
        curves: "insertion" and "deletion": the mean over the images at each point.
        road: "road_most" and "road_least": the probability at each fraction removed; with "_same", the fraction of
            images whose target is still predicted (the accuracy of Rong et al.).
    """

    name: str
    baseline: bool
    scores: dict[str, Estimate]
    not_better_than: dict[str, tuple[str, ...]]
    is_insensitive: bool
    curves: dict[str, tuple[float, ...]]
    road: dict[str, tuple[Estimate, ...]]


@dataclass(frozen=True)
class Agreement:
    """The mean rank correlation of two methods' maps, with its bootstrap interval."""

    first: str
    second: str
    value: float
    low: float
    high: float
    n: int


def build_reports(
    values: Mapping[str, Values], baselines: Sequence[str], fractions: np.ndarray, *, has_classes: bool = True
) -> tuple[MethodReport, ...]:
    """Build a report on each method, in the order of `values`; `fractions` are those of the points of the curves."""
    scored = {name: values_per_image(found, fractions) for name, found in values.items()}
    references = {name: scored[name] for name in baselines}
    return tuple(
        _build_report(name, values[name], scored[name], {} if name in references else references, has_classes)
        for name in values
    )


def values_per_image(values: Values, fractions: np.ndarray) -> dict[str, np.ndarray]:
    """Reduce the values of a method to one per image for each metric and its parts: each (images)."""
    parts = {name: found for name, found in values.items() if found.ndim == 1}
    sensitivities = [found for name, found in parts.items() if name.startswith("sensitivity_")]
    reduced = {
        "insertion": area_under_curve(fractions, values["insertion"]),
        "deletion": area_under_curve(fractions, values["deletion"]),
        "road_most": values["road_most"].mean(1),
        "road_least": values["road_least"].mean(1),
        "sensitivity": np.mean(sensitivities, 0),
    }
    return {**reduced, **parts}


def summarize_reports(reports: Sequence[MethodReport]) -> str:
    """Name the methods that are better than every baseline by every metric, and whose maps depend on the weights."""
    faithful = [one.name for one in reports if not (one.baseline or one.not_better_than or one.is_insensitive)]
    comparisons = sum(metric.is_compared for metric in METRICS.values())
    images = max(score.n for one in reports for score in one.scores.values())
    if images < MIN_IMAGES:
        return f"Too few images, {images}, to compare methods with the baselines: give at least {MIN_IMAGES}."
    return f"Better than both baselines in all {comparisons} comparisons: {', '.join(faithful) or 'none'}."


def method_agreements(values: Mapping[str, Values]) -> tuple[Agreement, ...]:
    """Compute the agreement of every two methods."""
    found = []
    for first, second in combinations(values, 2):
        score = bootstrap_mean(rank_correlation(values[first]["map"], values[second]["map"]), "higher")
        found.append(Agreement(first, second, score.value, score.low, score.high, score.n))
    return tuple(found)


def direction_of(name: str) -> Direction:
    """Return which direction is better for a metric or a part of one."""
    if name in METRICS:
        return METRICS[name].direction
    return "higher" if name.startswith("sensitivity_") else "lower"


def _build_report(
    name: str, values: Values, scored: Values, references: Mapping[str, Values], has_classes: bool
) -> MethodReport:
    not_better = {
        metric: tuple(
            reference
            for reference, found in references.items()
            if not is_better(scored[metric], found[metric], METRICS[metric].direction)
        )
        for metric in METRICS
        if metric in scored and METRICS[metric].is_compared
    }
    scores = {metric: bootstrap_mean(found, direction_of(metric)) for metric, found in scored.items()}
    randomized = [scores[key].value for key in ("randomized_all", "randomized_all_absolute") if key in scores]
    road = {
        key: tuple(bootstrap_mean(column, direction_of(key.removesuffix("_same"))) for column in values[key].T)
        for key in ("road_most", "road_least", "road_most_same", "road_least_same")
        if has_classes or not key.endswith("_same")
    }
    return MethodReport(
        name=name,
        baseline=not references,
        scores=scores,
        not_better_than={metric: baselines for metric, baselines in not_better.items() if baselines},
        is_insensitive=bool(references) and max(randomized, default=0) > MAX_RANDOMIZED_CORRELATION,
        curves={key: tuple(values[key].mean(0).tolist()) for key in ("insertion", "deletion")},
        road=road,
    )
