"""Measure how faithful the maps of a model's methods are, against a random map and a center bias."""

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from vitreous.arguments import check_arguments
from vitreous.callbacks import Callback, Progress
from vitreous.data.image_set import ImageSet
from vitreous.data.sources import DEFAULT_FRACTION, absolute_source, evaluation_split, load_images
from vitreous.diagnostics.evaluation_set import (
    TrainingRun,
    fit_images,
    read_options_of,
    training_run,
    training_source,
)
from vitreous.diagnostics.faithfulness.metrics import (
    ROAD_FRACTIONS,
    SETS_PER_SIZE,
    STAGES,
    curve_counts,
    randomize_weights,
    removal_curves,
    score_drops,
    score_maps,
)
from vitreous.diagnostics.faithfulness.perturbed_predictor import EvaluatedBatch, has_probabilities, prepare_batch
from vitreous.diagnostics.faithfulness.report import build_reports, method_agreements
from vitreous.diagnostics.faithfulness.result import FaithfulnessResult
from vitreous.diagnostics.faithfulness.values_file import FaithfulnessSettings, ValuesFile, open_values
from vitreous.diagnostics.predictions import check_classifier
from vitreous.errors import InputError, unknown
from vitreous.explanation.patch_maps import BASELINES
from vitreous.explanation.registry import METHODS
from vitreous.model.classifier import ImageClassifier
from vitreous.model.legacy_format import earlier_preprocessing, earlier_weights
from vitreous.pretrained.fingerprint import weights_fingerprint
from vitreous.pretrained.load import load
from vitreous.runs.run_folder import results_folder
from vitreous.runtime import generator

VALUES_FILE = "faithfulness-values.jsonl"
PROTOCOL = 2
"""Increased whenever the same settings would give other values."""
DEFAULT_COUNT = 64
MIN_PATCHES = 4
BATCH_SIZE = 16
"""Images per batch. It is fixed, since the random numbers of a method may depend on the batch."""
SENSITIVITY = "sensitivity-n"
SENSITIVITY_COST = 5
"""Time of sensitivity-n over that of the curves of one map: 300 variants of an image instead of 54."""
TICKS = 1000
"""Progress is reported in so many parts of the estimated time."""


@dataclass(frozen=True)
class FaithfulnessRequest:
    """Which maps to measure, on which images.

    Attributes:
        sets_per_size: random sets of each size for sensitivity-n. Fewer scatter more, and never go into a values file
            that is kept, whose settings don't name them.
    """

    methods: tuple[str, ...] | None = None
    count: int | None = None
    target: Literal["predicted", "true"] = "predicted"
    split: str = "test"
    seed: int = 0
    sets_per_size: int = SETS_PER_SIZE

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

    def names(self) -> list[str]:
        """Return the baselines and the requested methods, in the order of the table."""
        return [*BASELINES, *(name for name in METHODS if self.methods is None or name in self.methods)]


@check_arguments
def faithfulness(
    model: str | Path | ImageClassifier,
    data: str | None = None,
    *,
    methods: str | Sequence[str] | None = None,
    count: int | None = None,
    target: Literal["predicted", "true"] = "predicted",
    split: str = "test",
    seed: int = 0,
    output: str | Path | None = None,
    restart: bool = False,
    device: str = "auto",
    callback: Callback | None = None,
) -> FaithfulnessResult:
    """Measure how faithful the maps of a model's methods are, and write the values, a summary and a figure.

    The values of each finished method are saved in faithfulness-values.jsonl. A second call with the same settings
    continues from there and gives the same numbers.

    Args:
        model: a run folder, a weights file, or a loaded model.
        data: a source such as "cifar10"; by default the one that the model was trained on.
        methods: one or more names of methods; all by default.
        count: number of images, drawn randomly; by default 64, or all if there are fewer.
        target: the class whose probability is followed.
        split: "test", or "validation" while settings are still being chosen.
        seed: of all random numbers.
        output: the folder to write to; by default the run folder, or "faithfulness" in the current folder for a model
            that is not a run folder.
        restart: ignore the values of an earlier call.
        device: "auto", "cpu" or "cuda".
        callback: receives an estimate of the time as a note, and the progress. If it asks to stop, the result covers
            the methods that are complete.

    Raises:
        InputError: the model, data or a method doesn't exist, the classes differ, no method can explain the model, or
            the file of values is damaged or has other settings.
    """
    methods = [methods] if isinstance(methods, str) else methods
    request = FaithfulnessRequest(None if methods is None else tuple(methods), count, target, split, seed)
    folder = results_folder(model, output, "faithfulness")
    result = measure_faithfulness(load(model, device), data, request, folder, restart=restart, callback=callback)
    result.save(folder)
    return result


