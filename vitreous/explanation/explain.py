"""Explain images: the path from images in their own pixels to explanations, which all methods share."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from vitreous.callbacks import Callback, Progress
from vitreous.errors import InputError
from vitreous.explanation.attribute import run_method
from vitreous.explanation.method import Maps, Method
from vitreous.explanation.options import MethodOptions, patches_in_query
from vitreous.explanation.regions import PixelRegion, Region, locate_query
from vitreous.explanation.registry import find_method
from vitreous.explanation.result import Explanation
from vitreous.explanation.streaming.attention_products import row_times_attention
from vitreous.explanation.streaming.light_trace import LightTrace
from vitreous.explanation.streaming.tokens import to_grid
from vitreous.explanation.target_parsing import find_target, target_for_image
from vitreous.imaging.geometry import Geometry
from vitreous.imaging.reading import as_image_u8
from vitreous.model.classifier import ImageClassifier, ImageInput
from vitreous.model.prediction import Prediction
from vitreous.tasks.registry import find_task
from vitreous.tasks.targets import PerImageTarget, RegionTarget, Target

MAX_BATCH_PIXELS = 16 * 224 * 224
"""Pixels in one forward pass; its trace, or its autograd graph, stays in memory until the maps are computed."""


@dataclass(frozen=True)
class ExplainTask:
    """What to compute for each image, with all names resolved."""

    method_name: str
    method: Method
    options: MethodOptions
    """Without `query`, which depends on the image."""
    target: Target | PixelRegion
    query: Region | None
    """A point (x, y) or a box (x0, y0, x1, y1) in pixels of the image."""
    target_given: bool
    """Whether the user named a target."""


@dataclass(frozen=True)
class _Input:
    """An image, and what the model gets of it."""

    image_u8: np.ndarray
    pixels: Tensor
    """(channels, height, width), normalized."""
    geometry: Geometry
    target: Target
    options: MethodOptions

    @property
    def group(self) -> tuple[object, ...]:
        """Images of one group can be explained in one batch."""
        region = self.target if isinstance(self.target, RegionTarget) else None
        return tuple(self.pixels.shape), self.options.query, region


def resolve_task(
    classifier: ImageClassifier,
    method: str,
    options: MethodOptions | None = None,
    target: str | int | Sequence[str | int] | Target | PixelRegion | None = None,
    query: Region | None = None,
) -> ExplainTask:
    """Look up the method and the target, and check the options.

    Raises:
        InputError: there is no such method, class or text tower, or the method doesn't use one of the options.
    """
    options = options or MethodOptions()
    found = find_method(method, options if query is None else replace(options, query=(0, 0)))
    return ExplainTask(method, found, options, find_target(classifier, target), query, target is not None)


def explain_batch(
    classifier: ImageClassifier,
    images: Sequence[ImageInput],
    method: str = "attention",
    options: MethodOptions | None = None,
    target: str | int | Sequence[str | int] | Target | PixelRegion | None = None,
    query: Region | None = None,
) -> list[Explanation]:
    """Explain images, which may differ in size.

    Args:
        classifier: the model.
        images: paths, Pillow images or uint8 arrays (height, width, 3).
        method: a name in METHODS.
        options: options of the method.
        target: what the maps explain, as in `find_target`.
        query: a point (x, y) or a box (x0, y0, x1, y1) in pixels of each image. The patch there, or the mean over the
            patches in the box, is followed instead of the readout.

    Raises:
        InputError: there is no such method, layer, head, class or patch; or the method doesn't use one of the options.
    """
    return run_task(classifier, images, resolve_task(classifier, method, options, target, query))


def run_task(
    classifier: ImageClassifier, images: Sequence[ImageInput], task: ExplainTask, callback: Callback | None = None
) -> list[Explanation]:
    """Explain images; those that the model receives at one size run in batches.

    `callback` gets the number of explained images after each batch. If it asks to stop, the first images whose
    explanations are complete are returned.

    Raises:
        InputError: an image can't be read, or the method can't explain this model.
    """
    inputs = [_prepare(classifier, image, task) for image in images]
    results: list[Explanation | None] = [None] * len(inputs)
    done, batches = 0, group_by_shape([one.group for one in inputs], [one.pixels[0].numel() for one in inputs])
    for indices in batches:
        if callback is not None and callback.should_stop():
            break
        chosen = [inputs[i] for i in indices]
        options, target = chosen[0].options, chosen[0].target
        if isinstance(target, PerImageTarget):
            target = target.select(indices, len(inputs))
        pixels = torch.stack([one.pixels for one in chosen])
        maps = run_method(classifier.model, pixels, task.method, target, options)
        found = _explanations(classifier, replace(task, options=options), target, maps, chosen)
        for i, explanation in zip(indices, found, strict=True):
            results[i] = explanation
        done += len(indices)
        if callback is not None:
            of_images = "of 1 image" if len(inputs) == 1 else f"of {len(inputs)} images"
            callback.on_progress(Progress(done, len(inputs), f"{task.method_name}, {done} {of_images}"))
    stopped = results.index(None) if None in results else len(results)
    return [result for result in results[:stopped] if result is not None]


def _prepare(classifier: ImageClassifier, image: ImageInput, task: ExplainTask) -> _Input:
    image_u8 = as_image_u8(image)
    pixels, geometry = classifier.preprocess(image_u8)
    patch_size, options = classifier.preprocessing.patch_size, task.options
    if task.query is not None:
        options = replace(options, query=locate_query(task.query, geometry, patch_size))
    return _Input(image_u8, pixels, geometry, target_for_image(task.target, geometry, patch_size), options)


def _explanations(
    classifier: ImageClassifier, task: ExplainTask, target: Target, maps: Maps, inputs: Sequence[_Input]
) -> list[Explanation]:
    """Make one explanation per image, in the image's own pixels."""
    predictions = classifier.postprocess(maps.logits)
    scores = _target_scores(classifier, target, maps.logits, predictions) if task.target_given else [None] * len(inputs)
    # The score of a region is read from tokens, which are no longer in memory.
    named = task.method.is_class_specific or (task.target_given and not isinstance(target, RegionTarget))
    results = []
    for i, one in enumerate(inputs):
        name = target.name_of(i) if isinstance(target, PerImageTarget) else target.name
        patch_map = maps.values[i].float().cpu().numpy()
        if not np.isfinite(patch_map).all():
            raise InputError(f"{task.method_name} gives values that are not finite: check the model's weights for NaN")
        delta, colors = maps.convergence_delta, maps.colors
        geometry = one.geometry.of_patches(patch_map.shape, classifier.preprocessing.patch_size)
        results.append(
            Explanation(
                patch_map=patch_map, geometry=geometry, image_u8=one.image_u8, method=task.method_name,
                scale_kind=task.method.scale_kind, prediction=predictions[i], options=task.options, layer=maps.layer,
                head=maps.head, target=name if named else None, score=scores[i],
                convergence_delta=None if delta is None else float(delta[i]),
                patch_colors=None if colors is None else colors[i].float().cpu().numpy(),
                region=_explained_region(target, task.options, patch_map),
            )
        )  # fmt: skip
    return results


