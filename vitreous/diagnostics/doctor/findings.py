"""The result of one check of the doctor, and how it names heads and layers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np


@dataclass(frozen=True)
class Finding:
    """The result of one check.

    Attributes:
        level: fault: the maps or the model suffer from it; note: worth knowing; ok: nothing wrong; unknown: can't be
            measured.
        message: What was found, with its numbers.
        advice: What it means for the maps or the model, and what to do; empty if nothing is wrong.
        locations: (layer, head) of the heads, or (layer,) of the layers concerned, counted from 0.
        values: The numbers behind the message, and nested lists of numbers, by name.
    """

    topic: str
    level: Literal["fault", "note", "ok", "unknown"]
    message: str
    advice: str = ""
    locations: tuple[tuple[int, ...], ...] = ()
    values: Mapping[str, object] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.level}: {self.topic}: {self.message}"


def format_heads(locations: Sequence[tuple[int, ...]], max_layers: int = 6) -> str:
    """List heads by layer.

    >>> format_heads([(3, 0), (3, 2), (5, 1)])
    'layer 3: heads 0, 2; layer 5: head 1'
    """
    by_layer: dict[int, list[int]] = {}
    for layer, head in locations:
        by_layer.setdefault(layer, []).append(head)
    parts = [
        f"layer {layer}: head{'s' * (len(heads) > 1)} {', '.join(map(str, heads))}" for layer, heads in by_layer.items()
    ]
    more = f"; and {len(parts) - max_layers} more layers" if len(parts) > max_layers else ""
    return "; ".join(parts[:max_layers]) + more


def format_layers(layers: Sequence[int]) -> str:
    """List layers as ranges.

    >>> format_layers([2, 3, 4, 7]), format_layers([5])
    ('layers 2-4, 7', 'layer 5')
    """
    runs: list[list[int]] = []
    for layer in layers:
        if runs and layer == runs[-1][-1] + 1:
            runs[-1].append(layer)
        else:
            runs.append([layer])
    ranges = ", ".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else f"{run[0]}" for run in runs)
    return f"layer{'s' * (len(layers) > 1)} {ranges}"


def locations_where(condition: np.ndarray) -> tuple[tuple[int, ...], ...]:
    """Return the indexes at which a condition, bool of any shape, is true."""
    return tuple(tuple(int(i) for i in index) for index in np.argwhere(condition))


def pluralize(number: int, noun: str) -> str:
    """Write a number and its noun.

    >>> pluralize(1, "head"), pluralize(3, "head")
    ('1 head', '3 heads')
    """
    return f"{number:,} {noun}{'s' * (number != 1)}"
