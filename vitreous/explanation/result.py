"""What an explanation says, and of what: the record that every method returns."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np
from PIL import Image

from vitreous.explanation.options import MethodOptions
from vitreous.explanation.registry import METHODS
from vitreous.explanation.targets import RegionTarget
from vitreous.imaging.geometry import Geometry
from vitreous.model.classifier import Prediction
from vitreous.render.color import Scale
from vitreous.render.overlay import colorize, overlay


@dataclass(frozen=True)
class Explanation:
    """A map over one image, with the words that belong to it."""

    patch_map: np.ndarray = field(repr=False)
    """float32 (rows, columns) over what the model saw, a number a patch or a pixel: for "proportion" the share of attention
    on each patch, which adds to 1 with the prefix tokens'."""
    geometry: Geometry = field(repr=False)
    """Which part of the image the grid lies on."""
    image_u8: np.ndarray = field(repr=False)
    """The image itself, uint8 (height, width, 3)."""
    method: str
    scale_kind: Literal["proportion", "positive", "signed"]
    """share: adds to 1; evidence: 0 or above; signed: above 0 for the target, below it against."""
    prediction: Prediction
    options: MethodOptions = field(default_factory=MethodOptions)
    layer: int | None = None
    """Counted from 0; None where a method takes all layers."""
    head: int | None = None
    """Counted from 0; None for all heads joined."""
    target: str | None = None
    """What the map explains, such as a class. Of a method whose map is the same for every target, what was asked for,
    if anything was and it is no region; else None."""
    score: float | None = None
    """How much of the target there is, if one was asked for: a class's probability (0 to 1), or a margin of logits."""
    convergence_delta: float | None = None
    """By how much the map's sum misses what it ought to explain, in units of the score; None if it promises nothing."""
    patch_colors: np.ndarray | None = field(default=None, repr=False)
    """float32 (rows, columns, 3) in [0, 1], where the map has colors of its own."""
    region: RegionTarget | None = field(default=None, repr=False)
    """The patches of a target that is a region, or else the patch that the map starts from; None without either.

    A method that asks for no target (`Method.asks_target`) leaves a region out of account: its map explains all of the
    image, or starts from `settings.query`.
    """

    @cached_property
    def heatmap(self) -> np.ndarray:
        """float32 (height, width) in the image's own pixels, computed when it is first asked for.

        For attention ("proportion"), 1 is what a patch would get if all got the same; other maps are in units of the
        method's own, signed where it is.
        """
        return self.geometry.to_image(self.patch_heatmap)

    @property
    def patch_heatmap(self) -> np.ndarray:
        """The same numbers on the grid: float32 (rows, columns)."""
        return self.patch_map * np.float32(self.patch_map.size) if self.scale_kind == "proportion" else self.patch_map

    @cached_property
    def colors(self) -> np.ndarray | None:
        """The map's own colors, drawn instead of the heat: float32 (height, width, 3) in [0, 1], or None."""
        if self.patch_colors is None:
            return None
        return np.stack([self.geometry.to_image(plane) for plane in self.patch_colors.transpose(2, 0, 1)], -1)

    def overlay(self, scale: Scale | None = None) -> Image.Image:
        """The image with the map laid over it, at the image's own size."""
        return Image.fromarray(self.render(scale))

    def render(self, scale: Scale | None = None) -> np.ndarray:
        """The same as uint8 (height, width, 3)."""
        if self.colors is not None:
            return colorize(self.image_u8, self.colors)
        return overlay(self.image_u8, self.heatmap, scale, signed=self.scale_kind == "signed")

    def caption(self) -> str:
        """Method and what of the model it shows, in words: "attention · layer 5 · mean over heads"."""
        uses, settings = METHODS[self.method].options, self.options
        parts = [self.method]
        if "layer" in uses and self.layer is None and self.scale_kind == "proportion":
            return f"{self.method} · the pooling's own weights"
        if self.layer is not None or self.scale_kind == "proportion":
            parts.append("all layers" if self.layer is None else f"layer {self.layer}")
        if "view" in uses:
            parts.append(settings.view)
        if "head_fusion" in uses or "head" in uses:
            parts.append(f"{settings.head_fusion} over heads" if self.head is None else f"head {self.head}")
        if settings.query is not None:
            parts.append(f"from the {describe_query(settings.query)}")
        return " · ".join(parts)


def describe_query(query: tuple[int, int] | tuple[int, int, int, int]) -> str:
    """The patch, or the box of patches, in words."""
    if len(query) == 2:
        return f"patch in row {query[0]}, column {query[1]}"
    top, left, bottom, right = query
    return f"patches in rows {top} to {bottom - 1}, columns {left} to {right - 1}"
