"""vitreous explain"""

import csv
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Group, Parameter

from vitreous.cli import EXIT_TRUNCATED, print_error
from vitreous.cli.console import print_line, progress
from vitreous.cli.flags import OUTPUT_NAMES, Flag, JsonFlag, ModelName
from vitreous.cli.options import (
    DRAW_GROUP,
    MODEL_GROUP,
    OUTPUT_GROUP,
    ExplainOptions,
    InputOptions,
    MethodFlags,
)
from vitreous.errors import InputError

if TYPE_CHECKING:
    from vitreous.workflows.explain_files_request import WrittenFigure

TEST_IMAGES_GROUP = Group("Test images, where no image is named", sort_key=5)


def explain(
    model: Annotated[ModelName, Parameter(group=MODEL_GROUP)],
    /,
    *images: Annotated[Path, Parameter(group=MODEL_GROUP)],
    explain: ExplainOptions = ExplainOptions(),
    methods: MethodFlags = MethodFlags(),
    inputs: InputOptions = InputOptions(),
    factory: Annotated[str | None, Parameter(show=False)] = None,
    checkpoint: Annotated[Path | None, Parameter(show=False)] = None,
    layout: Annotated[
        Literal["single", "contour", "overlay", "side-by-side", "spotlight", "sheet", "grid", "methods", "before-after"]
        | None,
        Parameter(group=DRAW_GROUP),
    ] = None,
    before: Annotated[str | None, Parameter(group=DRAW_GROUP)] = None,
    truth: Annotated[str | None, Parameter(name=["--label", "--truth"], group=DRAW_GROUP)] = None,
    data: Annotated[str | None, Parameter(group=TEST_IMAGES_GROUP)] = None,
    count: Annotated[int | None, Parameter(group=TEST_IMAGES_GROUP)] = None,
    output: Annotated[Path | None, Parameter(name=OUTPUT_NAMES, group=OUTPUT_GROUP)] = None,
    json_: Annotated[JsonFlag, Parameter(group=OUTPUT_GROUP)] = False,
    csv_: Annotated[Flag, Parameter(name="--csv", group=OUTPUT_GROUP)] = False,
) -> int:
    """Explain a model's predictions on images with heatmaps.

    Each map shows which parts of the image the model's output depends on. Without images, test images of the model's
    own data are explained. The exit code is 3 if one of several images can't be explained; the others are written.

    Args:
        images: Image files, or folders of them.
        factory: MODULE:FUNCTION; the same as factory:MODULE:FUNCTION as MODEL. All arguments are images then.
        checkpoint: Weights for the factory's model.
        layout: single: a figure per image; sheet: every layer and head; methods: every method, or those of --method;
            grid: all images in one figure. contour, overlay, side-by-side and spotlight: each image as `vitreous
            video` draws a frame. before-after: the maps of the model that the run MODEL started from (train --init),
            and of MODEL. By default a grid for 2 to 64 images if --output is a file or not given, else single.
        before: The earlier model for the layout before-after, if it isn't the one that the run started from; any model
            that can be given as MODEL.
        truth: The true label of the images; by default the name of an image's folder, if it is a class.
        data: Source of test images; the data of the model's training run by default.
        count: Number of test images; 16 by default.
        output: File to write, or a folder in which each image gets a file.
        json_: Print predictions, maps and the names of the written files as one JSON object.
        csv_: Print as CSV: figure, image, truth, label, score, method, target; for the layout before-after also stage
            (before or after) and model.
    """
    from vitreous.imaging.writing import check_image_output
    from vitreous.workflows.explain_files import explain_files
    from vitreous.workflows.explain_files_request import ExplainRequest, FailedImage, check_request

    request = ExplainRequest(
        explain.methods,
        methods.method_options(),
        explain.target,
        explain.query_region,
        truth,
        layout,
        data,
        count,
        before,
    )
    if factory is not None:
        model, images = f"factory:{factory}{f'@{checkpoint}' if checkpoint else ''}", (Path(model), *images)
    elif checkpoint is not None:
        raise InputError("--checkpoint goes with --factory: for a known format, give the file as MODEL instead")
    check_request(images, request)
    if output is not None and output.suffix:
        check_image_output(output)
    if json_ and csv_:
        raise InputError("--json and --csv: give one of them")
    classifier, figures, failed = inputs.load(model), [], []
    with progress("explain") as callback:
        for one in explain_files(classifier, images, request, output, callback):
            if isinstance(one, FailedImage):
                failed.append(one.to_json())
                print_error(one.message)
            elif json_ or csv_:
                figures.append(one)
            else:
                print_line(f"{one.path}: {one.summary}")
    if json_:
        print_line(json.dumps({"figures": [one.to_json() for one in figures], "failed": failed}))
    if csv_:
        print_figures(figures)
    return EXIT_TRUNCATED if failed else 0


def print_figures(figures: "list[WrittenFigure]") -> None:
    """Print one row per figure, image and method on standard output."""
    writer = csv.writer(sys.stdout, lineterminator="\n")
    staged = any(one.stage for figure in figures for one in figure.images)
    stage_columns = ("stage", "model") if staged else ()
    writer.writerow(("figure", "image", "truth", "label", "score", "method", "target", *stage_columns))
    for figure in figures:
        for one in figure.images:
            (label, score), *_ = one.explanation.prediction.top_k(1) or [("", "")]
            shown = one.explanation.method, one.explanation.target, *((one.stage, one.model) if staged else ())
            writer.writerow((figure.path, one.path, one.truth, label, score, *shown))
