"""vitreous explain"""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from vitreous.cli.console import say


def explain(
    *model_and_images: str,
    method: str = "rollout",
    target: str | None = None,
    layer: int | None = None,
    head: int | None = None,
    fusion: Literal["mean", "max", "min"] = "mean",
    query: str | None = None,
    discard: float = 0.0,
    steps: int | None = None,
    samples: int | None = None,
    noise: float | None = None,
    window: int | None = None,
    view: Literal["colors", "similarity", "norms"] = "colors",
    seed: int = 0,
    truth: str | None = None,
    layout: Literal["single", "sheet", "grid", "methods"] | None = None,
    data: str | None = None,
    count: int = 16,
    size: int | None = None,
    factory: str | None = None,
    checkpoint: Path | None = None,
    device: str = "auto",
    output: Annotated[Path | None, Parameter(name=["--output", "-o"])] = None,
) -> int:
    """Show what a model looks at on images; without images, on the test images of its own data.

    Args:
        model_and_images: Run folder, weights file, or origin:name such as hf:facebook/dinov2-small; then images.
        method: How to explain; `vitreous methods` lists them and the settings that each one takes.
        target: What the map shall explain: a class; "cat - dog" for what speaks for one rather than the other;
            "text:a photo of a cat" for an image-text model; "region:x0,y0,x1,y1" for a part of the image, in its
            pixels. By default the predicted class.
        layer: Layer to show, counted from 0; -1 is the last.
        head: Head to show, counted from 0; all of them by default.
        fusion: How heads are joined.
        query: A place X,Y in the image's pixels, or a box X0,Y0,X1,Y1, whose patches are followed instead of what the
            model's head reads.
        discard: Share of each layer's smallest weights that rollout leaves out.
        steps: Points on the path of integrated-gradients.
        samples: Random draws of rise and smoothgrad.
        noise: Noise of smoothgrad, over the range of the input.
        window: Side in patches of what occlusion hides.
        view: What features shows: PCA as colors, similarity to --query, or norms.
        seed: Of the random draws.
        truth: What the image really shows; by default its folder's name, where that is a class.
        layout: single: one explained image; sheet: every layer and head; methods: every method; grid: all images.
        data: Source of test images; by default the one the run was trained on.
        count: How many test images to show.
        size: Side in pixels of what the model is given, if another than its own.
        factory: A function of your own, as MODULE:FUNCTION, that returns the model: one of timm, torchvision or
            transformers as it is, others as vitreous.wrap(model, preprocessing=...); all arguments are images then.
        checkpoint: Weights for the factory's model.
        device: auto, cpu or cuda.
        output: File to write; several images with a folder here are written one by one.
    """
    from vitreous.cli.open_model import open_model
    from vitreous.explanation.coordinates import parse_region_yx
    from vitreous.explanation.options import MethodOptions
    from vitreous.workflows.explain_files import ExplainRequest, write_explanations

    settings = MethodOptions(
        layer=layer, head=head, head_fusion=fusion, discard_ratio=discard, n_steps=steps, n_samples=samples, noise_level=noise,
        patch_window=window, view=view, seed=seed,
    )  # fmt: skip
    request = ExplainRequest(method, settings, target, parse_region_yx(query), truth, layout, data, count)
    model, images = open_model(list(model_and_images), factory=factory, checkpoint=checkpoint, size=size, device=device)
    for written in write_explanations(model, images, request, output):
        say(f"{written.path}: {written.words}")
    return 0
