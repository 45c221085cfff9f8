"""The layouts of a video frame: one table of functions with one signature."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from PIL import Image

from vitreous.errors import InputError, unknown
from vitreous.render.contours import draw_contours
from vitreous.render.frame_view import (
    DrawStyle,
    FrameView,
    HeatmapLayer,
    refine_heatmap,
    upsample_colors,
    upsample_levels,
)
from vitreous.render.legend import draw_legend
from vitreous.render.overlay import colorize, overlay_levels
from vitreous.render.panels import PanelGrid, PanelHeader, compose_panels, panel_grid
from vitreous.render.spotlight import spotlight
from vitreous.render.text import draw_label
from vitreous.render.upsample import PixelBox

LayoutFunction = Callable[[FrameView, DrawStyle], np.ndarray]


def draw_frame(view: FrameView, layout: str = "overlay", style: DrawStyle | None = None) -> np.ndarray:
    """Draw one frame in a layout of `LAYOUTS`: uint8 (height, width, 3), of the same size for all frames of a video.

    Raises:
        InputError: the layout is unknown, or draws one map and there are several.
    """
    if layout not in LAYOUTS:
        raise unknown("layout", layout, tuple(LAYOUTS))
    if layout not in MULTI_MAP_LAYOUTS and len(view.heatmaps) > 1:
        names = ", ".join(sorted(MULTI_MAP_LAYOUTS))
        raise InputError(f"layout '{layout}' draws one map, not {len(view.heatmaps)}: choose one of {names}")
    return LAYOUTS[layout](view, style or DrawStyle())


def panel_grid_for(image_hw: tuple[int, int], layout: str, maps: int, style: DrawStyle) -> PanelGrid:
    """Return the grid of panels of a layout that has panels."""
    if layout == "side-by-side":
        return panel_grid(image_hw, 2, 2, titles=False, header=style.legend)
    return panel_grid(image_hw, maps, titles=True, header=style.legend)


def draw_layer(image_u8: np.ndarray, layer: HeatmapLayer, style: DrawStyle, dimming: float) -> np.ndarray:
    """Draw one map over the image, without text."""
    if layer.colors is not None:
        return colorize(image_u8, upsample_colors(image_u8, layer))
    levels = upsample_levels(image_u8, layer, style)
    return overlay_levels(image_u8, levels, style.opacity, dimming, signed=layer.signed)


def draw_captions(image_u8: np.ndarray, view: FrameView, kind: str, style: DrawStyle) -> np.ndarray:
    """Draw the prediction into the upper left corner, and caption and legend, if wanted, into the lower left one."""
    image_u8 = draw_label(image_u8, [view.prediction], "top left") if view.prediction else image_u8
    return (
        draw_legend(image_u8, view.caption, kind, "bottom left", view.heatmaps[0].end_labels)
        if style.legend
        else image_u8
    )


def color_kind(layer: HeatmapLayer) -> str:
    """Return the name that the legend has for the map's colors."""
    return "own" if layer.colors is not None else "signed" if layer.signed else "overlay"


def overlay_layout(view: FrameView, style: DrawStyle) -> np.ndarray:
    """Draw the map over the image."""
    return draw_captions(
        draw_layer(view.image_u8, view.heatmaps[0], style, view.dimming), view, color_kind(view.heatmaps[0]), style
    )


def contour_layout(view: FrameView, style: DrawStyle) -> np.ndarray:
    """Draw lines at 25, 50 and 75 % of the scale on the image."""
    layer = view.heatmaps[0]
    heatmap = refine_heatmap(view.image_u8, layer, style)
    image_u8 = draw_contours(view.image_u8, heatmap, layer.scale, layer.box, signed=layer.signed)
    return draw_captions(image_u8, view, "signed contour" if layer.signed else "contour", style)


def spotlight_layout(view: FrameView, style: DrawStyle) -> np.ndarray:
    """Darken the image where the map is low."""
    levels = upsample_levels(view.image_u8, view.heatmaps[0], style)
    image_u8 = spotlight(view.image_u8, levels, style.opacity, signed=view.heatmaps[0].signed)
    return draw_captions(image_u8, view, "spotlight", style)


def side_by_side_layout(view: FrameView, style: DrawStyle) -> np.ndarray:
    """Draw the image, and beside it the map over the image."""
    grid = panel_grid_for(_image_size(view), "side-by-side", 1, style)
    image, factors = resize_to(view.image_u8, grid.panel_hw)
    images = [image, draw_layer(image, scale_box(view.heatmaps[0], factors), style, view.dimming)]
    return compose_panels(
        grid,
        images,
        (),
        PanelHeader(view.prediction, view.caption, color_kind(view.heatmaps[0]), view.heatmaps[0].end_labels),
    )


def panels_layout(view: FrameView, style: DrawStyle) -> np.ndarray:
    """Draw one panel per map, with a title; one color bar for all, or one per panel where their colors differ."""
    grid = panel_grid_for(_image_size(view), "heads", len(view.heatmaps), style)
    resized, factors = resize_to(view.image_u8, grid.panel_hw)
    images = [draw_layer(resized, scale_box(layer, factors), style, view.dimming) for layer in view.heatmaps]
    kinds = [(color_kind(layer), layer.end_labels) for layer in view.heatmaps]
    uniform = len(set(kinds)) == 1
    if style.legend and not uniform:
        images = [
            draw_legend(image, "", kind, end_labels=ends) for image, (kind, ends) in zip(images, kinds, strict=True)
        ]
    header = PanelHeader(view.prediction, view.caption, *(kinds[0] if uniform else ("own", "")))
    return compose_panels(grid, images, [layer.title for layer in view.heatmaps], header)


def resize_to(image_u8: np.ndarray, size_hw: tuple[int, int]) -> tuple[np.ndarray, tuple[float, float]]:
    """Resize the image bilinearly; return it with the factors (vertical, horizontal)."""
    if image_u8.shape[:2] == size_hw:
        return image_u8, (1.0, 1.0)
    image = Image.fromarray(np.ascontiguousarray(image_u8))
    small = image.resize((size_hw[1], size_hw[0]), Image.Resampling.BILINEAR, reducing_gap=1.0)
    return np.asarray(small), (size_hw[0] / image_u8.shape[0], size_hw[1] / image_u8.shape[1])


def scale_box(layer: HeatmapLayer, factors: tuple[float, float]) -> HeatmapLayer:
    """Move the layer's box to an image that was resized by these factors."""
    if layer.box is None:
        return layer
    box: PixelBox = [side * factor for side, factor in zip(layer.box, (*factors, *factors), strict=True)]
    return replace(layer, box=box)


def _image_size(view: FrameView) -> tuple[int, int]:
    return view.image_u8.shape[0], view.image_u8.shape[1]


LAYOUTS: dict[str, LayoutFunction] = {
    "contour": contour_layout,
    "heads": panels_layout,
    "layers": panels_layout,
    "methods": panels_layout,
    "overlay": overlay_layout,
    "side-by-side": side_by_side_layout,
    "spotlight": spotlight_layout,
}
SINGLE_IMAGE_LAYOUTS: Sequence[str] = ("contour", "overlay", "spotlight")
MULTI_MAP_LAYOUTS: Sequence[str] = ("heads", "layers", "methods")
