"""Explain images: which parts of an image a model's output depends on."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, overload

from vitreous.callbacks import Callback
from vitreous.explanation.explain import resolve_task, run_task
from vitreous.explanation.options import MethodOptions, merge_options
from vitreous.explanation.regions import PixelRegion, Region, checked_region
from vitreous.explanation.result import Explanation
from vitreous.explanation.targets import Target
from vitreous.model.classifier import ImageClassifier, ImageInput
from vitreous.pretrained.load import load


@overload
def explain(
    model: str | Path | ImageClassifier,
    images: ImageInput,
    *,
    method: str = ...,
    target: str | int | Target | PixelRegion | None = ...,
    query: Region | None = ...,
    options: MethodOptions | None = ...,
    callback: Callback | None = ...,
    layer: int | None = ...,
    head: int | None = ...,
    head_fusion: Literal["mean", "max", "min"] | None = ...,
    discard_ratio: float | None = ...,
    n_steps: int | None = ...,
    n_samples: int | None = ...,
    noise_level: float | None = ...,
    patch_window: int | None = ...,
    view: Literal["colors", "similarity", "norms"] | None = ...,
    seed: int | None = ...,
) -> Explanation: ...
@overload
def explain(
    model: str | Path | ImageClassifier,
    images: Sequence[ImageInput],
    *,
    method: str = ...,
    target: str | int | Target | PixelRegion | None = ...,
    query: Region | None = ...,
    options: MethodOptions | None = ...,
    callback: Callback | None = ...,
    layer: int | None = ...,
    head: int | None = ...,
    head_fusion: Literal["mean", "max", "min"] | None = ...,
    discard_ratio: float | None = ...,
    n_steps: int | None = ...,
    n_samples: int | None = ...,
    noise_level: float | None = ...,
    patch_window: int | None = ...,
    view: Literal["colors", "similarity", "norms"] | None = ...,
    seed: int | None = ...,
) -> list[Explanation]: ...
def explain(
    model: str | Path | ImageClassifier,
    images: ImageInput | Sequence[ImageInput],
    *,
    method: str = "attention",
    target: str | int | Target | PixelRegion | None = None,
    query: Region | None = None,
    options: MethodOptions | None = None,
    callback: Callback | None = None,
    layer: int | None = None,
    head: int | None = None,
    head_fusion: Literal["mean", "max", "min"] | None = None,
    discard_ratio: float | None = None,
    n_steps: int | None = None,
    n_samples: int | None = None,
    noise_level: float | None = None,
    patch_window: int | None = None,
    view: Literal["colors", "similarity", "norms"] | None = None,
    seed: int | None = None,
) -> Explanation | list[Explanation]:
    """Explain one image, or several: compute a map of each in its own pixels.

    Args:
        model: whatever `load` takes, or a loaded model.
        images: a path, a Pillow image or a uint8 array (height, width, 3); or a list of them, which may differ in size.
        method: a name in `vitreous.methods()`.
        target: what the map explains: a class by name or index; "cat - dog" for the difference of two classes;
            "text:a photo of a cat" for an image-text model; "region:x0,y0,x1,y1" for a box in pixels; or a Target. The
            predicted class by default. For a method that doesn't depend on the target, only the target's score is
            computed.
        query: a point (x, y) or a box (x0, y0, x1, y1) in pixels of the image. The patch there, or the mean over the
            patches in the box, is followed instead of the model's readout.
        options: options of the method as one record; the keywords that follow take precedence.
        callback: for a list of images, receives the number of explained images after each batch; it may stop the work
            in between, and the explanations so far are returned.
        layer, head, head_fusion, discard_ratio, n_steps, n_samples, noise_level, patch_window, view, seed: single
            options of the method; see `MethodOptions`.

    Returns:
        An Explanation for one image, or a list of them for a list of images.

    Raises:
        InputError: there is no such model, image, method, layer, head, class or patch; or the method doesn't use an
            option that is given.

    Example:
        >>> vitreous.explain("runs/shapes", "photo.jpg", method="rollout").heatmap.shape  # doctest: +SKIP
        (480, 640)
    """
    given = {
        "layer": layer, "head": head, "head_fusion": head_fusion, "discard_ratio": discard_ratio, "n_steps": n_steps,
        "n_samples": n_samples, "noise_level": noise_level, "patch_window": patch_window, "view": view, "seed": seed,
    }  # fmt: skip
    merged, region = merge_options(options, given), None if query is None else checked_region(query)
    classifier = load(model, callback=callback)
    task = resolve_task(classifier, method, merged, target, region)
    if isinstance(images, list | tuple):
        return run_task(classifier, images, task, callback)
    return run_task(classifier, [images], task)[0]  # ty: ignore[invalid-argument-type]
