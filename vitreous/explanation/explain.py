"""From images to explanations: the way that all methods share."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from vitreous.errors import InputError
from vitreous.explanation.method import AttributeFunction, Maps, Method
from vitreous.explanation.options import MethodOptions, patches_in_query
from vitreous.explanation.regions import PixelRegion, parse_region
from vitreous.explanation.registry import find_method
from vitreous.explanation.result import Explanation
from vitreous.explanation.streaming.attention_products import row_times_attention
from vitreous.explanation.streaming.light_trace import LightTrace
from vitreous.explanation.streaming.tokens import to_grid
from vitreous.explanation.targets import (
    ClassDifferenceTarget,
    ClassTarget,
    DirectionTarget,
    FeatureNormTarget,
    PredictedClassTarget,
    RegionTarget,
    Target,
    suggest_class_difference,
)
from vitreous.explanation.text_targets import text_target
from vitreous.imaging.geometry import Geometry
from vitreous.imaging.reading import as_image_u8
from vitreous.model.classifier import ImageClassifier, ImageInput

Asked = tuple[float, float] | tuple[float, float, float, float]
"""A place (down, across), or a box (top, left, bottom, right), in source pixels."""
BATCH_PIXELS = 16 * 224 * 224
"""Pixels in one pass of the model, whose trace, or graph for gradients, is kept until they are explained."""


@dataclass(frozen=True)
class _Question:
    """What is asked of each of several images."""

    method_name: str
    method: Method
    settings: MethodOptions
    target: Target


def explain_batch(
    classifier: ImageClassifier,
    images: Sequence[ImageInput],
    method: str = "rollout",
    settings: MethodOptions | None = None,
    target: str | Target | None = None,
    query_yx: Asked | None = None,
    *,
    by: AttributeFunction | None = None,
) -> list[Explanation]:
    """Explanations of images, which may differ in size; those that the model sees at one size run as one batch.

    Args:
        classifier: the model.
        images: files, Pillow images or uint8 (height, width, 3).
        method: a name in METHODS.
        settings: what the method is told; its own choices by default.
        target: a class, two classes as "cat - dog" for the margin between them, "text:a photo of a cat" for an
            image-text model, "region:x0,y0,x1,y1" in source pixels, or any Target; the predicted class by default.
        query_yx: a place in source pixels, down and across: the patch there becomes `settings.query`; or a box (top,
            left, bottom, right), of whose patches the mean is taken.
        by: asked in place of the method's own function, such as one that remembers images from call to call.

    Raises:
        InputError: unknown method, layer, head or class, or a setting that the method has no use for.
    """
    settings = settings or MethodOptions()
    if query_yx is not None:
        settings = replace(settings, query=(0, 0))  # the method is asked now whether it has a use for one
    chosen, wanted = find_method(method, settings), find_target(classifier, target)
    chosen = chosen if by is None else replace(chosen, attribute=by)
    images_u8 = [as_image_u8(image) for image in images]
    prepared = [classifier.preprocess(image_u8) for image_u8 in images_u8]
    queries = [None if query_yx is None else locate_query(classifier, query_yx, geometry) for _, geometry in prepared]
    targets = [_placed(wanted, classifier, geometry) for _, geometry in prepared]
    results: list[Explanation | None] = [None] * len(images_u8)
    keys = [
        (inputs.shape, query, one if isinstance(one, RegionTarget) else None)
        for (inputs, _), query, one in zip(prepared, queries, targets, strict=True)
    ]
    for places in group_by_shape(keys, [inputs.shape[1] * inputs.shape[2] for inputs, _ in prepared]):
        asked = _Question(method, chosen, settings, select_directions(targets[places[0]], places, len(images_u8)))
        if query_yx is not None:
            asked = replace(asked, settings=replace(settings, query=queries[places[0]]))
        inputs = torch.stack([prepared[i][0] for i in places])
        maps = run_method(classifier, inputs, asked)
        told = target is not None
        explained = _explanations(classifier, asked, maps, [(images_u8[i], prepared[i][1]) for i in places], told)
        for i, one in zip(places, explained, strict=True):
            results[i] = one
    return [result for result in results if result is not None]


def select_directions(target: Target, places: Sequence[int], count: int) -> Target:
    """The part of a target with a direction for each of `count` images that is about those at `places`."""
    if isinstance(target, DirectionTarget) and len(target.directions) == count:
        return replace(target, directions=target.directions[list(places)])
    return target


def run_method(classifier: ImageClassifier, inputs: Tensor, question: _Question) -> Maps:
    """What the method finds, with gradients where it asks for them, and no trace of it left on the model."""
    if any(part.training for part in classifier.model.modules()):
        raise InputError("the model is in training mode, in which its answers are random: call model.vit.eval() first")
    with torch.inference_mode(False), torch.no_grad():
        # What was made in inference mode can't be part of a graph.
        images = inputs.clone() if inputs.is_inference() else inputs
        return question.method.attribute(classifier.model, images, question.target, question.settings)


def find_target(classifier: ImageClassifier, target: str | Target | None) -> Target | PixelRegion:
    """A target from what a user says: a class, "one class - another", "text:...", "region:x0,y0,x1,y1", or nothing.

    Raises:
        InputError: no class is called so (names the nearest), or the model can't read texts.
    """
    if target is None:
        return PredictedClassTarget() if classifier.class_names else FeatureNormTarget()
    if not isinstance(target, str):
        return checked_target(classifier, target)
    if target not in classifier.class_names and target.startswith("text:"):
        return text_target(classifier, target.removeprefix("text:").strip())
    if target not in classifier.class_names and target.startswith("region:"):
        return parse_region(target)
    if target not in classifier.class_names and (meant := suggest_class_difference(target, classifier.class_names)):
        raise InputError(
            f"there is no class '{target}': for what speaks for one rather than the other, write '{meant}'"
        )
    if target not in classifier.class_names and " - " in target:
        first, second = (ClassTarget(classifier.class_index(name), name) for name in target.split(" - ", 1))
        return ClassDifferenceTarget(first, second)
    return ClassTarget(classifier.class_index(target), target)


def checked_target(classifier: ImageClassifier, target: Target) -> Target:
    """A target that was given as an object.

    Raises:
        InputError: it is none, or its class is beyond the model's.
    """
    if not callable(target) or not hasattr(target, "detached"):
        raise InputError(f"{target!r} is no target: give a class by name, or a Target")
    if isinstance(target, ClassTarget) and classifier.class_names and target.index >= len(classifier.class_names):
        raise InputError(f"there is no class {target.index}: the model has {len(classifier.class_names)}, from 0")
    return target


def _placed(target: Target | PixelRegion, classifier: ImageClassifier, geometry: Geometry) -> Target:
    """The target on one image."""
    return target.on(geometry, classifier.preprocessing.patch_size) if isinstance(target, PixelRegion) else target


def locate_query(
    classifier: ImageClassifier, query_yx: Asked, geometry: Geometry
) -> tuple[int, int] | tuple[int, int, int, int]:
    """The patch under a place in source pixels, or the box of patches whose borders are nearest to a box.

    Raises:
        InputError: the place or box is on no part of the image that the model sees.
    """
    if len(query_yx) == 2:
        return patch_at(classifier, query_yx, geometry)
    top, left, bottom, right = query_yx
    patches = PixelRegion(left, top, right, bottom).on(geometry, classifier.preprocessing.patch_size).patches
    return *patches[0], patches[-1][0] + 1, patches[-1][1] + 1


def patch_at(classifier: ImageClassifier, query_yx: tuple[float, float], geometry: Geometry) -> tuple[int, int]:
    """The patch (row, column) under a place in source pixels.

    Raises:
        InputError: the place is not on the image, or on no part of it that the model sees.
    """
    patch, (top, left, bottom, right) = classifier.preprocessing.patch_size, geometry.box
    y, x = query_yx
    first_y, first_x, last_y, last_x = geometry.visible_box
    if not (first_y <= y < last_y and first_x <= x < last_x):
        raise InputError(
            f"the place {x:g},{y:g} (x, y) is not on the part of the image that the model sees: "
            f"x {first_x:g} to {last_x:g}, y {first_y:g} to {last_y:g}"
        )
    row = int((y - top) / (bottom - top) * geometry.input_size[0]) // patch
    column = int((x - left) / (right - left) * geometry.input_size[1]) // patch
    return row, column


def _explanations(
    classifier: ImageClassifier,
    question: _Question,
    maps: Maps,
    sources: Sequence[tuple[np.ndarray, Geometry]],
    told: bool,
) -> list[Explanation]:
    """One explanation an image, in its own pixels."""
    predictions, target = classifier.postprocess(maps.logits), question.target
    told = told and not isinstance(target, RegionTarget)  # a region's score is read from tokens, which are gone by now
    scores = target(maps.logits).float().tolist() if told else [None] * len(sources)
    if told and isinstance(target, ClassTarget):
        name = classifier.class_names[target.index] if classifier.class_names else target.name
        scores = [dict(prediction.scores)[name] for prediction in predictions]
    results = []
    for i, (image_u8, geometry) in enumerate(sources):
        grid = maps.values[i].float().cpu().numpy()
        if not np.isfinite(grid).all():
            raise InputError(
                f"{question.method_name} gives numbers that are not finite: look for nan in the model's weights"
            )
        named = target.name if told or question.method.is_class_specific else None
        gap = None if maps.convergence_delta is None else float(maps.convergence_delta[i])
        colors = None if maps.colors is None else maps.colors[i].float().cpu().numpy()
        results.append(
            Explanation(
                grid, geometry, image_u8, question.method_name, question.method.scale_kind, predictions[i],
                question.settings, maps.layer, maps.head, named, scores[i], gap, colors, region_patches(question, grid),
            )
        )  # fmt: skip
    return results


def region_patches(question: _Question, grid: np.ndarray) -> RegionTarget | None:
    """The patches of a target that is a region, or the one that the map starts from."""
    if isinstance(question.target, RegionTarget) or question.settings.query is None:
        return question.target if isinstance(question.target, RegionTarget) else None
    return RegionTarget(patches_in_query(question.settings.query), (grid.shape[0], grid.shape[1]), "query")


@torch.no_grad()
def all_heads(classifier: ImageClassifier, image: ImageInput) -> list[list[np.ndarray]]:
    """Attention of each layer (outer list) and head (inner list) as heat on the image, all from one pass."""
    inputs, geometry = classifier.preprocess(image)
    trace = LightTrace()
    classifier.model(inputs[None], trace)
    assert trace.readout is not None
    layers = []
    for record in trace.layers:
        heads = to_grid(row_times_attention(trace.readout, record)[0], trace)
        layers.append([geometry.to_image(grid * grid.size) for grid in heads.float().cpu().numpy()])
    return layers


def group_by_shape(keys: Sequence[object], pixels: Sequence[int]) -> list[list[int]]:
    """The places of equal keys, in groups that a model takes at once."""
    groups: dict[object, list[int]] = {}
    for place, key in enumerate(keys):
        groups.setdefault(key, []).append(place)
    result = []
    for places in groups.values():
        step = max(1, BATCH_PIXELS // pixels[places[0]])
        result += [places[i : i + step] for i in range(0, len(places), step)]
    return result