def _target_scores(
    classifier: ImageClassifier, target: Target, logits: Tensor, predictions: Sequence[Prediction]
) -> list[float] | list[None]:
    """Return the score of any target but a region, for each image, as the model's task expresses it."""
    if isinstance(target, RegionTarget):
        return [None] * len(logits)
    return find_task(classifier.task).score_target(classifier, target, logits, predictions)


def _explained_region(target: Target, options: MethodOptions, patch_map: np.ndarray) -> RegionTarget | None:
    """Return the patches of a target that is a region, or those of the query."""
    if isinstance(target, RegionTarget) or options.query is None:
        return target if isinstance(target, RegionTarget) else None
    return RegionTarget(patches_in_query(options.query), (patch_map.shape[0], patch_map.shape[1]), "query")


@dataclass(frozen=True)
class HeadMaps:
    """The attention of every layer and head on one image, from one forward pass."""

    heatmaps: list[list[np.ndarray]]
    """For each layer, one map per head: float32 (height, width) in pixels of the image; 1 means uniform attention."""
    prediction: Prediction


@torch.no_grad()
def all_heads(classifier: ImageClassifier, image: ImageInput) -> HeadMaps:
    """Compute the readout's attention in every layer and head from one forward pass."""
    inputs, geometry = classifier.preprocess(image)
    trace = LightTrace()
    logits = classifier.model(inputs[None], trace)
    assert trace.readout is not None
    layers = []
    for record in trace.layers:
        heads = to_grid(row_times_attention(trace.readout, record)[0], trace)
        spanned = geometry.of_patches(tuple(heads.shape[1:]), classifier.preprocessing.patch_size)
        layers.append([spanned.to_image(grid * grid.size) for grid in heads.float().cpu().numpy()])
    return HeadMaps(layers, classifier.postprocess(logits)[0])


def group_by_shape(keys: Sequence[object], pixels: Sequence[int]) -> list[list[int]]:
    """Group the indices of equal keys into batches of at most MAX_BATCH_PIXELS pixels, but at least one image.

    >>> group_by_shape(["a", "b", "a"], [100, 100, 100])
    [[0, 2], [1]]
    """
    groups: dict[object, list[int]] = {}
    for index, key in enumerate(keys):
        groups.setdefault(key, []).append(index)
    result = []
    for indices in groups.values():
        step = max(1, MAX_BATCH_PIXELS // pixels[indices[0]])
        result += [indices[i : i + step] for i in range(0, len(indices), step)]
    return result