def measure_faithfulness(
    classifier: ImageClassifier,
    data: str | None,
    request: FaithfulnessRequest,
    folder: Path,
    *,
    images: ImageSet | None = None,
    restart: bool = False,
    callback: Callback | None = None,
) -> FaithfulnessResult:
    """Measure what a request asks for; the values of finished methods are kept in a folder, nothing else is written.

    `images` are those of the split, where they are loaded and fit the model.

    Raises:
        InputError: as `faithfulness`.
    """
    check_classifier(classifier)
    run = training_run(classifier)
    source = absolute_source(data or training_source(run, classifier))
    options = read_options_of(classifier, run, source)
    request = replace(request, split=evaluation_split(source, request.split, options.on_note))
    images = _load_images(classifier, run, source, request) if images is None else images
    images, indexes = draw_images(images, source, request)
    settings = _settings(classifier, images, source, request)
    legacy_weights = partial(legacy_weights_fingerprint, classifier)
    file = open_values(folder / VALUES_FILE, settings, restart=restart, legacy_weights=legacy_weights)
    work = Measurement(classifier, images, indexes, request, file, callback or Callback())
    work.run()
    return _to_result(work)


def _load_images(
    classifier: ImageClassifier, run: TrainingRun | None, source: str, request: FaithfulnessRequest
) -> ImageSet:
    """Load all images of the split."""
    own = run is not None and source == absolute_source(run.recipe.data)
    hold_out = run.recipe.hold_out if run is not None and own else DEFAULT_FRACTION
    options = read_options_of(classifier, run, source)
    images = load_images(source, request.split, classifier.preprocessing.input_size, hold_out, options)
    if classifier.class_names:
        return fit_images(classifier, images, source)
    if request.target == "true":
        raise InputError("this model has no classes: leave out --target true")
    return images


def draw_images(images: ImageSet, source: str, request: FaithfulnessRequest) -> tuple[ImageSet, list[int]]:
    """Draw random images; return them with their indexes in the data, ascending."""
    count = min(DEFAULT_COUNT, len(images)) if request.count is None else request.count
    if count > len(images):
        raise InputError(f"'{source}' has only {len(images)} {request.split} images: lower --count {count}")
    drawn = generator(request.seed, "faithfulness pictures")  # the name enters the seed, so it stays
    order = torch.randperm(len(images), generator=drawn)
    indexes = sorted(order[:count].tolist())
    return images.select(indexes), indexes


def _settings(
    classifier: ImageClassifier, images: ImageSet, source: str, request: FaithfulnessRequest
) -> FaithfulnessSettings:
    """Return everything that the values depend on."""
    return FaithfulnessSettings(
        protocol=PROTOCOL,
        data=source,
        split=request.split,
        count=len(images),
        target=request.target,
        seed=request.seed,
        weights=weights_fingerprint(classifier),
        images=images.fingerprint()[:16],
    )


