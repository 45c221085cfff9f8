"""Explain images: which parts of an image a model's output depends on."""

from collections.abc import Sequence
from pathlib import Path
from typing import Unpack, overload

from vitreous.arguments import check_arguments
from vitreous.callbacks import Callback
from vitreous.explanation.explain import resolve_task, run_task
from vitreous.explanation.options import MethodKeywords, MethodOptions, merge_options
from vitreous.explanation.regions import PixelRegion, Region, validate_region
from vitreous.explanation.result import Explanation
from vitreous.explanation.target_parsing import note_unused_target
from vitreous.imaging.preprocessing import ResizeMode
from vitreous.model.classifier import ImageClassifier, ImageInput
from vitreous.model.vit import ViT
from vitreous.pretrained.load import load
from vitreous.tasks.targets import Target


@overload
def explain(
    model: str | Path | ImageClassifier | ViT,
    images: ImageInput,
    *,
    method: str = ...,
    target: str | int | Target | PixelRegion | None = ...,
    query: Region | PixelRegion | None = ...,
    options: MethodOptions | None = ...,
    input_size: int | Sequence[int] | None = ...,
    resize_mode: ResizeMode | None = ...,
    callback: Callback | None = ...,
    **keywords: Unpack[MethodKeywords],
) -> Explanation: ...
@overload
def explain(
    model: str | Path | ImageClassifier | ViT,
    images: Sequence[ImageInput],
    *,
    method: str = ...,
    target: str | int | Sequence[str | int] | Target | PixelRegion | None = ...,
    query: Region | PixelRegion | None = ...,
    options: MethodOptions | None = ...,
    input_size: int | Sequence[int] | None = ...,
    resize_mode: ResizeMode | None = ...,
    callback: Callback | None = ...,
    **keywords: Unpack[MethodKeywords],
) -> list[Explanation]: ...
@check_arguments
def explain(
    model: str | Path | ImageClassifier | ViT,
    images: ImageInput | Sequence[ImageInput],
    *,
    method: str = "attention",
    target: str | int | Sequence[str | int] | Target | PixelRegion | None = None,
    query: Region | PixelRegion | None = None,
    options: MethodOptions | None = None,
    input_size: int | Sequence[int] | None = None,
    resize_mode: ResizeMode | None = None,
    callback: Callback | None = None,
    **keywords: Unpack[MethodKeywords],
) -> Explanation | list[Explanation]:
    """Explain one image, or several: compute a map of each in its own pixels.

    Args:
        model: whatever `load` takes, or a loaded model.
        images: a path, a Pillow image or a uint8 array (height, width, 3); or a list of them, which may differ in size.
        method: a name in `vitreous.methods()`.
        target: what the map explains: a class by name or index; "cat - dog" for the difference of two classes;
            "text:a photo of a cat" for an image-text model; "region:x0,y0,x1,y1" for a box in pixels; a list of
            classes by name or index, one per image; or a Target. The predicted class by default. For a method that
            doesn't depend on the target, only the target's score is computed, and a note says so.
        query: a point (x, y) or a box (x0, y0, x1, y1) in pixels of the image. The patch there, or the mean over the
            patches in the box, is followed instead of the model's readout.
        options: options of the method as one record.
        input_size: side, or (height, width), in pixels of the model's input, as in `load`.
        resize_mode: how images are brought to the model's input size, as in `load`.
        callback: for a list of images, receives the number of explained images after each batch; it may stop the work
            in between, and the explanations so far are returned.
        **keywords: single options of the method, which take precedence: layer, head, head_fusion, discard_ratio,
            n_steps, n_samples, noise_level, patch_window, view, seed; see `MethodKeywords`.

    Returns:
        An Explanation for one image, or a list of them for a list of images.

    Raises:
        InputError: there is no such model, image, method, layer, head, class or patch; or the method doesn't use an
            option that is given.

    Example:
        >>> vitreous.explain("runs/shapes", "photo.jpg", method="rollout").heatmap.shape  # doctest: +SKIP
        (480, 640)
    """
    merged, region = merge_options(options, keywords), None if query is None else validate_region(query)
    classifier = load(model, input_size=input_size, resize_mode=resize_mode, callback=callback)
    task = resolve_task(classifier, method, merged, target, region)
    note_unused_target([method], target, callback)
    if isinstance(images, list | tuple):
        return run_task(classifier, images, task, callback)
    return run_task(classifier, [images], task)[0]  # ty: ignore[invalid-argument-type]
