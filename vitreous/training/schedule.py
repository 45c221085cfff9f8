"""The learning rate over a run: up, then down to zero, or never down."""

import math
from dataclasses import dataclass
from typing import Literal

from vitreous.errors import InputError


@dataclass(frozen=True)
class ScheduleSettings:
    """A linear warm-up over the first share of the steps, then linear or cosine to zero, or at the peak to the end."""

    warmup: float = 0.1
    shape: Literal["linear", "cosine", "constant"] = "linear"

    def __post_init__(self) -> None:
        if not 0 <= self.warmup < 1:
            raise InputError(f"schedule.warmup is {self.warmup}: it must be at least 0 and below 1")


def factor(step: int, steps: int, settings: ScheduleSettings) -> float:
    """The share of the peak learning rate at `step` of `steps`: above 0 at step 0; 0 after the last step, or 1.

    >>> [round(factor(step, 10, ScheduleSettings(warmup=0.2)), 3) for step in (0, 1, 2, 6, 10)]
    [0.5, 1.0, 1.0, 0.5, 0.0]
    """
    warmup = settings.warmup * steps
    if step < warmup:
        return min(1.0, (step + 1) / warmup)
    if settings.shape == "constant":
        return 1.0
    left = (steps - step) / (steps - warmup)
    return left if settings.shape == "linear" else (1 - math.cos(math.pi * left)) / 2