def legacy_weights_fingerprint(classifier: ImageClassifier) -> str:
    """Return the fingerprint that version 0.1.0 computed of a model's weights and preprocessing."""
    digest = hashlib.sha256(earlier_preprocessing(classifier.preprocessing).encode())
    for name, weight in sorted(earlier_weights(classifier.model)):
        digest.update(name.encode())
        digest.update(weight.detach().cpu().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def _to_result(work: "Measurement") -> FaithfulnessResult:
    values = {name: work.file.methods[name] for name in work.request.names() if name in work.file.methods}
    if any(name not in values for name in BASELINES):
        raise InputError("stopped before both baselines were measured, so there are no scores: call again")
    patches = values[BASELINES[0]]["map"].shape[1]
    fractions, has_classes = curve_counts(patches) / patches, has_probabilities(work.classifier)
    return FaithfulnessResult(
        work.file.settings,
        "probability" if has_classes else "score",
        build_reports(values, BASELINES, fractions, has_classes=has_classes),
        work.skipped,
        method_agreements(values),
        tuple(fractions.tolist()),
        ROAD_FRACTIONS,
    )


@dataclass
class Measurement:
    """The measurement of all methods that are not in the file yet."""

    classifier: ImageClassifier
    images: ImageSet
    indexes: Sequence[int]
    """Index of each image in the data."""
    request: FaithfulnessRequest
    file: ValuesFile
    callback: Callback
    skipped: dict[str, str] = field(default_factory=dict)
    """Methods that can't explain this model, with the reason."""

    def run(self) -> None:
        """Measure what is missing, and save each method's values when it is complete.

        The baselines come first, since every result needs them, then the methods from the fastest to the slowest.

        Raises:
            InputError: the model has too few patches, or none of the methods can explain it.
        """
        if not self.missing():
            return
        model, classes, seed = self.classifier.model, len(self.classifier.class_names), self.request.seed
        randomized = {stage: randomize_weights(model, stage, classes, seed) for stage in STAGES}
        copies = {stage: copy for stage, copy in randomized.items() if copy is not None}
        costs = self.time_methods(1 + len(copies))
        if not any(name in costs or name in self.file.methods for name in self.request.names() if name in METHODS):
            reasons = "; ".join(f"{name}: {reason}" for name, reason in self.skipped.items())
            raise InputError(f"none of the methods can explain this model ({reasons}): choose other --methods")
        if not self.missing():
            return
        clock = CostEstimate(costs, len(self.images), self.callback)
        drops = []
        for batch in self.batches():
            drops.append(score_drops(batch, self.request.sets_per_size))
            clock.advance(SENSITIVITY, len(batch.indexes))
        for method in sorted(self.missing(), key=lambda name: (name not in BASELINES, costs[name])):
            try:
                parts = []
                for batch, drop in zip(self.batches(), drops, strict=True):
                    if self.callback.should_stop():
                        return
                    parts.append(score_maps(batch, method, copies, drop))
                    clock.advance(method, len(batch.indexes))
            except InputError as error:
                self.skipped[method] = str(error)
            else:
                self.file.add(method, {name: np.concatenate([part[name] for part in parts]) for name in parts[0]})

    def missing(self) -> list[str]:
        """Return the methods and baselines that are still to be measured."""
        return [name for name in self.request.names() if name not in self.file.methods and name not in self.skipped]

    def batches(self, batch_size: int = BATCH_SIZE) -> Iterator[EvaluatedBatch]:
        """Yield the images in batches."""
        images = self.images.images_u8.expand(-1, 3, -1, -1).permute(0, 2, 3, 1).cpu().numpy()
        labels = self.images.labels.tolist() if self.request.target == "true" else None
        for start in range(0, len(images), batch_size):
            part = slice(start, start + batch_size)
            targets = None if labels is None else labels[part]
            yield prepare_batch(self.classifier, list(images[part]), self.indexes[part], targets, self.request.seed)

    def time_methods(self, models: int) -> dict[str, float]:
        """Estimate the seconds per image of each missing method; one that can't explain the model is skipped.

        Args:
            models: how many models each image's map is computed for: the model and its randomized copies.
        """
        batch = next(self.batches(batch_size=1))
        patches = batch.predictor.grid_size[0] * batch.predictor.grid_size[1]
        if patches < MIN_PATCHES:
            raise InputError(f"this model has {patches} patches, too few to rank: at least {MIN_PATCHES} are needed")
        random_map, _ = batch.patch_maps(BASELINES[0])
        removal_curves(batch, random_map)  # the first call is slow and not timed
        curves = time_once(lambda: removal_curves(batch, random_map))
        costs = {SENSITIVITY: SENSITIVITY_COST * curves * self.request.sets_per_size / SETS_PER_SIZE}
        for method in self.missing():
            try:
                costs[method] = curves + models * time_once(lambda: batch.patch_maps(method))  # noqa: B023
            except InputError as error:
                self.skipped[method] = str(error)
        return costs


def time_once(step: Callable[[], object]) -> float:
    """Return how many seconds a step takes."""
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


class CostEstimate:
    """Reports the progress in parts of the estimated time."""

    def __init__(self, costs: dict[str, float], images: int, callback: Callback) -> None:
        self.costs, self.callback = costs, callback
        self.total, self.done = images * sum(costs.values()), 0.0
        methods = len(costs.keys() - {SENSITIVITY, *BASELINES})
        seconds = f"{self.total:.0f} s" if self.total < 120 else f"{self.total / 60:.0f} min"
        callback.on_note(
            f"{methods} method{'s' * (methods != 1)}, {images} image{'s' * (images != 1)}: about {seconds}"
        )

    def advance(self, step: str, images: int) -> None:
        """Count the images that have gone through a step."""
        self.done += images * self.costs[step]
        self.callback.on_progress(Progress(round(TICKS * self.done / self.total), TICKS, step))
