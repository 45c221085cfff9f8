"""Numbers to colors: a scale that brings a map into [0, 1], and a table that turns that into pixels."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image

from vitreous.errors import InputError, unknown

COLORMAPS = ("cividis", "inferno", "magma", "plasma", "viridis")
LOW_PERCENT, HIGH_PERCENT = 1.0, 99.5
MAX_SAMPLES = 65_536
FLAT_TOLERANCE = 1e-6
MIN_SIDE = 64


@lru_cache(maxsize=len(COLORMAPS))
def color_table(colormap: str = "inferno") -> np.ndarray:
    """The 256 colors of one of matplotlib's perceptually uniform colormaps: uint8 (256, 3), read-only."""
    if colormap not in COLORMAPS:
        raise unknown("colormap", colormap, COLORMAPS)
    from matplotlib import colormaps

    table = np.rint(colormaps[colormap](np.arange(256))[:, :3] * 255).astype(np.uint8)
    table.setflags(write=False)
    return table


def to_levels(values: np.ndarray) -> np.ndarray:
    """Values in [0, 1] as the nearest of 256 levels: uint8 of the same shape."""
    levels = values * np.float32(255)
    levels += np.float32(0.5)
    return levels.astype(np.uint8)


@dataclass(frozen=True)
class Scale:
    """The values that become 0 and 1: finite, `low` not above `high`."""

    low: float
    high: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low <= self.high):
            raise InputError(f"a scale from {self.low} to {self.high} is none: give two finite values, the lower first")

    @property
    def is_flat(self) -> bool:
        """Whether the two ends differ by no more than float32 rounding, so that nothing can be told apart."""
        return self.high - self.low <= max(
            FLAT_TOLERANCE * max(abs(self.low), abs(self.high)), float(np.finfo(np.float32).tiny)
        )

    def apply(self, heat: np.ndarray) -> np.ndarray:
        """The map from `low` to `high` as float32 in [0, 1], same shape, clipped beyond; zeros if the scale is flat."""
        values = np.asarray(heat, dtype=np.float32)
        if self.is_flat:
            return np.zeros(values.shape, np.float32)
        scaled = values - np.float32(self.low)
        scaled /= np.float32(self.high - self.low)
        return np.clip(scaled, 0, 1, out=scaled)

    @classmethod
    def robust(cls, heat: np.ndarray, low_percent: float = LOW_PERCENT, high_percent: float = HIGH_PERCENT) -> "Scale":
        """The scale between two percentiles of a (height, width) map, so that a few outlying pixels don't set it.

        Large maps are sampled evenly, some 65,000 pixels. Where the percentiles coincide (a map that is flat but
        for a few pixels) the ends are the least and the greatest value.

        Raises:
            InputError: the map is not two-dimensional, is empty, or holds a value that is not finite.
        """
        values = check_map(heat)
        step = max(1, math.isqrt(values.size // MAX_SAMPLES))
        low, high = np.percentile(values[::step, ::step], [low_percent, high_percent])
        scale = cls(float(low), float(high))
        return cls(float(values.min()), float(values.max())) if scale.is_flat else scale

    @classmethod
    def symmetric(cls, heat: np.ndarray, high_percent: float = HIGH_PERCENT) -> "Scale":
        """The scale from −m to m, with m the robust greatest size of a signed (height, width) map.

        Raises:
            InputError: as `robust`.
        """
        size = cls.robust(np.abs(check_map(heat)), high_percent=high_percent).high
        return cls(-size, size)

    @classmethod
    def for_map(cls, heat: np.ndarray, *, signed: bool = False) -> "Scale":
        """The map's own robust scale: around 0 for a signed one."""
        return cls.symmetric(heat) if signed else cls.robust(heat)


class StabilizedScale:
    """One scale for a clip: taken from a first window of maps, adapting slowly, begun anew at a scene cut.

    `begin` takes the scale of a whole window at once: robust percentiles of all its values. After that each end moves
    towards those of each new map: as a running mean while the window is young, then by half of the way in
    `half_life_seconds`; and never by more than that share of the present range, so that one odd frame can't jerk it. A
    blank map leaves it as it is. Maps at the resolution of a model's grid are judged as they will look enlarged.
    """

    def __init__(self, half_life_seconds: float = 4.0, *, signed: bool = False) -> None:
        if not 0 < half_life_seconds < math.inf:
            raise InputError(f"a half-life of {half_life_seconds} seconds is none: give a positive number")
        self._half_life, self._signed = half_life_seconds, signed
        self._scale: Scale | None = None
        self._maps = 0

    def begin(self, heats: Sequence[np.ndarray]) -> Scale:
        """Start anew, at a clip's begin or a scene cut, from a window of one or more float (height, width) maps."""
        pooled = np.concatenate([resize_coarse_map(heat).ravel() for heat in heats])
        self._scale, self._maps = Scale.for_map(pooled[None], signed=self._signed), len(heats)
        return self._scale

    def update(self, heat: np.ndarray, step_seconds: float = 0.04) -> Scale:
        """Take in the next map, float (height, width), shown `step_seconds` after the last: the scale to draw it with.

        The first map begins the clip where `begin` didn't.
        """
        if self._scale is None or self._scale.is_flat:
            return self.begin([heat])
        new = Scale.for_map(resize_coarse_map(heat), signed=self._signed)
        if not new.is_flat:
            self._maps += 1
            share = max(1 - 0.5 ** (max(step_seconds, 0.0) / self._half_life), 1 / self._maps)
            self._scale = _move_towards(new, self._scale, share)
        return self._scale


def _move_towards(new: Scale, old: Scale, share: float) -> Scale:
    span = old.high - old.low
    low = old.low + share * min(max(new.low - old.low, -span), span)
    high = old.high + share * min(max(new.high - old.high, -span), span)
    return Scale(low, max(low, high))


def resize_coarse_map(heat: np.ndarray) -> np.ndarray:
    """A map of few cells as it looks when enlarged bilinearly, whose peaks are rarer than cells: float32, two sides."""
    values = check_map(heat)
    times = -(-MIN_SIDE // min(values.shape))
    if times <= 1:
        return values
    size_wh = (times * values.shape[1], times * values.shape[0])
    return np.asarray(Image.fromarray(values).resize(size_wh, Image.Resampling.BILINEAR))


def check_map(heat: np.ndarray) -> np.ndarray:
    """The map as a float32 (height, width) array, or InputError if it is no such thing or not finite everywhere."""
    values = np.asarray(heat, dtype=np.float32)
    if values.ndim != 2 or values.size == 0:
        raise InputError(f"a map of shape {values.shape} can't be drawn: give one of shape (height, width)")
    if not (math.isfinite(values.min()) and math.isfinite(values.max())):
        count = values.size - np.count_nonzero(np.isfinite(values))
        raise InputError(f"the map holds {count} values that are not finite: look for the cause where it was computed")
    return values
