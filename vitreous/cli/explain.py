"""vitreous explain"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Group, Parameter

from vitreous.cli import EXIT_TRUNCATED, print_error
from vitreous.cli.console import print_line, progress
from vitreous.cli.flags import OUTPUT_NAMES, JsonFlag, ModelName
from vitreous.cli.options import (
    DRAW_GROUP,
    EXPLAIN_GROUP,
    MODEL_GROUP,
    OUTPUT_GROUP,
    ExplainOptions,
    InputOptions,
    MethodFlags,
)
from vitreous.errors import InputError

TEST_IMAGES_GROUP = Group("Test images, where no image is named", sort_key=5)


@Parameter(name="*", group=EXPLAIN_GROUP)
@dataclass(frozen=True)
class ExplainImageOptions(ExplainOptions):
    """What the maps of images explain."""

    method: str = "attention"
    """Explanation method; `vitreous methods` lists them."""


def explain(
    model: Annotated[ModelName, Parameter(group=MODEL_GROUP)],
    /,
    *images: Annotated[Path, Parameter(group=MODEL_GROUP)],
    explain: ExplainImageOptions = ExplainImageOptions(),
    methods: MethodFlags = MethodFlags(),
    inputs: InputOptions = InputOptions(),
    factory: Annotated[str | None, Parameter(show=False)] = None,
    checkpoint: Annotated[Path | None, Parameter(show=False)] = None,
    layout: Annotated[Literal["single", "sheet", "grid", "methods"] | None, Parameter(group=DRAW_GROUP)] = None,
    truth: Annotated[str | None, Parameter(group=DRAW_GROUP)] = None,
    data: Annotated[str | None, Parameter(group=TEST_IMAGES_GROUP)] = None,
    count: Annotated[int | None, Parameter(group=TEST_IMAGES_GROUP)] = None,
    output: Annotated[Path | None, Parameter(name=OUTPUT_NAMES, group=OUTPUT_GROUP)] = None,
    json_: Annotated[JsonFlag, Parameter(group=OUTPUT_GROUP)] = False,
) -> int:
    """Explain a model's predictions on images with heatmaps.

    Each map shows which parts of the image the model's output depends on. Without images, test images of the model's
    own data are explained. The exit code is 3 if one of several images can't be explained; the others are written.

    Args:
        images: Image files, or folders of them.
        factory: MODULE:FUNCTION; the same as factory:MODULE:FUNCTION as MODEL. All arguments are images then.
        checkpoint: Weights for the factory's model.
        layout: single: a figure per image; sheet: every layer and head; methods: every method; grid: all images in
            one figure. By default a grid for 2 to 64 images if --output is a file or not given, else single.
        truth: The true label of the images; by default the name of an image's folder, if it is a class.
        data: Source of test images; the data of the model's training run by default.
        count: Number of test images; 16 by default.
        output: File to write, or a folder in which each image gets a file.
        json_: Print predictions, maps and the names of the written files as one JSON object.
    """
    from vitreous.workflows.explain_files import explain_files
    from vitreous.workflows.explain_files_request import ExplainRequest, FailedImage, check_request

    request = ExplainRequest(
        explain.method, methods.method_options(), explain.target, explain.query_region, truth, layout, data, count
    )
    if factory is not None:
        model, images = f"factory:{factory}{f'@{checkpoint}' if checkpoint else ''}", (Path(model), *images)
    elif checkpoint is not None:
        raise InputError("--checkpoint goes with --factory: for a known format, give the file as MODEL instead")
    check_request(images, request)
    classifier, figures, failed = inputs.load(model), [], []
    with progress("explain") as callback:
        for one in explain_files(classifier, images, request, output, callback):
            if isinstance(one, FailedImage):
                failed.append(one.to_json())
                print_error(one.message)
            elif json_:
                figures.append(one.to_json())
            else:
                print_line(f"{one.path}: {one.summary}")
    if json_:
        print_line(json.dumps({"figures": figures, "failed": failed}))
    return EXIT_TRUNCATED if failed else 0
