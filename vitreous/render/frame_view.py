"""What a video frame is drawn from: the image, its heatmaps with their scales, and the texts."""

from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from vitreous.errors import InputError
from vitreous.render.color import Scale, check_map
from vitreous.render.guided import guided_filter
from vitreous.render.image import check_image
from vitreous.render.overlay import DIMMING
from vitreous.render.upsample import PixelBox, clip_box, upsample_to_image

HALF_RESOLUTION_FROM = 480
"""Shorter side in pixels from which 2 x 2 pixels have one level: the map is so much coarser that nobody sees it."""


@dataclass(frozen=True)
class HeatmapLayer:
    """One map over an image.

    Attributes:
        heatmap: float (rows, columns) at any resolution, best that of the patch grid.
        scale: the values that are drawn as minimum and maximum.
        title: the method, layer or head in a few words.
        box: (top, left, bottom, right) that the map covers, in the image's pixels; None for the whole image.
        signed: whether there are negative values, which have colors of their own.
        end_labels: the meaning of the minimum and the maximum of a signed map, such as "against / for".
        colors: float (rows, columns, 3) in [0, 1], drawn instead of the heatmap if given.
    """

    heatmap: np.ndarray = field(repr=False)
    scale: Scale
    title: str = ""
    box: PixelBox | None = None
    signed: bool = False
    end_labels: str = ""
    colors: np.ndarray | None = field(default=None, repr=False)


@dataclass(frozen=True)
class FrameView:
    """One frame to draw.

    Attributes:
        image_u8: the image, uint8 (height, width, 3).
        heatmaps: one or more maps, in the order of the panels.
        prediction: label and score, such as "dog 87 %"; "" for none.
        caption: method, layer and head; "" for none.
        dimming: the fraction of light that the overlay removes where the map is low; see `dimming_for`.
    """

    image_u8: np.ndarray = field(repr=False)
    heatmaps: tuple[HeatmapLayer, ...]
    prediction: str = ""
    caption: str = ""
    dimming: float = DIMMING

    def __post_init__(self) -> None:
        check_image(self.image_u8)
        if not self.heatmaps:
            raise InputError("a frame without a map can't be drawn: give at least one")


@dataclass(frozen=True)
class DrawStyle:
    """How frames are drawn.

    Attributes:
        opacity: of the overlay, from 0 (only the image) to 1 (the full effect).
        edge_aware: refine maps along the image's edges with a guided filter.
        legend: draw the method, the layer and a color bar.

    Raises:
        InputError: the opacity is outside [0, 1].
    """

    opacity: float = 1.0
    edge_aware: bool = False
    legend: bool = True

    def __post_init__(self) -> None:
        if not 0 <= self.opacity <= 1:
            raise InputError(f"opacity {self.opacity} is outside [0, 1]: give 0 for none, 1 for the full effect")


def refine_heatmap(image_u8: np.ndarray, layer: HeatmapLayer, style: DrawStyle) -> np.ndarray:
    """Return the map at the resolution to upsample from: its own, or a finer one that follows the image's edges."""
    return guided_filter(layer.heatmap, image_u8, layer.box) if style.edge_aware else check_map(layer.heatmap)


def upsample_levels(image_u8: np.ndarray, layer: HeatmapLayer, style: DrawStyle) -> np.ndarray:
    """Return the map's levels on the image, uint8, one per pixel or 2 x 2 pixels, as `overlay_levels` takes them."""
    heatmap, size_hw = refine_heatmap(image_u8, layer, style), (image_u8.shape[0], image_u8.shape[1])
    return upsample_to_image(
        heatmap, layer.scale, size_hw, layer.box, step=2 if min(size_hw) >= HALF_RESOLUTION_FROM else 1
    )


def upsample_colors(image_u8: np.ndarray, layer: HeatmapLayer) -> np.ndarray:
    """Return the map's own colors on the image: float32 (height, width, 3) in [0, 1]; black outside the box."""
    assert layer.colors is not None
    top, left, bottom, right = clip_box(layer.box, (image_u8.shape[0], image_u8.shape[1]))
    colors = np.zeros(image_u8.shape, np.float32)
    small = Image.fromarray(np.rint(np.clip(layer.colors, 0, 1) * 255).astype(np.uint8))
    resized = small.resize((right - left, bottom - top), Image.Resampling.BILINEAR)
    colors[top:bottom, left:right] = np.asarray(resized, np.float32) / 255
    return colors
