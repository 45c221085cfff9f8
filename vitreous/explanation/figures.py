"""Figures of explanations: one image with its map and caption, a gallery, all layers and heads, all methods."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
from PIL import Image

from vitreous.errors import unknown
from vitreous.explanation.options import patches_in_query
from vitreous.explanation.regions import patch_mask
from vitreous.explanation.registry import METHODS
from vitreous.render.color import Scale
from vitreous.render.overlay import dimming_for, mean_brightness, overlay
from vitreous.render.sheet import (
    GalleryItem,
    MapLegend,
    Tile,
    draw_tiles,
    explanation_sheet,
    fit_and_outline,
    fit_gallery_item,
    gallery_sheet,
    head_grid_sheet,
)
from vitreous.render.upsample import crop_to_image
from vitreous.tasks.targets import RegionTarget

if TYPE_CHECKING:
    from vitreous.explanation.explain import HeadMaps
    from vitreous.explanation.result import Explanation

FEATURE_COLORS_NOTE = "patches of similar color have similar features"
METHODS_PER_ROW = 5
ExplanationLayout = Literal["single", "contour", "overlay", "side-by-side", "spotlight"]
"""single: a figure with title and captions; the others: the image as `explain_video` draws a frame."""
MIN_FRAME = 560
"""Long side in pixels to which smaller images are enlarged where text is drawn into them."""


def draw_explanation_figure(explanation: "Explanation", truth: str | None = None) -> Image.Image:
    """Draw image and overlay side by side with the prediction, the caption and a color bar.

    Args:
        explanation: the map and its image.
        truth: the true label, if it is known; it is compared with the prediction.
    """
    correct = explanation.prediction.is_correct(truth)
    title = explanation.prediction.caption() or explanation.method
    images = explanation.prediction.draw(explanation.image_u8), explanation.render()
    legend = replace(map_legend(explanation), end_values=scale_labels(explanation))
    lines = caption_lines(explanation, truth)
    return explanation_sheet(images, title, lines, legend, correct=correct, outlined=query_mask(explanation))


def draw_explanation(
    explanation: "Explanation", truth: str | None = None, layout: ExplanationLayout = "single"
) -> Image.Image:
    """Draw an explanation in a layout; `truth` is the true label, if it is known.

    Raises:
        InputError: there is no such layout.
    """
    if layout not in get_args(ExplanationLayout):
        raise unknown("layout", layout, get_args(ExplanationLayout))
    if layout == "single":
        return draw_explanation_figure(explanation, truth)
    return _draw_as_frame(explanation, truth, layout)


def _draw_as_frame(explanation: "Explanation", truth: str | None, layout: str) -> Image.Image:
    """Draw image and map as a frame of a video; a small image is enlarged."""
    from vitreous.render.frame_layouts import draw_frame, scale_box  # not above: figures don't need it
    from vitreous.render.frame_view import FrameView, HeatmapLayer

    height, width = explanation.image_u8.shape[:2]
    factor = max(1.0, MIN_FRAME / max(height, width))
    box_hw = (round(height * factor), round(width * factor))
    image_u8 = np.asarray(
        fit_and_outline(explanation.prediction.draw(explanation.image_u8), box_hw, query_mask(explanation))
    )
    heatmap, inner = crop_to_image(explanation.patch_heatmap, explanation.geometry.box, (height, width))
    colors = explanation.patch_colors
    if colors is not None:
        colors = crop_to_image(colors, explanation.geometry.box, (height, width))[0]
    is_signed = explanation.scale_kind == "signed"
    scale = Scale.for_map(explanation.heatmap, signed=is_signed)
    ends = map_legend(explanation).end_labels
    end_labels = " / ".join(ends) if ends and is_signed else ""
    layer = HeatmapLayer(heatmap, scale, explanation.method, inner, is_signed, end_labels, colors)
    factors = (image_u8.shape[0] / height, image_u8.shape[1] / width)
    texts = [explanation.prediction.caption(), f"true label: {truth}" if truth else ""]
    view = FrameView(
        image_u8, (scale_box(layer, factors),), " · ".join(filter(None, texts)), frame_caption(explanation),
        dimming_for(mean_brightness(image_u8)),
    )  # fmt: skip
    return Image.fromarray(draw_frame(view, layout))


def frame_caption(explanation: "Explanation") -> str:
    """Return the method and its target in one line."""
    target = target_caption(explanation) if target_in_caption(explanation) else ""
    return " · ".join(filter(None, [explanation.caption(), target]))


def draw_gallery(explanations: Sequence["Explanation"], truths: Sequence[str | None]) -> Image.Image:
    """Draw several explanations of one method in a grid, with true label, prediction and target."""
    items = [gallery_item(explanation, truth) for explanation, truth in zip(explanations, truths, strict=True)]
    return draw_gallery_items(items, explanations[0])


def draw_gallery_items(items: Sequence[GalleryItem], first: "Explanation") -> Image.Image:
    """Draw the items of several explanations of one method in a grid; the title is that of the first explanation."""
    parts = ["true label / "] if any(item.truth for item in items) else []
    parts += ["prediction / "] if first.prediction.scores else []
    if first.options.query is None:
        parts += [first.caption()]
    else:  # which patch it is differs with the image's shape
        parts += [replace(first, options=replace(first.options, query=None)).caption(), " · from the outlined patches"]
    target = target_caption(replace(first, score=None)) if target_in_caption(first) else ""
    parts += [f" · {target}"] if target else []
    return gallery_sheet(items, "".join(parts), legends=shared_legends([first]))


def draw_layers_by_heads(image_u8: np.ndarray, heads: "HeadMaps") -> Image.Image:
    """Draw the attention of every layer (rows) and head (columns), each map on its own color scale."""
    overlays = [[overlay(image_u8, heatmap) for heatmap in layer] for layer in heads.heatmaps]
    title = " · ".join(filter(None, ["attention", heads.prediction.caption()]))
    return head_grid_sheet(overlays, title)


def draw_method_tiles(
    tiles: Sequence[Tile], first: Sequence["Explanation"], columns: int = METHODS_PER_ROW
) -> Image.Image:
    """Draw the tiles of several methods; `first` are the methods' explanations of one image, for title and legends."""
    target = next((one.target for one in first if one.target), None)
    title = f"{len(first)} methods" if len(first) > 3 else ", ".join(one.method for one in first)
    return draw_tiles(
        tiles, columns, title=title + (f" · target: {target}" if target else ""), legends=shared_legends(first)
    )


