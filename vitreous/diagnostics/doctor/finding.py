"""One thing that was found inside a model, in words."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np


@dataclass(frozen=True)
class Finding:
    """What one check of the doctor says."""

    topic: str
    level: Literal["fault", "note", "well", "unknown"]
    """fault: maps or the model suffer from it; note: good to know; well: nothing to say; unknown: can't be told."""
    words: str
    """What was found, with its numbers."""
    meaning: str = ""
    """What follows from it for the maps or the model, and what to do; empty where nothing does."""
    places: tuple[tuple[int, ...], ...] = ()
    """Which it concerns: (layer, head) for heads, (layer,) for layers, both counted from 0."""
    numbers: dict[str, Any] = field(default_factory=dict)
    """The numbers behind the words, by name."""


def heads_in_words(places: Sequence[tuple[int, ...]], most: int = 6) -> str:
    """Heads by layer: "layer 3: heads 0, 2; layer 5: head 1".

    >>> heads_in_words([(3, 0), (3, 2), (5, 1)])
    'layer 3: heads 0, 2; layer 5: head 1'
    """
    by_layer: dict[int, list[int]] = {}
    for layer, head in places:
        by_layer.setdefault(layer, []).append(head)
    parts = [
        f"layer {layer}: head{'s' * (len(heads) > 1)} {', '.join(map(str, heads))}" for layer, heads in by_layer.items()
    ]
    more = f"; and {len(parts) - most} more layers" if len(parts) > most else ""
    return "; ".join(parts[:most]) + more


def layers_in_words(layers: Sequence[int]) -> str:
    """Layers as ranges: "layers 2-4, 7".

    >>> layers_in_words([2, 3, 4, 7]), layers_in_words([5])
    ('layers 2-4, 7', 'layer 5')
    """
    runs: list[list[int]] = []
    for layer in layers:
        if runs and layer == runs[-1][-1] + 1:
            runs[-1].append(layer)
        else:
            runs.append([layer])
    words = ", ".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else f"{run[0]}" for run in runs)
    return f"layer{'s' * (len(layers) > 1)} {words}"


def places_where(condition: np.ndarray) -> tuple[tuple[int, ...], ...]:
    """The indexes at which a condition, bool of any shape, holds."""
    return tuple(tuple(int(i) for i in place) for place in np.argwhere(condition))


def counted(number: int, noun: str) -> str:
    """A number and its noun: "1 head", "3 heads".

    >>> counted(1, "head"), counted(3, "head")
    ('1 head', '3 heads')
    """
    return f"{number:,} {noun}{'s' * (number != 1)}"
