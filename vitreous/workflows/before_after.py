"""Explain images with two models: a model before tuning, and the tuned one."""

from collections.abc import Sequence
from pathlib import Path
from typing import Unpack, overload

from vitreous.arguments import check_arguments
from vitreous.callbacks import Callback, LogCallback, Progress
from vitreous.diagnostics.model_before import load_pair
from vitreous.explanation.before_after import ExplanationPair
from vitreous.explanation.model_pair import resolve_pair_task, run_pair_task
from vitreous.explanation.options import MethodKeywords, MethodOptions, merge_options
from vitreous.explanation.regions import PixelRegion, Region, validate_region
from vitreous.explanation.target_parsing import note_unused_target
from vitreous.imaging.preprocessing import ResizeMode
from vitreous.model.classifier import ImageClassifier, ImageInput
from vitreous.pretrained.load import load

BATCH_IMAGES = 16


@overload
def explain_before_after(
    model: str | Path | ImageClassifier,
    images: ImageInput,
    *,
    before: str | Path | ImageClassifier | None = ...,
    method: str = ...,
    target: str | int | PixelRegion | None = ...,
    query: Region | PixelRegion | None = ...,
    options: MethodOptions | None = ...,
    input_size: int | Sequence[int] | None = ...,
    resize_mode: ResizeMode | None = ...,
    callback: Callback | None = ...,
    **keywords: Unpack[MethodKeywords],
) -> ExplanationPair: ...
@overload
def explain_before_after(
    model: str | Path | ImageClassifier,
    images: Sequence[ImageInput],
    *,
    before: str | Path | ImageClassifier | None = ...,
    method: str = ...,
    target: str | int | PixelRegion | None = ...,
    query: Region | PixelRegion | None = ...,
    options: MethodOptions | None = ...,
    input_size: int | Sequence[int] | None = ...,
    resize_mode: ResizeMode | None = ...,
    callback: Callback | None = ...,
    **keywords: Unpack[MethodKeywords],
) -> list[ExplanationPair]: ...
@check_arguments
def explain_before_after(
    model: str | Path | ImageClassifier,
    images: ImageInput | Sequence[ImageInput],
    *,
    before: str | Path | ImageClassifier | None = None,
    method: str = "attention",
    target: str | int | PixelRegion | None = None,
    query: Region | PixelRegion | None = None,
    options: MethodOptions | None = None,
    input_size: int | Sequence[int] | None = None,
    resize_mode: ResizeMode | None = None,
    callback: Callback | None = None,
    **keywords: Unpack[MethodKeywords],
) -> ExplanationPair | list[ExplanationPair]:
    """Explain one image, or several, with a tuned model and with the model that it was tuned from.

    Both get the same part of the image at the same size: the tuned model's input.

    Args:
        model: the tuned model: the folder of a run that was started with `init`, or with `before` whatever `load`
            takes, or a loaded model.
        images: as in `explain`.
        before: the earlier model, as `load` takes it, or a loaded model; by default the one that the run started from,
            if its weights are still the same.
        method: a name in `vitreous.methods()`.
        target: what both maps explain: a class that both models have, by name or by its index in `model`; otherwise as
            text, as in `explain`. By default it is the class that `model` predicts if both have it, and otherwise each
            model's own prediction, or features.
        query: as in `explain`.
        options: as in `explain`.
        input_size: as in `load`; for both models.
        resize_mode: as in `load`; for both models.
        callback: for a list of images, receives the number of explained images after each batch; it may stop the work
            in between, and the pairs so far are returned. It also receives notes.
        **keywords: single options of the method, as in `explain`.

    Returns:
        An ExplanationPair for one image, or a list of them for a list of images.

    Raises:
        InputError: there is no such model, image, method, layer, head, class or patch; the run wasn't started from a
            model, or that has other weights now; only one model has the target; or the models take images of
            different numbers of channels.

    Example:
        >>> pair = vitreous.explain_before_after("runs/photos", "rose.jpg", method="grad-cam")  # doctest: +SKIP
        >>> pair.before.prediction.label, pair.after.prediction.label                           # doctest: +SKIP
        ('bird', 'rose')
    """
    merged, region = merge_options(options, keywords), None if query is None else validate_region(query)
    notes = callback or LogCallback()
    after = load(model, input_size=input_size, resize_mode=resize_mode, callback=callback)
    task = resolve_pair_task(load_pair(after, before, notes), method, merged, target, region)
    note_unused_target([method], target, callback)
    if not isinstance(images, list | tuple):
        return run_pair_task(task, [images])[0]  # ty: ignore[invalid-argument-type]
    pairs: list[ExplanationPair] = []
    while len(pairs) < len(images) and not notes.should_stop():
        pairs += run_pair_task(task, images[len(pairs) : len(pairs) + BATCH_IMAGES])
        if callback is not None:
            callback.on_progress(Progress(len(pairs), len(images), f"{method} of two models"))
    return pairs