def method_tiles(
    image_u8: np.ndarray,
    row: Sequence["Explanation"],
    *,
    target_given: bool,
    name: str = "",
    columns: int = METHODS_PER_ROW,
) -> list[Tile]:
    """Return the tile of an image, those of all its maps, and white ones up to the end of the last row of `columns`.

    `name` is that of the image's file.
    """
    masks = [query_mask(one) for one in row]
    mask = next((each for each in masks if each is not None), None)
    lines = (row[0].prediction.caption() or "input", *([name] if name else []))
    tiles = [Tile(row[0].prediction.draw(image_u8), lines, outlined=mask)]
    for one, each in zip(row, masks, strict=True):
        same = target_given and not METHODS[one.method].is_class_specific
        settings = one.caption().removeprefix(f"{one.method} · ") if one.options.changed() else ""
        lines = (one.method, *filter(None, [settings, "same for every target" if same else ""]))
        tiles.append(Tile(one.render(), lines, outlined=each))
    return tiles + [Tile(np.full_like(image_u8, 255))] * (-len(tiles) % columns)


def gallery_item(explanation: "Explanation", truth: str | None, name: str = "") -> GalleryItem:
    """Return what a grid shows of an explanation, at the size of a tile; `name` is that of the image's file."""
    prediction, outlined = explanation.prediction, query_mask(explanation)
    image_u8, overlaid = prediction.draw(explanation.image_u8), explanation.render()
    item = GalleryItem(image_u8, overlaid, truth, prediction.caption(), prediction.is_correct(truth), outlined, name)
    return fit_gallery_item(item)


