"""Show what a model looks at on images."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from vitreous.data.sources import load_images
from vitreous.diagnostics.test_set import check_classes, reading_of
from vitreous.errors import InputError, unknown
from vitreous.explanation.coordinates import swapped
from vitreous.explanation.explain import Asked, all_heads, explain_batch
from vitreous.explanation.figures import prediction_caption, query_mask, shared_legends
from vitreous.explanation.options import MethodOptions
from vitreous.explanation.registry import METHODS
from vitreous.explanation.result import Explanation
from vitreous.explanation.targets import Target
from vitreous.imaging.reading import as_image_u8
from vitreous.model.classifier import ImageClassifier, ImageInput
from vitreous.pretrained.load import load
from vitreous.records import from_dict
from vitreous.render.overlay import overlay
from vitreous.render.sheet import Tile, layers_by_heads, tile

METHODS_ACROSS = 5
Progress = Callable[[int, int, str], object]
"""Told how much is done, how much there is in all, and what begins now."""


def explain(
    model: str | Path | ImageClassifier,
    image: ImageInput,
    method: str = "rollout",
    *,
    target: str | Target | None = None,
    query: Asked | None = None,
    **settings: Any,
) -> Explanation:
    """What the model looks at on one image, in the image's own pixels.

    Args:
        model: whatever `load` takes, or a loaded model.
        image: a file's path, a Pillow image, or uint8 (height, width, 3).
        method: a name in the table of methods, such as "attention", "rollout" or "gradient-rollout".
        target: what the map shall explain: a class, "one class - another" for the margin between them, or a Target;
            the predicted class by default. A method that is the same for every target tells only its probability.
        query: (x, y) in the image's pixels: the patch there is followed instead of what the head reads; or a box
            (x0, y0, x1, y1), whose patches are.
        **settings: further ones by name, such as layer=-1, head=0, steps=64: see `Settings`.

    Raises:
        InputError: no such model, image, method, setting, layer, head or class.
    """
    if query is not None and (isinstance(query, str) or len(query) not in (2, 4)):
        raise InputError(f"query {query!r} is no place on an image: give (x, y) or a box (x0, y0, x1, y1) in pixels")
    place = None if query is None else swapped(query)
    return explain_batch(load(model), [image], method, settings_from(settings), target, place)[0]


def settings_from(given: Mapping[str, Any]) -> MethodOptions:
    """The settings that a user named, checked.

    Raises:
        InputError: there is no such setting, or its value doesn't fit.
    """
    names = [field.name for field in fields(MethodOptions) if field.name != "query"]
    for name in given:
        if name not in names:
            raise unknown("setting", name, names)
    return from_dict(MethodOptions, dict(given), "settings")


def draw_layers_by_heads(model: str | Path | ImageClassifier, image: ImageInput) -> Image.Image:
    """Attention of every layer (rows) and head (columns), each on its own color scale."""
    classifier, pixels = load(model), as_image_u8(image)
    drawn = [[overlay(pixels, heat) for heat in heads] for heads in all_heads(classifier, pixels)]
    return layers_by_heads(
        drawn, " · ".join(filter(None, ["attention", prediction_caption(classifier.predict(pixels))]))
    )


def draw_all_methods(
    model: str | Path | ImageClassifier,
    images: Sequence[ImageInput],
    target: str | Target | None = None,
    *,
    on_progress: Progress = lambda done, total, words: None,
) -> tuple[Image.Image, dict[str, str]]:
    """Every method's map of each image, and the methods that refused this model or target, with the reason.

    `on_progress` is told methods done, methods in all, and which one begins.
    """
    classifier, images_u8 = load(model), [as_image_u8(image) for image in images]
    columns, refused = {}, {}
    for i, name in enumerate(METHODS):
        on_progress(i, len(METHODS), f"{name}, method {i + 1} of {len(METHODS)}")
        try:
            columns[name] = explain_batch(classifier, images_u8, name, target=target)
        except InputError as error:
            refused[name] = str(error)
    on_progress(len(METHODS), len(METHODS), "all methods")
    if not columns:
        raise InputError("no method applies: " + "; ".join(dict.fromkeys(refused.values())))
    tiles = []
    for image_u8, row in zip(images_u8, zip(*columns.values(), strict=True), strict=True):
        tiles += _methods_row(image_u8, row, told=target is not None)
    shown = [explanations[0] for explanations in columns.values()]
    told = next((one.target for one in shown if one.target), None)
    title = "every method" + (f" · explains: {told}" if told else "")
    return tile(tiles, METHODS_ACROSS, title=title, legends=shared_legends(shown)), refused


def _methods_row(image_u8: np.ndarray, row: Sequence[Explanation], *, told: bool) -> list[Tile]:
    """An image and all its maps, and white where the sheet's last row has room left.

    `told` is whether a target was given: a map that is the same for every target says so then.
    """
    masks = [query_mask(one) for one in row]
    mask = next((each for each in masks if each is not None), None)
    tiles = [Tile(image_u8, (prediction_caption(row[0].prediction) or "input",), marked=mask)]
    for one, each in zip(row, masks, strict=True):
        alike = told and not METHODS[one.method].is_class_specific
        tiles.append(Tile(one.render(), (one.method, "same for every target") if alike else (one.method,), marked=each))
    return tiles + [Tile(np.full_like(image_u8, 255))] * (-len(tiles) % METHODS_ACROSS)


def explain_test_images(
    classifier: ImageClassifier, count: int, method: str, settings: MethodOptions, source: str
) -> tuple[list[Explanation], list[str]]:
    """Explanations of the first images of a source's test split, and the truth about each."""
    test_set = load_images(source, "test", classifier.preprocessing.input_size, options=reading_of(classifier, source))
    check_classes(classifier, test_set, source)
    chosen = test_set.select(list(range(min(count, len(test_set)))))
    images = chosen.images_u8.expand(-1, 3, -1, -1).permute(0, 2, 3, 1).cpu().numpy()
    truths = [test_set.class_names[label] for label in chosen.labels.tolist()]
    return explain_batch(classifier, list(images), method, settings), truths


def label_from_folder(path: Path, class_names: Sequence[str]) -> str | None:
    """The class that an image's folder is named after, if it is one of the model's."""
    return path.resolve().parent.name if path.resolve().parent.name in class_names else None
