"""What an explanation says, and of what: the record that every method returns."""

from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from vitreous.render.color import Scale
from vitreous.render.overlay import overlay
from vitreous.tasks.classification import Prediction


@dataclass(frozen=True)
class Explanation:
    """A map over one picture, with the words that belong to it."""

    heat: np.ndarray = field(repr=False)
    """float32 (height, width) in the picture's own pixels; 1 is the attention a token would get if all got the same."""
    grid: np.ndarray = field(repr=False)
    """float32 (grid height, grid width): the share of attention on each patch. With the prefix tokens' it adds to 1."""
    picture_u8: np.ndarray = field(repr=False)
    """The picture itself, uint8 (height, width, 3)."""
    method: str
    prediction: Prediction
    layer: int | None = None
    """Counted from 0; None where a method takes all layers."""
    head: int | None = None
    """Counted from 0; None for the mean over heads."""
    target: str | None = None
    """The class that was asked for, if one was."""
    score: float | None = None
    """Its probability, between 0 and 1."""

    def overlay(self, scale: Scale | None = None) -> Image.Image:
        """The picture with the map laid over it, at the picture's own size."""
        return Image.fromarray(overlay(self.picture_u8, self.heat, scale))

    def words(self) -> str:
        """Method, layer and head in words: "attention · layer 5 · mean over heads"."""
        layer = "all layers" if self.layer is None else f"layer {self.layer}"
        head = "mean over heads" if self.head is None else f"head {self.head}"
        return f"{self.method} · {layer} · {head}"
