"""What every method takes and gives: the one signature of the table METHODS."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

from torch import Tensor

from vitreous.explanation.options import Settings
from vitreous.explanation.targets import Target
from vitreous.model.trace import Trace


class Model(Protocol):
    """A model as methods see it: prepared images in, logits out; given a trace, it fills it.

    Our ViT is one, and so is anyone's model seen through `observe`. Some methods also need `read`, from a layer's
    tokens to logits, which our ViT has; `reader` asks for it.
    """

    def __call__(self, images: Tensor, trace: Trace | None = None) -> Tensor:
        """Images (batch, channels, height, width), normalized, to logits (batch, classes)."""
        ...


@dataclass(frozen=True)
class Maps:
    """What a method found for a batch of images."""

    grids: Tensor
    """(batch, rows, columns) over what the model saw: a number a patch, or a number a pixel."""
    logits: Tensor
    """(batch, classes): what the model answered."""
    layer: int | None = None
    """The layer shown, counted from 0; None for all."""
    head: int | None = None
    """The head shown, counted from 0; None for all, joined."""
    gap: Tensor | None = None
    """(batch): by how much the map's sum misses what it ought to explain, in units of the target's score."""
    colors: Tensor | None = None
    """(batch, rows, columns, 3) in [0, 1], for a map that is drawn in colors of its own."""


Explain = Callable[[Model, Tensor, Target, Settings], Maps]
"""(model, images (batch, channels, height, width), target, settings) to maps."""


@dataclass(frozen=True)
class Method:
    """One way to explain, and what there is to know of it before it runs."""

    explain: Explain
    """What finds the maps."""
    summary: str
    """What the map shows, in one line."""
    kind: Literal["share", "evidence", "signed"]
    """share: weights of tokens that add to 1, prefix tokens included (but where heads are joined by maximum or
    minimum); evidence: 0 or above; signed: for and against."""
    settings: frozenset[str] = frozenset()
    """The names of the settings it uses."""
    asks_target: bool = True
    """Whether the map is another one for another target."""
    takes_gradients: bool = False
    """Whether it needs a model that has them."""
