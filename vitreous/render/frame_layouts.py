"""The ways to draw a frame of a clip: one table of functions, all with one signature."""

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
from vitreous.render.panels import Header, PanelGrid, compose_panels, panel_grid
from vitreous.render.spotlight import spotlight
from vitreous.render.text import draw_label
from vitreous.render.upsample import Box

LayoutFunction = Callable[[FrameView, DrawStyle], np.ndarray]


def draw_frame(shot: FrameView, layout: str = "overlay", look: DrawStyle | None = None) -> np.ndarray:
    """One frame in a layout of the table: a new uint8 (height, width, 3), of the same size for all frames of a clip.

    Raises:
        InputError: the layout is unknown, or draws one map and there are several.
    """
    if layout not in LAYOUTS:
        raise unknown("layout", layout, tuple(LAYOUTS))
    if layout not in MULTI_MAP_LAYOUTS and len(shot.layers) > 1:
        several = ", ".join(sorted(MULTI_MAP_LAYOUTS))
        raise InputError(f"layout '{layout}' draws one map, not {len(shot.layers)}: choose one of {several}")
    return LAYOUTS[layout](shot, look or DrawStyle())


def frame_size(
    image_hw: tuple[int, int], layout: str = "overlay", maps: int = 1, look: DrawStyle | None = None
) -> tuple[int, int]:
    """The (height, width) that a layout gives a clip of this size: its own, or that of all panels, which is even."""
    if layout not in LAYOUTS:
        raise unknown("layout", layout, tuple(LAYOUTS))
    if layout in SINGLE_IMAGE_LAYOUTS:
        return image_hw
    return panel_grid_for(image_hw, layout, maps, look or DrawStyle()).size_hw


def panel_grid_for(image_hw: tuple[int, int], layout: str, maps: int, look: DrawStyle) -> PanelGrid:
    """The grid of panels of a layout that has one."""
    if layout == "side-by-side":
        return panel_grid(image_hw, 2, 2, titles=False, header=look.legend)
    return panel_grid(image_hw, maps, titles=True, header=look.legend)


def draw_layer(image_u8: np.ndarray, shown: HeatmapLayer, look: DrawStyle, dimming: float) -> np.ndarray:
    """The map over the image, nothing else."""
    if shown.colors is not None:
        return colorize(image_u8, upsample_colors(image_u8, shown))
    levels = upsample_levels(image_u8, shown, look)
    return overlay_levels(image_u8, levels, look.strength, dimming, signed=shown.signed)


def draw_captions(drawn: np.ndarray, shot: FrameView, kind: str, look: DrawStyle) -> np.ndarray:
    """The answer in the upper left corner; words and legend, if wanted, in the lower left one."""
    drawn = draw_label(drawn, [shot.prediction], "top left") if shot.prediction else drawn
    return draw_legend(drawn, shot.caption, kind, "bottom left", shot.layers[0].end_labels) if look.legend else drawn


def color_kind(shown: HeatmapLayer) -> str:
    """Which colors the map is drawn in, as the legend calls them."""
    return "own" if shown.colors is not None else "signed" if shown.signed else "overlay"


def overlay_layout(shot: FrameView, look: DrawStyle) -> np.ndarray:
    """The map over the image."""
    return draw_captions(
        draw_layer(shot.image_u8, shot.layers[0], look, shot.dimming), shot, color_kind(shot.layers[0]), look
    )


def contour_layout(shot: FrameView, look: DrawStyle) -> np.ndarray:
    """The image as it is, with lines at 25, 50 and 75 % of the scale."""
    shown = shot.layers[0]
    heat = refine_heatmap(shot.image_u8, shown, look)
    drawn = draw_contours(shot.image_u8, heat, shown.scale, shown.box, signed=shown.signed)
    return draw_captions(drawn, shot, "signed contour" if shown.signed else "contour", look)


def spotlight_layout(shot: FrameView, look: DrawStyle) -> np.ndarray:
    """The image with what is not looked at in the dark."""
    levels = upsample_levels(shot.image_u8, shot.layers[0], look)
    drawn = spotlight(shot.image_u8, levels, look.strength, signed=shot.layers[0].signed)
    return draw_captions(drawn, shot, "spotlight", look)


def side_by_side_layout(shot: FrameView, look: DrawStyle) -> np.ndarray:
    """The image, and beside it the map over it."""
    grid = panel_grid_for(_image_size(shot), "side-by-side", 1, look)
    image, factors = resize_to(shot.image_u8, grid.panel_hw)
    images = [image, draw_layer(image, scale_box(shot.layers[0], factors), look, shot.dimming)]
    return compose_panels(
        grid, images, (), Header(shot.prediction, shot.caption, color_kind(shot.layers[0]), shot.layers[0].end_labels)
    )


def panels_layout(shot: FrameView, look: DrawStyle) -> np.ndarray:
    """A panel for every map, with its title; a color bar over all, or in each where they are not drawn alike."""
    grid = panel_grid_for(_image_size(shot), "heads", len(shot.layers), look)
    resized, factors = resize_to(shot.image_u8, grid.panel_hw)
    images = [draw_layer(resized, scale_box(shown, factors), look, shot.dimming) for shown in shot.layers]
    kinds = [(color_kind(shown), shown.end_labels) for shown in shot.layers]
    alike = len(set(kinds)) == 1
    if look.legend and not alike:
        images = [draw_legend(image, "", kind, ends=ends) for image, (kind, ends) in zip(images, kinds, strict=True)]
    header = Header(shot.prediction, shot.caption, *(kinds[0] if alike else ("own", "")))
    return compose_panels(grid, images, [shown.title for shown in shot.layers], header)


def resize_to(image_u8: np.ndarray, size_hw: tuple[int, int]) -> tuple[np.ndarray, tuple[float, float]]:
    """The image at another size, and the factors (down, across) that brought it there."""
    if image_u8.shape[:2] == size_hw:
        return image_u8, (1.0, 1.0)
    image = Image.fromarray(np.ascontiguousarray(image_u8))
    small = image.resize((size_hw[1], size_hw[0]), Image.Resampling.BILINEAR, reducing_gap=1.0)
    return np.asarray(small), (size_hw[0] / image_u8.shape[0], size_hw[1] / image_u8.shape[1])


def scale_box(shown: HeatmapLayer, factors: tuple[float, float]) -> HeatmapLayer:
    """The map on an image that was resized by these factors."""
    if shown.box is None:
        return shown
    box: Box = [side * factor for side, factor in zip(shown.box, (*factors, *factors), strict=True)]
    return replace(shown, box=box)


def _image_size(shot: FrameView) -> tuple[int, int]:
    return shot.image_u8.shape[0], shot.image_u8.shape[1]


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
