"""Show what a model looks at on images."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from vitreous.data.images import as_image_u8
from vitreous.data.sources import load_images
from vitreous.errors import InputError, unknown
from vitreous.explanation.images import Asked, every_head, explain_batch
from vitreous.explanation.method import Method
from vitreous.explanation.methods import METHODS
from vitreous.explanation.result import Explanation
from vitreous.explanation.settings import Settings, asked_places
from vitreous.explanation.targets import Region, Target
from vitreous.files import written_beside
from vitreous.records import from_dict
from vitreous.render.color import Scale
from vitreous.render.overlay import overlay
from vitreous.render.sheet import GalleryItem, Legend, Tile, draw_explanation, gallery, layers_by_heads, tile
from vitreous.tasks.classification import Classifier, ImageInput, Prediction
from vitreous.workflows.cells import covered
from vitreous.workflows.evaluate import check_classes, reading_of
from vitreous.workflows.load import load
from vitreous.workflows.places import swapped

METHODS_ACROSS = 5
ALIKE = "patches of like color hold like features"
Progress = Callable[[int, int, str], object]
"""Told how much is done, how much there is in all, and what begins now."""
IMAGE_FORMATS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif")


def explain(
    model: str | Path | Classifier,
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


def settings_from(given: Mapping[str, Any]) -> Settings:
    """The settings that a user named, checked.

    Raises:
        InputError: there is no such setting, or its value doesn't fit.
    """
    names = [field.name for field in fields(Settings) if field.name != "query"]
    for name in given:
        if name not in names:
            raise unknown("setting", name, names)
    return from_dict(Settings, dict(given), "settings")


def explanation_image(explanation: Explanation, truth: str | None = None) -> Image.Image:
    """An image to show to others: input and overlay side by side, with all that belongs to them in words."""
    right = None if truth is None else truth == explanation.prediction.name
    title, lines = verdict(explanation.prediction) or "what the model looks at", caption(explanation, truth)
    images = explanation.image_u8, explanation.drawn()
    shown = replace(legend(explanation), values=scale_values(explanation))
    return draw_explanation(images, title, lines, shown, right=right, marked=marked(explanation))


def marked(explanation: Explanation) -> np.ndarray | None:
    """Which pixels the map starts from, or explains, bool (height, width); None for the whole image."""
    query, patches = explanation.settings.query, explanation.asked
    if ignored_region(explanation) is not None:
        rows, columns = explanation.grid.shape
        patches = None if query is None else Region(asked_places(query), (rows, columns), "query")
    return None if patches is None else covered(patches, explanation.geometry)


def ignored_region(explanation: Explanation) -> Region | None:
    """The region that was asked for, where the method's map is the same for every target."""
    asked, method = explanation.asked, METHODS[explanation.method]
    return None if asked is None or method.asks_target or asked.name == "query" else asked


def legend(explanation: Explanation) -> Legend:
    """What the map is called, and what its colors mean."""
    if explanation.grid_colors is not None:
        return Legend(explanation.method, None)
    if explanation.kind == "signed":
        ends = ("against", "for") if explanation.target else ("less", "more")
        return Legend(explanation.method, ends, signed=True)
    return Legend(explanation.method, ("little", "much attention" if explanation.kind == "share" else "much"))


def scale_values(explanation: Explanation) -> tuple[str, str] | None:
    """The numbers at the ends of the map's colors; attention in multiples of what is even over the patches."""
    if explanation.grid_colors is not None:
        return None
    scale = Scale.fitting(explanation.heat, signed=explanation.kind == "signed")
    low, high = (f"{value:.2g}".replace("-", "−") for value in (scale.low, scale.high))
    return (f"{low} × even", f"{high} × even") if explanation.kind == "share" else (low, high)


def layers_and_heads_image(model: str | Path | Classifier, image: ImageInput) -> Image.Image:
    """Attention of every layer (rows) and head (columns), each on its own color scale."""
    classifier, pixels = load(model), as_image_u8(image)
    drawn = [[overlay(pixels, heat) for heat in heads] for heads in every_head(classifier, pixels)]
    return layers_by_heads(drawn, " · ".join(filter(None, ["attention", verdict(classifier.predict(pixels))])))


