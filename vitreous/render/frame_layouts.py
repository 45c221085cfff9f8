"""The ways to draw a frame of a clip: one table of functions, all with one signature."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from PIL import Image

from vitreous.errors import InputError, unknown
from vitreous.render.contours import draw_contours
from vitreous.render.frame_view import Look, Shot, ShownMap, colors_on, fine_heat, levels_on
from vitreous.render.legend import draw_legend
from vitreous.render.overlay import overlay_levels, paint
from vitreous.render.panels import Header, PanelGrid, composed, panel_grid
from vitreous.render.spotlight import spotlight
from vitreous.render.text import draw_label
from vitreous.render.upsample import Box

Layout = Callable[[Shot, Look], np.ndarray]


def draw_frame(shot: Shot, layout: str = "overlay", look: Look | None = None) -> np.ndarray:
    """One frame in a layout of the table: a new uint8 (height, width, 3), of the same size for all frames of a clip.

    Raises:
        InputError: the layout is unknown, or draws one map and there are several.
    """
    if layout not in LAYOUTS:
        raise unknown("layout", layout, tuple(LAYOUTS))
    if layout not in OF_SEVERAL_MAPS and len(shot.maps) > 1:
        several = ", ".join(sorted(OF_SEVERAL_MAPS))
        raise InputError(f"layout '{layout}' draws one map, not {len(shot.maps)}: choose one of {several}")
    return LAYOUTS[layout](shot, look or Look())


def frame_size(
    image_hw: tuple[int, int], layout: str = "overlay", maps: int = 1, look: Look | None = None
) -> tuple[int, int]:
    """The (height, width) that a layout gives a clip of this size: its own, or that of all panels, which is even."""
    if layout not in LAYOUTS:
        raise unknown("layout", layout, tuple(LAYOUTS))
    if layout in OF_ONE_IMAGE:
        return image_hw
    return grid_of(image_hw, layout, maps, look or Look()).size_hw


def grid_of(image_hw: tuple[int, int], layout: str, maps: int, look: Look) -> PanelGrid:
    """The grid of panels of a layout that has one."""
    if layout == "side-by-side":
        return panel_grid(image_hw, 2, 2, titles=False, header=look.legend)
    return panel_grid(image_hw, maps, titles=True, header=look.legend)


def laid(image_u8: np.ndarray, shown: ShownMap, look: Look, dimming: float) -> np.ndarray:
    """The map over the image, nothing else."""
    if shown.colors is not None:
        return paint(image_u8, colors_on(image_u8, shown))
    levels = levels_on(image_u8, shown, look)
    return overlay_levels(image_u8, levels, look.strength, dimming, signed=shown.signed)


def with_words(drawn: np.ndarray, shot: Shot, kind: str, look: Look) -> np.ndarray:
    """The answer in the upper left corner; words and legend, if wanted, in the lower left one."""
    drawn = draw_label(drawn, [shot.answer], "top left") if shot.answer else drawn
    return draw_legend(drawn, shot.words, kind, "bottom left", shot.maps[0].ends) if look.legend else drawn


def kind_of(shown: ShownMap) -> str:
    """Which colors the map is drawn in, as the legend calls them."""
    return "own" if shown.colors is not None else "signed" if shown.signed else "overlay"


def overlay_layout(shot: Shot, look: Look) -> np.ndarray:
    """The map over the image."""
    return with_words(laid(shot.image_u8, shot.maps[0], look, shot.dimming), shot, kind_of(shot.maps[0]), look)


def contour_layout(shot: Shot, look: Look) -> np.ndarray:
    """The image as it is, with lines at 25, 50 and 75 % of the scale."""
    shown = shot.maps[0]
    heat = fine_heat(shot.image_u8, shown, look)
    drawn = draw_contours(shot.image_u8, heat, shown.scale, shown.box, signed=shown.signed)
    return with_words(drawn, shot, "signed contour" if shown.signed else "contour", look)


def spotlight_layout(shot: Shot, look: Look) -> np.ndarray:
    """The image with what is not looked at in the dark."""
    levels = levels_on(shot.image_u8, shot.maps[0], look)
    drawn = spotlight(shot.image_u8, levels, look.strength, signed=shot.maps[0].signed)
    return with_words(drawn, shot, "spotlight", look)


def side_by_side_layout(shot: Shot, look: Look) -> np.ndarray:
    """The image, and beside it the map over it."""
    grid = grid_of(_size(shot), "side-by-side", 1, look)
    image, factors = fitted_to(shot.image_u8, grid.panel_hw)
    images = [image, laid(image, moved(shot.maps[0], factors), look, shot.dimming)]
    return composed(grid, images, (), Header(shot.answer, shot.words, kind_of(shot.maps[0]), shot.maps[0].ends))


def panels_layout(shot: Shot, look: Look) -> np.ndarray:
    """A panel for every map, with its title; a color bar over all, or in each where they are not drawn alike."""
    grid = grid_of(_size(shot), "heads", len(shot.maps), look)
    resized, factors = fitted_to(shot.image_u8, grid.panel_hw)
    images = [laid(resized, moved(shown, factors), look, shot.dimming) for shown in shot.maps]
    kinds = [(kind_of(shown), shown.ends) for shown in shot.maps]
    alike = len(set(kinds)) == 1
    if look.legend and not alike:
        images = [draw_legend(image, "", kind, ends=ends) for image, (kind, ends) in zip(images, kinds, strict=True)]
    header = Header(shot.answer, shot.words, *(kinds[0] if alike else ("own", "")))
    return composed(grid, images, [shown.title for shown in shot.maps], header)


def fitted_to(image_u8: np.ndarray, size_hw: tuple[int, int]) -> tuple[np.ndarray, tuple[float, float]]:
    """The image at another size, and the factors (down, across) that brought it there."""
    if image_u8.shape[:2] == size_hw:
        return image_u8, (1.0, 1.0)
    image = Image.fromarray(np.ascontiguousarray(image_u8))
    small = image.resize((size_hw[1], size_hw[0]), Image.Resampling.BILINEAR, reducing_gap=1.0)
    return np.asarray(small), (size_hw[0] / image_u8.shape[0], size_hw[1] / image_u8.shape[1])


def moved(shown: ShownMap, factors: tuple[float, float]) -> ShownMap:
    """The map on an image that was resized by these factors."""
    if shown.box is None:
        return shown
    box: Box = [side * factor for side, factor in zip(shown.box, (*factors, *factors), strict=True)]
    return replace(shown, box=box)


def _size(shot: Shot) -> tuple[int, int]:
    return shot.image_u8.shape[0], shot.image_u8.shape[1]


LAYOUTS: dict[str, Layout] = {
    "contour": contour_layout,
    "heads": panels_layout,
    "layers": panels_layout,
    "methods": panels_layout,
    "overlay": overlay_layout,
    "side-by-side": side_by_side_layout,
    "spotlight": spotlight_layout,
}
OF_ONE_IMAGE: Sequence[str] = ("contour", "overlay", "spotlight")
OF_SEVERAL_MAPS: Sequence[str] = ("heads", "layers", "methods")
