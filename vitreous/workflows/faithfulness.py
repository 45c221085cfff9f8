"""Measure how far a model's maps can be believed: every method, beside a random map and a centred blob."""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from vitreous.data.pictures import Pictures
from vitreous.data.sources import DEFAULT_FRACTION, absolute, load_pictures
from vitreous.errors import InputError
from vitreous.evaluation.faithfulness_report import Agreement, MethodReport, agreements, report
from vitreous.explanation.faithfulness.patch_maps import BASELINES
from vitreous.explanation.faithfulness.removal import ROAD_SHARES, steps
from vitreous.files import write_text
from vitreous.runtime import generator
from vitreous.tasks.classification import Classifier
from vitreous.workflows.evaluate import check_classes, reading_of, training_recipe, training_source
from vitreous.workflows.faithfulness_figure import draw
from vitreous.workflows.faithfulness_run import FaithfulnessListener, FaithfulnessRequest, Measurement, measure
from vitreous.workflows.faithfulness_values import open_values
from vitreous.workflows.load import load
from vitreous.workflows.results import results_folder

DEFAULT_COUNT = 64
PROTOCOL = 2
"""Raised whenever the same settings would give other values."""
VALUES, SUMMARY, FIGURE = "faithfulness-values.jsonl", "faithfulness.json", "faithfulness.png"


@dataclass(frozen=True)
class Faithfulness:
    """What was measured, baselines first."""

    asked: dict[str, Any]
    """Data, split, count, target and seed, and what identifies model and pictures."""
    unit: Literal["probability", "score"]
    """What areas and ROAD are means of: the target's probability, not normalised further; for a model without classes,
    the target's score over that of the whole picture."""
    methods: tuple[MethodReport, ...]
    skipped: dict[str, str]
    """Methods that can't explain this model, with the reason."""
    agreement: tuple[Agreement, ...]
    shares: tuple[float, ...]
    """Of the patches, at each point of the insertion and deletion curves."""
    road_shares: tuple[float, ...]


def faithfulness(
    model: str | Path | Classifier,
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
        request: which methods, how many pictures, and so on.
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
    source = absolute(data or training_source(model))
    pictures, numbers = _pictures(classifier, model, source, request)
    asked = _asked(classifier, pictures, source, request)
    file = open_values(folder / VALUES, asked, restart=restart)
    work = Measurement(classifier, pictures, numbers, request, file, listener or FaithfulnessListener())
    measure(work)
    result = _result(work)
    write_text(folder / SUMMARY, json.dumps(asdict(result), indent=2) + "\n")
    draw(result, folder / FIGURE)
    return result


def _pictures(
    classifier: Classifier, model: str | Path | Classifier, source: str, request: FaithfulnessRequest
) -> tuple[Pictures, list[int]]:
    """The pictures drawn by lot, and their numbers in the data, ascending."""
    recipe = training_recipe(model)
    own = recipe is not None and source == absolute(recipe["data"])
    fraction = recipe["validation_fraction"] if recipe is not None and own else DEFAULT_FRACTION
    size_hw, reading = classifier.preprocessing.size_hw, reading_of(classifier, source)
    pictures = load_pictures(source, request.split, size_hw, fraction, reading)
    if classifier.class_names:
        check_classes(classifier, pictures, source)
    elif request.target == "true":
        raise InputError("this model has no classes: leave out --target true")
    count = min(DEFAULT_COUNT, len(pictures)) if request.count is None else request.count
    if count > len(pictures):
        raise InputError(f"'{source}' has only {len(pictures)} {request.split} pictures: lower --count {count}")
    order = torch.randperm(len(pictures), generator=generator(request.seed, "faithfulness pictures"))
    numbers = sorted(order[:count].tolist())
    return pictures.select(numbers), numbers


def _asked(classifier: Classifier, pictures: Pictures, source: str, request: FaithfulnessRequest) -> dict[str, Any]:
    """All that the values depend on."""
    return {
        "protocol": PROTOCOL,
        "data": source,
        "split": request.split,
        "count": len(pictures),
        "target": request.target,
        "seed": request.seed,
        "model": weights_fingerprint(classifier),
        "pictures": pictures.fingerprint()[:16],
    }


def weights_fingerprint(classifier: Classifier) -> str:
    """The first 16 digits of the SHA-256 of a model's weights and preprocessing."""
    digest = hashlib.sha256(repr(classifier.preprocessing).encode())
    for name, weight in sorted(classifier.vit.state_dict().items()):
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