def methods_image(
    model: str | Path | Classifier,
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
    return tile(tiles, METHODS_ACROSS, title=title, legends=common_legends(shown)), refused


def _methods_row(image_u8: np.ndarray, row: Sequence[Explanation], *, told: bool) -> list[Tile]:
    """An image and all its maps, and white where the sheet's last row has room left.

    `told` is whether a target was given: a map that is the same for every target says so then.
    """
    masks = [marked(one) for one in row]
    mask = next((each for each in masks if each is not None), None)
    tiles = [Tile(image_u8, (verdict(row[0].prediction) or "input",), marked=mask)]
    for one, each in zip(row, masks, strict=True):
        alike = told and not METHODS[one.method].asks_target
        tiles.append(Tile(one.drawn(), (one.method, "same for every target") if alike else (one.method,), marked=each))
    return tiles + [Tile(np.full_like(image_u8, 255))] * (-len(tiles) % METHODS_ACROSS)


def common_legends(explanations: Sequence[Explanation]) -> list[Legend]:
    """What the colors mean on a sheet with maps of several methods, once for each way to color."""
    found = [legend(one) for one in explanations]
    legends = [Legend("", ("little", "much"))] if any(one.ends and not one.signed for one in found) else []
    signed = next((one for one in found if one.signed), None)
    legends += [signed] if signed else []
    return legends + [Legend(f"{one.name}: {ALIKE}", None) for one in found if one.ends is None]


def gallery_image(explanations: Sequence[Explanation], truths: Sequence[str | None]) -> Image.Image:
    """Several explanations side by side with truth and prediction, right and wrong ones marked, and their target."""
    pairs = zip(explanations, truths, strict=True)
    first = explanations[0]
    parts = ["truth / "] if any(truths) else []
    parts += ["prediction / "] if first.prediction.ranking else []
    if first.settings.query is None:
        parts += [first.words()]
    else:  # which patch it is differs with the image's shape
        parts += [replace(first, settings=replace(first.settings, query=None)).words(), " · from what is outlined"]
    about = target_words(replace(first, score=None), METHODS[first.method]) if says_target(first) else ""
    parts += [f" · {about}"] if about else []
    items = [_item(explanation, truth) for explanation, truth in pairs]
    return gallery(items, "".join(parts), legends=common_legends([first]))


def explain_test_images(
    classifier: Classifier, count: int, method: str, settings: Settings, source: str
) -> tuple[list[Explanation], list[str]]:
    """Explanations of the first images of a source's test split, and the truth about each."""
    test_set = load_images(source, "test", classifier.preprocessing.size_hw, reading=reading_of(classifier, source))
    check_classes(classifier, test_set, source)
    chosen = test_set.select(list(range(min(count, len(test_set)))))
    images = chosen.images_u8.expand(-1, 3, -1, -1).permute(0, 2, 3, 1).cpu().numpy()
    truths = [test_set.class_names[label] for label in chosen.labels.tolist()]
    return explain_batch(classifier, list(images), method, settings), truths


def truth_from_folder(path: Path, class_names: Sequence[str]) -> str | None:
    """The class that an image's folder is named after, if it is one of the model's."""
    return path.resolve().parent.name if path.resolve().parent.name in class_names else None


def save_image(image: Image.Image, path: Path | str) -> None:
    """Write an image, whole or not at all, in the format that its name ends in.

    Raises:
        InputError: the ending is no image format, or the file can't be written.
    """
    if Path(path).suffix.lower() not in IMAGE_FORMATS:
        raise InputError(f"can't write an image as '{path}': let its name end in {', '.join(IMAGE_FORMATS)}")
    with written_beside(path) as temporary:
        image.save(temporary)


def verdict(prediction: Prediction) -> str:
    """A prediction in words: "cat 93 %"; nothing for a model without classes."""
    return f"{prediction.name} {100 * prediction.probability:.0f} %" if prediction.ranking else ""


def caption(explanation: Explanation, truth: str | None) -> list[str]:
    """The lines under an image: truth if known; method, layer and head; what the map explains, and how well."""
    lines = [] if truth is None else [f"truth: {truth}"]
    lines.append(explanation.words())
    if says_target(explanation):
        lines.append(target_words(explanation, METHODS[explanation.method]))
    if explanation.grid_colors is not None:
        lines.append(ALIKE)
    if explanation.gap is not None:
        lines.append(f"the map's sum misses the score's gain over the mean color by {explanation.gap:+.2g}")
    return lines


def says_target(explanation: Explanation) -> bool:
    """Whether there is a target to speak of: one that the map explains, or one that was asked for in vain."""
    explained = explanation.target is not None and METHODS[explanation.method].asks_target
    return explained or explanation.score is not None or ignored_region(explanation) is not None


def target_words(explanation: Explanation, method: Method) -> str:
    """What the map explains, how much there is of it, and whether the map would be another one for another target."""
    score = "" if explanation.score is None else f" {explanation.score:.3g}"
    if explanation.score is not None and explanation.target in dict(explanation.prediction.ranking):
        score = f" {100 * explanation.score:.1f} %"
    if not method.asks_target:
        region = ignored_region(explanation)
        name = explanation.target if region is None else region.name
        return f"{name}{score} · this method's map is the same for every target"
    return f"explains: {explanation.target}{score}"


def _item(explanation: Explanation, truth: str | None) -> GalleryItem:
    ranking = explanation.prediction.ranking
    name, probability = ranking[0] if ranking else ("", 0.0)
    return GalleryItem(explanation.image_u8, explanation.drawn(), truth, name, probability, marked(explanation))
