"""What a method may be told beyond the model, the images and the target."""

from dataclasses import dataclass
from typing import Literal

from vitreous.errors import InputError


@dataclass(frozen=True)
class Settings:
    """Each method uses some of these, as the table METHODS says; one that it has no use for it refuses."""

    layer: int | None = None
    """Counted from 0; negative ones from the end; None for the method's own choice, mostly the last."""
    head: int | None = None
    """Counted from 0; negative ones from the end; None for all heads, joined by `fusion`."""
    fusion: Literal["mean", "max", "min"] = "mean"
    """How the heads are joined."""
    discard: float = 0.0
    """Share of each row's weights, the smallest, that is set to nought: 0 to below 1."""
    query: tuple[int, int] | tuple[int, int, int, int] | None = None
    """The patch (row, column on the model's grid) whose own attention or likeness is shown; None for the readout's. Or
    the patches from (row, column) up to but without another (row, column), whose mean is taken."""
    steps: int | None = None
    """Points on the path of an integral; None for the method's own number."""
    samples: int | None = None
    """Random draws; None for the method's own number."""
    noise: float | None = None
    """Standard deviation of added noise over the range of the input's values; None for the method's own."""
    window: int | None = None
    """Side in patches, or in 1/14 of the shorter side for a model without patches, of what is hidden at a time."""
    view: Literal["colors", "similarity", "norms"] = "colors"
    """What of the patches' features is shown."""
    seed: int = 0
    """Of the random draws."""


def asked_places(query: tuple[int, int] | tuple[int, int, int, int]) -> tuple[tuple[int, int], ...]:
    """The patches (row, column) that a query names."""
    if len(query) == 2:
        return (query,)
    top, left, bottom, right = query
    return tuple((row, column) for row in range(top, bottom) for column in range(left, right))


def index(kind: str, number: int, count: int) -> int:
    """`number` as an index from 0, where negative numbers count from the end.

    Raises:
        InputError: there is no such layer or head; names the valid ones.
    """
    if not -count <= number < count:
        raise InputError(f"there is no {kind} {number}: this model has {kind}s 0 to {count - 1} (or -1 for the last)")
    return number % count
