"""Write images of what a model looks at: one explained image each, all layers and heads, or many in a grid."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np

from vitreous.diagnostics.doctor.checks_maps import SPOT_SHARE, share_of_spots
from vitreous.diagnostics.test_set import training_recipe, training_source
from vitreous.errors import InputError
from vitreous.explanation.explain import Asked, explain_batch, find_target
from vitreous.explanation.figures import draw_explanation_figure, draw_gallery, prediction_caption
from vitreous.explanation.options import MethodOptions
from vitreous.explanation.regions import parse_region
from vitreous.explanation.registry import find_method
from vitreous.explanation.result import Explanation
from vitreous.imaging.reading import open_image
from vitreous.imaging.writing import save_image
from vitreous.model.classifier import ImageClassifier
from vitreous.pretrained.load import load, log
from vitreous.workflows.explain import (
    Progress,
    draw_all_methods,
    draw_layers_by_heads,
    explain_test_images,
    label_from_folder,
)


@dataclass(frozen=True)
class ExplainRequest:
    """What is to be shown, and how.

    Raises:
        InputError: what is wrong whatever the model: no such method, a setting that it has no use for, no region.
    """

    method: str = "rollout"
    settings: MethodOptions = field(default_factory=MethodOptions)
    target: str | None = None
    query_yx: Asked | None = None
    """A place in source pixels, down and across."""
    truth: str | None = None
    """What the images show; None: the name of an image's folder, where that is a class."""
    layout: Literal["single", "sheet", "grid", "methods"] | None = None
    """None: single for one image, grid for several."""
    data: str | None = None
    """Source of test images, used where no files are named; None: the run's own."""
    count: int = 16
    """Test images to show."""

    def __post_init__(self) -> None:
        query = (0, 0) if self.query_yx is not None else None
        find_method(self.method, replace(self.settings, query=query))
        if self.target is not None and self.target.startswith("region:"):
            parse_region(self.target)
        if self.count < 1:
            raise InputError(f"--count {self.count} shows nothing: give 1 or more")


@dataclass(frozen=True)
class WrittenImage:
    """A file that was written, and what it says in a few words."""

    path: Path
    words: str


def log_method(done: int, total: int, words: str) -> None:
    """Write to the log which method begins."""
    if done < total:
        log(words)


def warn_on_artifacts(explanations: Sequence[Explanation]) -> None:
    """Say so in one line to the log where single patches outshine the rest of a rollout: the doctor's measure."""
    rolled = [one.patch_map for one in explanations if one.method == "rollout"]
    shares = [share for share in map(share_of_spots, rolled) if share > SPOT_SHARE]
    if not shares:
        return
    where = "this rollout" if len(rolled) == 1 else f"the rollouts of {len(shares)} of {len(rolled)} images"
    log(
        f"in {where} single patches that stand alone hold {np.mean(shares):.0%} of the map and outshine the rest: "
        "--method attention or legrad shows more, and vitreous doctor looks for the cause"
    )


def write_explanations(
    model: str | Path | ImageClassifier,
    paths: Sequence[Path],
    request: ExplainRequest,
    output: Path | None,
    *,
    on_progress: Progress = log_method,
) -> list[WrittenImage]:
    """Explain image files, or test images where none are named, and write what the request asks for.

    Several images become one grid, unless `output` is a folder (a name without an ending). What is to be known of
    the maps beside them is written to the log, as `load` does.

    Args:
        model: whatever `load` takes, or a loaded model.
        images: their files.
        request: what is to be shown.
        output: the file or folder to write.
        on_progress: told methods done, methods in all, and which one begins, where all are shown; by default a line
            each is written to the log.

    Raises:
        InputError: something can't be read, found or written; nothing is written then.
    """
    classifier = load(model)
    check_request(classifier, paths, request)
    if not paths:
        return [_grid(*_test_images(model, classifier, request), request, output)]
    images = [open_image(path) for path in paths]
    if request.layout == "methods":
        return [_methods(classifier, images, request, output, on_progress)]
    one_file = output is None or bool(output.suffix)
    if request.layout == "grid" or (request.layout is None and len(paths) > 1 and one_file):
        return [_grid(*_explain(classifier, paths, images, request), request, output)]
    kind = "layers" if request.layout == "sheet" else request.method
    targets = _targets(paths, kind, output)
    if request.layout == "sheet":
        return [_sheet(classifier, image, target) for image, target in zip(images, targets, strict=True)]
    explanations, truths = _explain(classifier, paths, images, request)
    return [_single(*one) for one in zip(explanations, truths, targets, strict=True)]


