"""The measuring itself: every method that is still missing, on all images, with a word on how long it will take."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from vitreous.data.image_set import ImageSet
from vitreous.diagnostics.faithfulness.metrics import judge, removal, score_changes
from vitreous.diagnostics.faithfulness.perturbed_predictor import Subject, subject
from vitreous.diagnostics.faithfulness.randomization import STAGES, randomized
from vitreous.diagnostics.faithfulness.values_file import ValuesFile
from vitreous.errors import InputError, unknown
from vitreous.explanation.patch_maps import BASELINES
from vitreous.explanation.registry import METHODS
from vitreous.model.classifier import ImageClassifier

AT_ONCE = 16
"""Images explained at once: always so many, since a method's random draws may hang on it."""
FEWEST_PATCHES = 4
SETS = "sets of patches"
SETS_OVER_REMOVAL = 5
"""How many times longer sensitivity's sets take than the curves of one map: 300 variants of an image, not 54."""


@dataclass(frozen=True)
class FaithfulnessRequest:
    """What is to be measured."""

    methods: tuple[str, ...] | None = None
    """Names in METHODS; None for all."""
    count: int | None = None
    """Images, drawn from the data by lot; None for the usual number, or all if there are fewer."""
    target: Literal["predicted", "true"] = "predicted"
    """The class whose probability is followed."""
    split: str = "test"
    seed: int = 0

    def __post_init__(self) -> None:
        for name in self.methods or ():
            if name not in METHODS:
                raise unknown("method", name, METHODS)
        if self.methods is not None and not self.methods:
            raise InputError("no method is named: leave out --methods for all of them")
        if self.count is not None and self.count < 1:
            raise InputError(f"count is {self.count}: give at least 1 image")
        if self.target not in ("predicted", "true"):
            raise unknown("target", self.target, ("predicted", "true"))


@dataclass(frozen=True)
class FaithfulnessListener:
    """Whom a measurement tells what it does; by default nobody."""

    expect: Callable[[int, int, float], None] = lambda methods, images, seconds: None
    """Before the work: how many methods on how many images, and about how long it will take."""
    progress: Callable[[float, str, float], None] = lambda share_done, step, seconds_left: None


@dataclass
class Measurement:
    """A measurement under way."""

    classifier: ImageClassifier
    images: ImageSet
    numbers: Sequence[int]
    """Each image's number in the data."""
    request: FaithfulnessRequest
    file: ValuesFile
    listener: FaithfulnessListener
    skipped: dict[str, str] = field(default_factory=dict)
    """Methods that can't explain this model, with the reason."""

    def wanted(self) -> list[str]:
        """The baselines and the methods asked for, in the order of the table."""
        return [*BASELINES, *(name for name in METHODS if self.request.methods is None or name in self.request.methods)]

    def missing(self) -> list[str]:
        """Those of them that are still to be measured."""
        return [name for name in self.wanted() if name not in self.file.methods and name not in self.skipped]

    def subjects(self, at_once: int = AT_ONCE) -> Iterator[Subject]:
        """The images under examination, so many at once."""
        images = self.images.images_u8.expand(-1, 3, -1, -1).permute(0, 2, 3, 1).cpu().numpy()
        labels = self.images.labels.tolist() if self.request.target == "true" else None
        for start in range(0, len(images), at_once):
            part = slice(start, start + at_once)
            chosen = None if labels is None else labels[part]
            yield subject(self.classifier, list(images[part]), self.numbers[part], chosen, self.request.seed)


def measure(work: Measurement) -> None:
    """Measure what is missing, the fastest method first, and keep each one's values as soon as it is done.

    Raises:
        InputError: the model has too few patches, or none of the methods can explain it.
    """
    if not work.missing():
        return
    model, classes = work.classifier.model, len(work.classifier.class_names)
    drawn = {stage: randomized(model, stage, classes, work.request.seed) for stage in STAGES}
    copies = {stage: copy for stage, copy in drawn.items() if copy is not None}
    costs = trial(work, 1 + len(copies))
    if not any(name in costs or name in work.file.methods for name in work.wanted() if name in METHODS):
        reasons = "; ".join(f"{name}: {reason}" for name, reason in work.skipped.items())
        raise InputError(f"none of the methods asked for can explain this model ({reasons}): choose other --methods")
    if not work.missing():
        return
    clock = Clock(costs, len(work.images), work.listener)
    changes = []
    for asked in work.subjects():
        changes.append(score_changes(asked))
        clock.tick(SETS, len(asked.numbers))
    for method in sorted(work.missing(), key=lambda name: costs[name]):
        try:
            parts = []
            for asked, change in zip(work.subjects(), changes, strict=True):
                parts.append(judge(asked, method, copies, change))
                clock.tick(method, len(asked.numbers))
        except InputError as error:
            work.skipped[method] = str(error)
        else:
            work.file.add(method, {name: np.concatenate([part[name] for part in parts]) for name in parts[0]})


def trial(work: Measurement, models: int) -> dict[str, float]:
    """About how many seconds each method takes for an image; one that can't explain the model is noted as skipped.

    Args:
        models: how many models each image's map is made of: the model itself and its randomized copies.
    """
    first = next(work.subjects(at_once=1))
    patches = first.asked.grid_hw[0] * first.asked.grid_hw[1]
    if patches < FEWEST_PATCHES:
        raise InputError(f"this model sees {patches} patches, too few to rank: at least {FEWEST_PATCHES} are needed")
    random_map, _ = first.maps(BASELINES[0])
    removal(first, random_map)  # not timed: what comes first is slow
    curves = seconds(lambda: removal(first, random_map))
    costs = {SETS: SETS_OVER_REMOVAL * curves}
    for method in work.missing():
        try:
            costs[method] = curves + models * seconds(lambda: first.maps(method))  # noqa: B023
        except InputError as error:
            work.skipped[method] = str(error)
    return costs


def seconds(step: Callable[[], object]) -> float:
    """How long a step takes."""
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


class Clock:
    """Tells a listener how much is done and how long the rest will take, by the trial's costs."""

    def __init__(self, costs: dict[str, float], images: int, listener: FaithfulnessListener) -> None:
        self.costs, self.listener = costs, listener
        self.total, self.done = images * sum(costs.values()), 0.0
        self.start = time.perf_counter()
        methods = len(costs.keys() - {SETS, *BASELINES})
        listener.expect(methods, images, self.total)

    def tick(self, step: str, images: int) -> None:
        """So many images more have gone through a step."""
        self.done += images * self.costs[step]
        passed = time.perf_counter() - self.start
        left = passed * max(0.0, self.total - self.done) / self.done
        self.listener.progress(self.done / self.total, step, left)
