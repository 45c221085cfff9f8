"""What a frame of a clip is drawn from: its image, its maps with the scales to draw them on, its words."""

from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from vitreous.errors import InputError
from vitreous.render.color import Scale, check_map
from vitreous.render.guided import guided_filter
from vitreous.render.image import check_image
from vitreous.render.overlay import DIMMING
from vitreous.render.upsample import Box, clip_box, upsample_to_image

HALF_RESOLUTION_FROM = 480
"""The shorter side in pixels from which on 2 x 2 share a level: a map is then so much coarser that nobody sees it."""


@dataclass(frozen=True)
class HeatmapLayer:
    """One map over an image.

    Attributes:
        heat: float (rows, columns) at any resolution, best that of the model's grid.
        scale: the values drawn as nothing and as most.
        title: which method, layer or head it is, in a few words.
        box: (top, left, bottom, right) that the map spans, in the image's pixels; None for all of it.
        signed: whether there are values below 0, drawn in colors of their own.
        ends: what the least and the greatest value of a signed map mean, such as "against / for".
        colors: float (rows, columns, 3) in [0, 1], drawn instead of the heat where the map has colors of its own.
    """

    heatmap: np.ndarray = field(repr=False)
    scale: Scale
    title: str = ""
    box: Box | None = None
    signed: bool = False
    end_labels: str = ""
    colors: np.ndarray | None = field(default=None, repr=False)


@dataclass(frozen=True)
class FrameView:
    """One frame to be drawn.

    Attributes:
        image_u8: the image, uint8 (height, width, 3).
        maps: one or more, in the order of the panels.
        answer: class and confidence, such as "dog 87 %"; "" for none.
        words: which method, layer and head; "" for none.
        dimming: what of its light the overlay takes from what is not looked at: see `dimming_for`.
    """

    image_u8: np.ndarray = field(repr=False)
    layers: tuple[HeatmapLayer, ...]
    prediction: str = ""
    caption: str = ""
    dimming: float = DIMMING

    def __post_init__(self) -> None:
        check_image(self.image_u8)
        if not self.layers:
            raise InputError("a frame without a map can't be drawn: give at least one")


@dataclass(frozen=True)
class DrawStyle:
    """How a clip is drawn: strength of the effect (0 to 1), maps brought to the image's edges, names and legend."""

    strength: float = 1.0
    edges: bool = False
    legend: bool = True

    def __post_init__(self) -> None:
        if not 0 <= self.strength <= 1:
            raise InputError(f"strength {self.strength} is outside [0, 1]: give 0 for none, 1 for the full effect")


def refine_heatmap(image_u8: np.ndarray, shown: HeatmapLayer, look: DrawStyle) -> np.ndarray:
    """The map at the resolution it is to be enlarged from: its own, or finer and along the image's edges."""
    return guided_filter(shown.heatmap, image_u8, shown.box) if look.edges else check_map(shown.heatmap)


def upsample_levels(image_u8: np.ndarray, shown: HeatmapLayer, look: DrawStyle) -> np.ndarray:
    """The map's levels on the image, uint8, one for each pixel or for 2 x 2: as `overlay_levels` takes them."""
    heat, size_hw = refine_heatmap(image_u8, shown, look), (image_u8.shape[0], image_u8.shape[1])
    return upsample_to_image(
        heat, shown.scale, size_hw, shown.box, step=2 if min(size_hw) >= HALF_RESOLUTION_FROM else 1
    )


def upsample_colors(image_u8: np.ndarray, shown: HeatmapLayer) -> np.ndarray:
    """The map's own colors on the image: float32 of its shape in [0, 1], bilinear; black beyond the box."""
    assert shown.colors is not None
    top, left, bottom, right = clip_box(shown.box, (image_u8.shape[0], image_u8.shape[1]))
    colors = np.zeros(image_u8.shape, np.float32)
    small = Image.fromarray(np.rint(np.clip(shown.colors, 0, 1) * 255).astype(np.uint8))
    seen = small.resize((right - left, bottom - top), Image.Resampling.BILINEAR)
    colors[top:bottom, left:right] = np.asarray(seen, np.float32) / 255
    return colors
