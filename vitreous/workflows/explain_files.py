"""Write figures of explanations: one per image, a grid of several images, all layers and heads, or all methods."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import takewhile
from pathlib import Path
from typing import Literal

import numpy as np

from vitreous.callbacks import Callback, LogCallback, Progress
from vitreous.errors import InputError
from vitreous.evaluation.artifacts import MAX_ARTIFACT_FRACTION, artifact_fraction
from vitreous.explanation.explain import ExplainTask, all_heads, resolve_task, run_task
from vitreous.explanation.figures import (
    draw_gallery,
    draw_layers_by_heads,
    draw_methods,
    prediction_caption,
)
from vitreous.explanation.options import MethodOptions
from vitreous.explanation.regions import PixelRegion, Region, parse_region
from vitreous.explanation.registry import METHODS, find_method
from vitreous.explanation.result import Explanation
from vitreous.explanation.target_parsing import find_target
from vitreous.explanation.targets import Target
from vitreous.imaging.reading import open_image
from vitreous.imaging.writing import save_image
from vitreous.model.classifier import ImageClassifier
from vitreous.pretrained.load import load

FigureLayout = Literal["single", "sheet", "grid", "methods"]


@dataclass(frozen=True)
class ExplainRequest:
    """What is explained, and how it is drawn.

    Raises:
        InputError: the request can't be met by any model: there is no such method, it doesn't use one of the options,
            or a region is malformed.
    """

    method: str = "attention"
    options: MethodOptions = field(default_factory=MethodOptions)
    target: str | PixelRegion | None = None
    """As for `explain`; the text of a region is parsed at once."""
    query: Region | None = None
    """A point (x, y) or a box (x0, y0, x1, y1) in pixels of the image."""
    truth: str | None = None
    """The true label of the images; None for the name of an image's folder, if it is a class."""
    layout: FigureLayout | None = None
    """single: a figure per image; sheet: every layer and head; grid: all images; methods: every method. None for single
    with one image and grid with several."""
    data: str | None = None
    """Source of test images, used where no files are named; None for the run's own data."""
    count: int = 16
    """Number of test images."""

    def __post_init__(self) -> None:
        find_method(self.method, self.options if self.query is None else replace(self.options, query=(0, 0)))
        if isinstance(self.target, str) and self.target.startswith("region:"):
            object.__setattr__(self, "target", parse_region(self.target))
        if self.count < 1:
            raise InputError(f"--count is {self.count}: give 1 or more")

    def changed(self) -> set[str]:
        """The names of the fields that differ from their defaults."""
        default = ExplainRequest()
        return {name for name, value in vars(self).items() if value != getattr(default, name)}


@dataclass(frozen=True)
class WrittenFigure:
    """A file that was written, and a short summary of what it shows."""

    path: Path
    summary: str


def write_explanations(
    model: str | Path | ImageClassifier,
    paths: Sequence[Path],
    request: ExplainRequest,
    output: Path | None,
    callback: Callback | None = None,
) -> list[WrittenFigure]:
    """Explain image files, or test images where none are named, and write the figures.

    Several images become one grid, unless `output` is a folder (a name without a suffix). If the callback stops the
    work, the figures of the images explained so far are written, and none if there are no such images.

    Args:
        model: whatever `load` takes, or a loaded model.
        paths: the image files.
        request: what is explained, and how it is drawn.
        output: the file or folder to write; by default a name in the current folder.
        callback: receives progress, and notes about the maps, which go to the log by default; it can stop the work.

    Raises:
        InputError: something can't be read, found or written; nothing is written then.
    """
    classifier, callback = load(model, callback=callback), callback or LogCallback()
    check_request(classifier, paths, request)
    task = resolve_task(classifier, request.method, request.options, request.target, request.query)
    if not paths:
        return _write_grid(*_explain_test_images(classifier, task, request, callback), request, output)
    images = [open_image(path) for path in paths]
    if request.layout == "methods":
        return _write_methods(classifier, images, task, output, callback)
    truths = [request.truth or label_from_folder(path, classifier.class_names) for path in paths]
    one_file = output is None or bool(output.suffix)
    if request.layout == "grid" or (request.layout is None and len(paths) > 1 and one_file):
        return _write_grid(_explain(classifier, images, task, callback), truths, request, output)
    if request.layout == "sheet":
        outputs = output_paths(paths, "layers", output)
        pairs = takewhile(lambda _: not callback.should_stop(), zip(images, outputs, strict=True))
        return [_write_heads(classifier, image, path) for image, path in pairs]
    outputs = output_paths(paths, request.method, output)
    explanations = _explain(classifier, images, task, callback)
    return [_write_single(*one) for one in zip(explanations, truths, outputs, strict=False)]


