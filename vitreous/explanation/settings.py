"""Which part of a model's attention a map shall show."""

from dataclasses import dataclass

from vitreous.errors import InputError


@dataclass(frozen=True)
class Settings:
    """What a method may be told. A method that has no use for a setting refuses it."""

    layer: int = -1
    """Counted from 0; negative ones from the end, −1 is the last."""
    head: int | None = None
    """Counted from 0; negative ones from the end; None for the mean over heads."""


def index(kind: str, number: int, count: int) -> int:
    """`number` as an index from 0, where negative numbers count from the end.

    Raises:
        InputError: there is no such layer or head; names the valid ones.
    """
    if not -count <= number < count:
        raise InputError(f"there is no {kind} {number}: this model has {kind}s 0 to {count - 1} (or -1 for the last)")
    return number % count
