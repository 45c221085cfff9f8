"""What an explanation says, and of what: the record that every method returns."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np
from PIL import Image

from vitreous.explanation.options import Settings
from vitreous.explanation.registry import METHODS
from vitreous.explanation.targets import Region
from vitreous.imaging.preprocessing import Geometry
from vitreous.model.classifier import Prediction
from vitreous.render.color import Scale
from vitreous.render.overlay import overlay, paint


@dataclass(frozen=True)
class Explanation:
    """A map over one image, with the words that belong to it."""

    grid: np.ndarray = field(repr=False)
    """float32 (rows, columns) over what the model saw, a number a patch or a pixel: for "share" the share of attention
    on each patch, which adds to 1 with the prefix tokens'."""
    geometry: Geometry = field(repr=False)
    """Which part of the image the grid lies on."""
    image_u8: np.ndarray = field(repr=False)
    """The image itself, uint8 (height, width, 3)."""
    method: str
    kind: Literal["share", "evidence", "signed"]
    """share: adds to 1; evidence: 0 or above; signed: above 0 for the target, below it against."""
    prediction: Prediction
    settings: Settings = field(default_factory=Settings)
    layer: int | None = None
    """Counted from 0; None where a method takes all layers."""
    head: int | None = None
    """Counted from 0; None for all heads joined."""
    target: str | None = None
    """What the map explains, such as a class. Of a method whose map is the same for every target, what was asked for,
    if anything was and it is no region; else None."""
    score: float | None = None
    """How much of the target there is, if one was asked for: a class's probability (0 to 1), or a margin of logits."""
    gap: float | None = None
    """By how much the map's sum misses what it ought to explain, in units of the score; None if it promises nothing."""
    grid_colors: np.ndarray | None = field(default=None, repr=False)
    """float32 (rows, columns, 3) in [0, 1], where the map has colors of its own."""
    asked: Region | None = field(default=None, repr=False)
    """The patches of a target that is a region, or else the patch that the map starts from; None without either.

    A method that asks for no target (`Method.asks_target`) leaves a region out of account: its map explains all of the
    image, or starts from `settings.query`.
    """

    @cached_property
    def heat(self) -> np.ndarray:
        """float32 (height, width) in the image's own pixels, computed when it is first asked for.

        For attention ("share"), 1 is what a patch would get if all got the same; other maps are in units of the
        method's own, signed where it is.
        """
        return self.geometry.to_source(self.grid_heat)

    @property
    def grid_heat(self) -> np.ndarray:
        """The same numbers on the grid: float32 (rows, columns)."""
        return self.grid * np.float32(self.grid.size) if self.kind == "share" else self.grid

    @cached_property
    def colors(self) -> np.ndarray | None:
        """The map's own colors, drawn instead of the heat: float32 (height, width, 3) in [0, 1], or None."""
        if self.grid_colors is None:
            return None
        return np.stack([self.geometry.to_source(plane) for plane in self.grid_colors.transpose(2, 0, 1)], -1)

    def overlay(self, scale: Scale | None = None) -> Image.Image:
        """The image with the map laid over it, at the image's own size."""
        return Image.fromarray(self.drawn(scale))

    def drawn(self, scale: Scale | None = None) -> np.ndarray:
        """The same as uint8 (height, width, 3)."""
        if self.colors is not None:
            return paint(self.image_u8, self.colors)
        return overlay(self.image_u8, self.heat, scale, signed=self.kind == "signed")

    def words(self) -> str:
        """Method and what of the model it shows, in words: "attention · layer 5 · mean over heads"."""
        uses, settings = METHODS[self.method].settings, self.settings
        parts = [self.method]
        if "layer" in uses and self.layer is None and self.kind == "share":
            return f"{self.method} · the pooling's own weights"
        if self.layer is not None or self.kind == "share":
            parts.append("all layers" if self.layer is None else f"layer {self.layer}")
        if "view" in uses:
            parts.append(settings.view)
        if "fusion" in uses or "head" in uses:
            parts.append(f"{settings.fusion} over heads" if self.head is None else f"head {self.head}")
        if settings.query is not None:
            parts.append(f"from the {words_of_query(settings.query)}")
        return " · ".join(parts)


def words_of_query(query: tuple[int, int] | tuple[int, int, int, int]) -> str:
    """The patch, or the box of patches, in words."""
    if len(query) == 2:
        return f"patch in row {query[0]}, column {query[1]}"
    top, left, bottom, right = query
    return f"patches in rows {top} to {bottom - 1}, columns {left} to {right - 1}"