def check_request(classifier: ImageClassifier, paths: Sequence[Path], request: ExplainRequest) -> None:
    """Refuse a request that doesn't fit the model, and options that the layout doesn't use.

    Raises:
        InputError: the message says what doesn't fit.
    """
    if request.truth is not None:
        classifier.class_index(request.truth)
    if request.layout == "sheet" and request.changed() != {"layout"}:
        raise InputError("--layout sheet shows the attention of every layer and head: it accepts no other options")
    if request.layout == "methods" and not request.changed() <= {"layout", "target"}:
        raise InputError("--layout methods shows every method with its defaults: it accepts only --target")
    if not paths and request.layout in ("single", "sheet", "methods"):
        raise InputError(f"--layout {request.layout} needs an image: name one after the model")
    if not paths and (request.truth or request.target or request.query):
        raise InputError("--truth, --target and --query are for images of your own: name them after the model")
    if not paths and not classifier.class_names:
        raise InputError("this model has no classes, so it has no test images: give images after the model")


def explain_all_methods(
    classifier: ImageClassifier,
    images: Sequence[np.ndarray],
    target: str | Target | PixelRegion | None,
    callback: Callback,
) -> tuple[dict[str, list[Explanation]], dict[str, str]]:
    """Explain images with every method.

    Returns:
        For each method by name the explanations of all images, up to where the callback stopped; and the reason of each
        method that can't explain this model or target.

    Raises:
        InputError: no method can, or there is no such target.
    """
    columns, refused, found = {}, {}, None if target is None else find_target(classifier, target)
    for i, name in enumerate(METHODS):
        if callback.should_stop():
            break
        callback.on_progress(Progress(i, len(METHODS), f"{name}, method {i + 1} of {len(METHODS)}"))
        try:
            columns[name] = run_task(classifier, images, resolve_task(classifier, name, target=found))
        except InputError as error:
            refused[name] = str(error)
    else:
        callback.on_progress(Progress(len(METHODS), len(METHODS), "all methods"))
        if not columns:
            raise InputError("no method applies: " + "; ".join(dict.fromkeys(refused.values())))
    return columns, refused


def warn_on_artifacts(explanations: Sequence[Explanation], callback: Callback) -> None:
    """Report in one line if artifact patches dominate the rollout of an image, measured as the doctor does."""
    rollouts = [one.patch_map for one in explanations if one.method == "rollout"]
    fractions = [fraction for fraction in map(artifact_fraction, rollouts) if fraction > MAX_ARTIFACT_FRACTION]
    if not fractions:
        return
    where = "this rollout" if len(rollouts) == 1 else f"the rollouts of {len(fractions)} of {len(rollouts)} images"
    callback.on_note(
        f"in {where} artifact patches that stand alone hold {np.mean(fractions):.0%} of the map and hide the rest: "
        "--method attention or legrad shows more, and vitreous doctor looks for the cause"
    )


def label_from_folder(path: Path, class_names: Sequence[str]) -> str | None:
    """Return the class that an image's folder is named after, if it is one of the model's."""
    return path.resolve().parent.name if path.resolve().parent.name in class_names else None


def _explain(
    classifier: ImageClassifier, images: Sequence[np.ndarray], task: ExplainTask, callback: Callback
) -> list[Explanation]:
    explanations = run_task(classifier, images, task, callback)
    warn_on_artifacts(explanations, callback)
    return explanations