def check_request(classifier: ImageClassifier, images: Sequence[Path], request: ExplainRequest) -> None:
    """Refuse what can't be shown, and settings that what is asked for has no use for.

    Raises:
        InputError: says which.
    """
    find_target(classifier, request.target)
    if request.truth is not None:
        classifier.class_index(request.truth)
    if request.layout == "sheet" and request != ExplainRequest(layout="sheet"):
        raise InputError("--layout sheet shows the attention of every layer and head: leave out all but the image")
    if request.layout == "methods" and request != ExplainRequest(layout="methods", target=request.target):
        raise InputError("--layout methods shows every method as it is by default: leave out all but target and image")
    if not images and request.layout in ("single", "sheet", "methods"):
        raise InputError(f"--layout {request.layout} needs an image: name one after the model")
    if not images and (request.truth or request.target or request.query_yx):
        raise InputError("--truth, --target and --query are about images of your own: name them after the model")
    if not images and not classifier.class_names:
        raise InputError("this model has no classes, so no test images go with it: give images after the model")


def _test_images(
    model: str | Path | ImageClassifier, classifier: ImageClassifier, request: ExplainRequest
) -> tuple[list[Explanation], list[str]]:
    if request.data is None and training_recipe(model) is None:
        raise InputError(
            "this model doesn't say what it was trained on: give images after the model, or test images with --data"
        )
    source = request.data or training_source(model)
    explanations, truths = explain_test_images(classifier, request.count, request.method, request.settings, source)
    warn_on_artifacts(explanations)
    return explanations, truths


def _explain(
    classifier: ImageClassifier, paths: Sequence[Path], images: Sequence[np.ndarray], request: ExplainRequest
) -> tuple[list[Explanation], list[str | None]]:
    explanations = explain_batch(classifier, images, request.method, request.settings, request.target, request.query_yx)
    warn_on_artifacts(explanations)
    truths = [request.truth or label_from_folder(path, classifier.class_names) for path in paths]
    return explanations, truths


def _grid(
    explanations: Sequence[Explanation], truths: Sequence[str | None], request: ExplainRequest, output: Path | None
) -> WrittenImage:
    path = output or Path(f"explanations-{request.method}.png")
    save_image(draw_gallery(explanations, truths), path)
    known = [(one.prediction.label, truth) for one, truth in zip(explanations, truths, strict=True) if truth]
    right = sum(name == truth for name, truth in known)
    words = f"{len(explanations)} images" + (f", {right} of {len(known)} told right" if known else "")
    return WrittenImage(path, words)


def _sheet(classifier: ImageClassifier, image_u8: np.ndarray, path: Path) -> WrittenImage:
    save_image(draw_layers_by_heads(classifier, image_u8), path)
    return WrittenImage(path, "every layer and head")


def _methods(
    classifier: ImageClassifier,
    images: Sequence[np.ndarray],
    request: ExplainRequest,
    output: Path | None,
    on_progress: Progress,
) -> WrittenImage:
    path = output or Path("explanations-methods.png")
    image, refused = draw_all_methods(classifier, images, request.target, on_progress=on_progress)
    save_image(image, path)
    return WrittenImage(path, f"every method{without(refused)}")


def without(refused: Mapping[str, str]) -> str:
    """Which methods are not shown, those with one reason together, and what each complained of, less its advice.

    >>> without({"legrad": "no norm: try rollout", "rise": "no norm: try rollout", "grad-cam": "no tokens"})
    '; without legrad, rise: no norm; without grad-cam: no tokens'
    """
    names: dict[str, list[str]] = {}
    for name, reason in refused.items():
        names.setdefault(re.split("[:;] ", reason)[0], []).append(name)
    return "".join(f"; without {', '.join(each)}: {reason}" for reason, each in names.items())


def _single(explanation: Explanation, truth: str | None, path: Path) -> WrittenImage:
    save_image(draw_explanation_figure(explanation, truth), path)
    return WrittenImage(path, prediction_caption(explanation.prediction) or explanation.caption())


def _targets(images: Sequence[Path], kind: str, output: Path | None) -> list[Path]:
    """Where each image's explanation goes: the file or folder asked for, or the folder the user stands in."""
    if output is not None and output.suffix:
        if len(images) > 1:
            raise InputError(f"{len(images)} images don't fit into {output}: name a folder, or use --layout grid")
        targets = [output]
    else:
        targets = [(output or Path()) / f"{image.stem}-{kind}.png" for image in images]
    twice = next((target for target in targets if targets.count(target) > 1), None)
    if twice is not None:
        raise InputError(f"two of the images would both be written to {twice}: rename one, or use --layout grid")
    inputs = {image.resolve() for image in images}
    over = next((target for target in targets if target.resolve() in inputs), None)
    if over is not None:
        raise InputError(f"{over} is one of the images themselves: choose another --output")
    return targets
