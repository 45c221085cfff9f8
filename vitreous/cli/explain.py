"""vitreous explain"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Group, Parameter

from vitreous.cli.console import ConsoleCallback, print_line, progress
from vitreous.cli.options import (
    DRAW_GROUP,
    EXPLAIN_GROUP,
    MODEL_GROUP,
    OUTPUT_GROUP,
    ExplainOptions,
    InputOptions,
    MethodFlags,
)

TEST_IMAGES_GROUP = Group("Test images, where no image is named", sort_key=5)


@Parameter(name="*", group=EXPLAIN_GROUP)
@dataclass(frozen=True)
class ExplainImageOptions(ExplainOptions):
    """What the maps of images explain."""

    method: str = "attention"
    """Explanation method; `vitreous methods` lists them."""


def explain(
    *model_and_images: Annotated[str, Parameter(group=MODEL_GROUP)],
    explain: ExplainImageOptions = ExplainImageOptions(),
    methods: MethodFlags = MethodFlags(),
    inputs: InputOptions = InputOptions(),
    factory: Annotated[str | None, Parameter(group=MODEL_GROUP)] = None,
    checkpoint: Annotated[Path | None, Parameter(group=MODEL_GROUP)] = None,
    device: Annotated[str, Parameter(group=MODEL_GROUP)] = "auto",
    layout: Annotated[Literal["single", "sheet", "grid", "methods"] | None, Parameter(group=DRAW_GROUP)] = None,
    truth: Annotated[str | None, Parameter(group=DRAW_GROUP)] = None,
    data: Annotated[str | None, Parameter(group=TEST_IMAGES_GROUP)] = None,
    count: Annotated[int, Parameter(group=TEST_IMAGES_GROUP)] = 16,
    output: Annotated[Path | None, Parameter(name=["--output", "-o"], group=OUTPUT_GROUP)] = None,
) -> int:
    """Explain images: draw which parts of each image the model's output depends on.

    Without images, test images of the model's own data are explained.

    Args:
        model_and_images: Run folder, weights file, or origin:name such as hf:facebook/dinov2-small; then image files.
        factory: A function of your own, as MODULE:FUNCTION, that returns the model: one of timm, torchvision or
            transformers as it is, others as vitreous.wrap(model, preprocessing=...). All arguments are images then.
        checkpoint: Weights for the factory's model.
        device: auto, cpu or cuda.
        layout: single: a figure per image; sheet: every layer and head; methods: every method; grid: all images.
            Single for one image and grid for several by default.
        truth: The true label of the images; by default the name of an image's folder, if it is a class.
        data: Source of test images; the data of the model's training run by default.
        count: Number of test images.
        output: File to write. If it is a folder, each image gets a file there.
    """
    from vitreous.cli.open_model import open_model
    from vitreous.workflows.explain_files import ExplainRequest, write_explanations

    request = ExplainRequest(
        explain.method, methods.method_options(), explain.target, explain.query_region, truth, layout, data, count
    )
    model, images = open_model(
        list(model_and_images), inputs=inputs, factory=factory, checkpoint=checkpoint, device=device
    )
    with progress("explain") as display:
        figures = write_explanations(model, images, request, output, ConsoleCallback(display))
    for written in figures:
        print_line(f"{written.path}: {written.summary}")
    return 0