def _explain_test_images(
    classifier: ImageClassifier, task: ExplainTask, request: ExplainRequest, callback: Callback
) -> tuple[list[Explanation], list[str]]:
    """Explain the first test images of the request's data, or else of the model's own, and return their labels."""
    # Only here are data sets needed, and all that reads them.
    from vitreous.diagnostics.evaluation_set import first_test_images, training_run

    run = training_run(classifier)
    if request.data is None and run is None:
        raise InputError(
            "the training data of this model is unknown: give images after the model, or test images with --data"
        )
    source = request.data or (run.recipe.data if run else "")
    images, truths = first_test_images(classifier, run, source, request.count)
    return _explain(classifier, images, task, callback), truths


def _write_grid(
    explanations: Sequence[Explanation], truths: Sequence[str | None], request: ExplainRequest, output: Path | None
) -> list[WrittenFigure]:
    """Write the explanations as one figure; no figure, if there are none."""
    if not explanations:
        return []
    path = output or Path(f"explanations-{request.method}.png")
    truths = truths[: len(explanations)]
    save_image(draw_gallery(explanations, truths), path)
    known = [(one.prediction.label, truth) for one, truth in zip(explanations, truths, strict=True) if truth]
    correct = sum(label == truth for label, truth in known)
    summary = f"{len(explanations)} images" + (f", {correct} of {len(known)} correct" if known else "")
    return [WrittenFigure(path, summary)]


def _write_heads(classifier: ImageClassifier, image_u8: np.ndarray, path: Path) -> WrittenFigure:
    save_image(draw_layers_by_heads(image_u8, all_heads(classifier, image_u8)), path)
    return WrittenFigure(path, "every layer and head")


def _write_methods(
    classifier: ImageClassifier,
    images: Sequence[np.ndarray],
    task: ExplainTask,
    output: Path | None,
    callback: Callback,
) -> list[WrittenFigure]:
    path = output or Path("explanations-methods.png")
    target = task.target if task.target_given else None
    columns, refused = explain_all_methods(classifier, images, target, callback)
    if not columns:
        return []
    save_image(draw_methods(images, columns, target_given=task.target_given), path)
    shown = "every method" if len(columns) + len(refused) == len(METHODS) else f"{len(columns)} methods"
    return [WrittenFigure(path, f"{shown}{describe_refused(refused)}")]


def describe_refused(refused: Mapping[str, str]) -> str:
    """List the methods that are missing, grouped by reason, without the advice at the end of the reasons.

    >>> describe_refused({"legrad": "no norm: try rollout", "rise": "no norm: try rollout", "grad-cam": "no tokens"})
    '; without legrad, rise: no norm; without grad-cam: no tokens'
    """
    names: dict[str, list[str]] = {}
    for name, reason in refused.items():
        names.setdefault(re.split("[:;] ", reason)[0], []).append(name)
    return "".join(f"; without {', '.join(each)}: {reason}" for reason, each in names.items())


def _write_single(explanation: Explanation, truth: str | None, path: Path) -> WrittenFigure:
    explanation.save(path, truth)
    return WrittenFigure(path, prediction_caption(explanation.prediction) or explanation.caption())


def output_paths(images: Sequence[Path], kind: str, output: Path | None) -> list[Path]:
    """Return the file for each image's figure: `output`, or a name in that folder or in the current one.

    Raises:
        InputError: several images would be written to one file, or an image would be overwritten.
    """
    if output is not None and output.suffix:
        if len(images) > 1:
            raise InputError(f"{len(images)} images don't fit into {output}: name a folder, or use --layout grid")
        paths = [output]
    else:
        paths = [(output or Path()) / f"{image.stem}-{kind}.png" for image in images]
    twice = next((path for path in paths if paths.count(path) > 1), None)
    if twice is not None:
        raise InputError(f"two of the images would both be written to {twice}: rename one, or use --layout grid")
    inputs = {image.resolve() for image in images}
    over = next((path for path in paths if path.resolve() in inputs), None)
    if over is not None:
        raise InputError(f"{over} is one of the images themselves: choose another --output")
    return paths
