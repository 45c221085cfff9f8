"""Measure how far a model's maps can be believed: every method, beside a random map and a centerd blob."""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from vitreous.data.image_set import ImageSet
from vitreous.data.sources import DEFAULT_FRACTION, absolute_source, load_images
from vitreous.diagnostics.faithfulness.figure import draw
from vitreous.diagnostics.faithfulness.measurement import (
    FaithfulnessListener,
    FaithfulnessRequest,
    Measurement,
    measure,
)
from vitreous.diagnostics.faithfulness.metrics import ROAD_SHARES, steps
from vitreous.diagnostics.faithfulness.report import Agreement, MethodReport, agreements, report
from vitreous.diagnostics.faithfulness.values_file import open_values
from vitreous.diagnostics.test_set import check_classes, reading_of, training_recipe, training_source
from vitreous.errors import InputError
from vitreous.explanation.patch_maps import BASELINES
from vitreous.files import write_text
from vitreous.model.classifier import ImageClassifier
from vitreous.pretrained.load import load
from vitreous.runs.run_folder import results_folder
from vitreous.runtime import generator

DEFAULT_COUNT = 64
PROTOCOL = 2
"""Raised whenever the same settings would give other values."""
VALUES, SUMMARY, FIGURE = "faithfulness-values.jsonl", "faithfulness.json", "faithfulness.png"


@dataclass(frozen=True)
class Faithfulness:
    """What was measured, baselines first."""

    asked: dict[str, Any]
    """Data, split, count, target and seed, and what identifies model and images."""
    unit: Literal["probability", "score"]
    """What areas and ROAD are means of: the target's probability, not normalized further; for a model without classes,
    the target's score over that of the whole image."""
    methods: tuple[MethodReport, ...]
    skipped: dict[str, str]
    """Methods that can't explain this model, with the reason."""
    agreement: tuple[Agreement, ...]
    shares: tuple[float, ...]
    """Of the patches, at each point of the insertion and deletion curves."""
    road_shares: tuple[float, ...]


def faithfulness(
    model: str | Path | ImageClassifier,
    data: str | None = None,
    request: FaithfulnessRequest | None = None,
    *,
    output: str | Path | None = None,
    restart: bool = False,
    device: str = "auto",
    listener: FaithfulnessListener | None = None,
) -> Faithfulness:
    """Measure how far the maps of a model's methods can be believed; the folder then holds values, JSON and a figure.

    What is measured goes into faithfulness-values.jsonl method by method; a second call with the same settings goes on
    from there, to the same numbers.

    Args:
        model: a run folder, a model.safetensors file, or a loaded model.
        data: a source such as "cifar10"; by default the one that the run was trained on.
        request: which methods, how many images, and so on.
        output: the folder to write to; by default the run folder, or "faithfulness" in the current folder for a model
            that is no run folder.
        restart: forget what an earlier call has left there.
        device: "auto", "cpu" or "cuda".
        listener: whom to tell.

    Raises:
        InputError: no such model, data or method, classes that don't match, no method that can explain the model, or a
            file of values that is damaged or of other settings.
    """
    request, folder = request or FaithfulnessRequest(), results_folder(model, output, "faithfulness")
    classifier = load(model, device)
    source = absolute_source(data or training_source(model))
    images, numbers = _images(classifier, model, source, request)
    asked = _asked(classifier, images, source, request)
    file = open_values(folder / VALUES, asked, restart=restart)
    work = Measurement(classifier, images, numbers, request, file, listener or FaithfulnessListener())
    measure(work)
    result = _result(work)
    write_text(folder / SUMMARY, json.dumps(asdict(result), indent=2) + "\n")
    draw(result, folder / FIGURE)
    return result


def _images(
    classifier: ImageClassifier, model: str | Path | ImageClassifier, source: str, request: FaithfulnessRequest
) -> tuple[ImageSet, list[int]]:
    """The images drawn by lot, and their numbers in the data, ascending."""
    recipe = training_recipe(model)
    own = recipe is not None and source == absolute_source(recipe["data"])
    fraction = recipe["validation_fraction"] if recipe is not None and own else DEFAULT_FRACTION
    size_hw, reading = classifier.preprocessing.input_size, reading_of(classifier, source)
    images = load_images(source, request.split, size_hw, fraction, reading)
    if classifier.class_names:
        check_classes(classifier, images, source)
    elif request.target == "true":
        raise InputError("this model has no classes: leave out --target true")
    count = min(DEFAULT_COUNT, len(images)) if request.count is None else request.count
    if count > len(images):
        raise InputError(f"'{source}' has only {len(images)} {request.split} images: lower --count {count}")
    order = torch.randperm(len(images), generator=generator(request.seed, "faithfulness images"))
    numbers = sorted(order[:count].tolist())
    return images.select(numbers), numbers


def _asked(classifier: ImageClassifier, images: ImageSet, source: str, request: FaithfulnessRequest) -> dict[str, Any]:
    """All that the values depend on."""
    return {
        "protocol": PROTOCOL,
        "data": source,
        "split": request.split,
        "count": len(images),
        "target": request.target,
        "seed": request.seed,
        "model": weights_fingerprint(classifier),
        "images": images.fingerprint()[:16],
    }


def weights_fingerprint(classifier: ImageClassifier) -> str:
    """The first 16 digits of the SHA-256 of a model's weights and preprocessing."""
    digest = hashlib.sha256(repr(classifier.preprocessing).encode())
    for name, weight in sorted(classifier.model.state_dict().items()):
        digest.update(name.encode())
        digest.update(weight.detach().cpu().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def _result(work: Measurement) -> Faithfulness:
    values = {name: work.file.methods[name] for name in work.wanted() if name in work.file.methods}
    patches = values[BASELINES[0]]["map"].shape[1]
    shares, has_classes = steps(patches) / patches, bool(work.classifier.class_names)
    return Faithfulness(
        work.file.asked,
        "probability" if has_classes else "score",
        report(values, BASELINES, shares, has_classes=has_classes),
        work.skipped,
        agreements(values),
        tuple(shares.tolist()),
        ROAD_SHARES,
    )