def query_mask(explanation: "Explanation") -> np.ndarray | None:
    """Return which pixels the map starts from or explains, bool (height, width); None for the whole image."""
    query, region = explanation.options.query, explanation.region
    if ignored_region(explanation) is not None:
        rows, columns = explanation.patch_map.shape
        region = None if query is None else RegionTarget(patches_in_query(query), (rows, columns), "query")
    return None if region is None else patch_mask(region, explanation.geometry)


def ignored_region(explanation: "Explanation") -> RegionTarget | None:
    """Return the region that was given as target, if the method's map doesn't depend on the target."""
    region = explanation.region
    return None if region is None or region.name == "query" or METHODS[explanation.method].is_class_specific else region


def map_legend(explanation: "Explanation") -> MapLegend:
    """Return the name of the map and the meaning of its colors."""
    if explanation.patch_colors is not None:
        return MapLegend(explanation.method, None)
    if explanation.scale_kind == "signed":
        ends = ("against", "for") if explanation.target else ("negative", "positive")
        return MapLegend(explanation.method, ends, signed=True)
    return MapLegend(explanation.method, ("low", "high attention" if is_proportion(explanation) else "high"))


def is_proportion(explanation: "Explanation") -> bool:
    """Return whether the map's values are proportions of attention."""
    return explanation.scale_kind == "proportion"


def scale_labels(explanation: "Explanation") -> tuple[str, str] | None:
    """Return the values at the ends of the map's colors; for attention, in multiples of uniform attention."""
    if explanation.patch_colors is not None:
        return None
    scale = Scale.for_map(explanation.heatmap, signed=explanation.scale_kind == "signed")
    low, high = (f"{value:.2g}".replace("-", "−") for value in (scale.low, scale.high))
    return (f"{low} × uniform", f"{high} × uniform") if is_proportion(explanation) else (low, high)


def shared_legends(explanations: Sequence["Explanation"]) -> list[MapLegend]:
    """Return the legends of a sheet with maps of several methods, one for each way to color a map."""
    found = [map_legend(one) for one in explanations]
    legends = [MapLegend("", ("low", "high"))] if any(one.end_labels and not one.signed for one in found) else []
    signed = next((one for one in found if one.signed), None)
    legends += [signed] if signed else []
    return legends + [MapLegend(f"{one.name}: {FEATURE_COLORS_NOTE}", None) for one in found if one.end_labels is None]


def caption_lines(explanation: "Explanation", truth: str | None) -> list[str]:
    """Return the lines under a figure: true label if known; method, layer and head; target, score and accuracy."""
    lines = [] if truth is None else [f"true label: {truth}"]
    lines.append(explanation.caption())
    if target_in_caption(explanation):
        lines.append(target_caption(explanation))
    if explanation.patch_colors is not None:
        lines.append(FEATURE_COLORS_NOTE)
    if explanation.convergence_delta is not None:
        delta = explanation.convergence_delta
        lines.append(f"convergence delta {delta:+.2g}: the score's gain minus the map's sum")
    return lines


def target_in_caption(explanation: "Explanation") -> bool:
    """Return whether the caption names a target: one that the map explains, or one that the method doesn't use."""
    explained = explanation.target is not None and METHODS[explanation.method].is_class_specific
    return explained or explanation.score is not None or ignored_region(explanation) is not None


def target_caption(explanation: "Explanation") -> str:
    """Describe the target, its score, and whether the map depends on it."""
    score = "" if explanation.score is None else f" {explanation.score:.3g}"
    if explanation.score is not None and explanation.target in dict(explanation.prediction.scores):
        score = f" {explanation.prediction.format_score(explanation.score)}"
    if not METHODS[explanation.method].is_class_specific:
        region = ignored_region(explanation)
        name = explanation.target if region is None else region.name
        return f"{name}{score} · this method's map is the same for every target"
    return f"target: {explanation.target}{score}"
