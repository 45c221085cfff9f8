"""Map values to colors: a scale brings a map into [0, 1], and a lookup table turns that into pixels."""

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
MAX_RANGE_RATIO = 1.5
"""A map in a video is drawn with two thirds of the colors or more, and its range is at most 1.5 times the scale's."""
CATCH_UP_SECONDS = 0.25
"""Half-life with which the scale of a video gets to that limit."""
MIN_SIDE = 64


@lru_cache(maxsize=len(COLORMAPS))
def color_table(colormap: str = "inferno") -> np.ndarray:
    """Return the 256 colors of a perceptually uniform matplotlib colormap: uint8 (256, 3), read-only."""
    if colormap not in COLORMAPS:
        raise unknown("colormap", colormap, COLORMAPS)
    from matplotlib import colormaps

    table = np.rint(colormaps[colormap](np.arange(256))[:, :3] * 255).astype(np.uint8)
    table.setflags(write=False)
    return table


def to_levels(values: np.ndarray) -> np.ndarray:
    """Quantize values in [0, 1] to the nearest of 256 levels: uint8 of the same shape."""
    levels = values * np.float32(255)
    levels += np.float32(0.5)
    return levels.astype(np.uint8)


@dataclass(frozen=True)
class Scale:
    """The values of a map that are drawn as 0 and as 1: both finite, `low` at most `high`."""

    low: float
    high: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low <= self.high):
            raise InputError(
                f"a scale from {self.low} to {self.high} is invalid: give two finite values, the lower one first"
            )

    @property
    def is_flat(self) -> bool:
        """Whether the two ends differ by no more than float32 rounding, which leaves nothing to draw."""
        return self.high - self.low <= max(
            FLAT_TOLERANCE * max(abs(self.low), abs(self.high)), float(np.finfo(np.float32).tiny)
        )

    def apply(self, heatmap: np.ndarray) -> np.ndarray:
        """Scale a map from [`low`, `high`] to float32 in [0, 1], clipped; zeros if the scale is flat."""
        values = np.asarray(heatmap, dtype=np.float32)
        if self.is_flat:
            return np.zeros(values.shape, np.float32)
        scaled = values - np.float32(self.low)
        scaled /= np.float32(self.high - self.low)
        return np.clip(scaled, 0, 1, out=scaled)

    @classmethod
    def robust(
        cls, heatmap: np.ndarray, low_percent: float = LOW_PERCENT, high_percent: float = HIGH_PERCENT
    ) -> "Scale":
        """Return the scale between two percentiles of a (height, width) map, so that outlying pixels don't set it.

        Large maps are sampled evenly, at about 65,000 pixels. If the percentiles coincide (the map is flat but for a
        few pixels), the ends are the minimum and the maximum.

        Raises:
            InputError: the map is not two-dimensional, is empty, or holds a value that is not finite.
        """
        values = check_map(heatmap)
        step = max(1, math.isqrt(values.size // MAX_SAMPLES))
        low, high = np.percentile(values[::step, ::step], [low_percent, high_percent])
        scale = cls(float(low), float(high))
        return cls(float(values.min()), float(values.max())) if scale.is_flat else scale

    @classmethod
    def symmetric(cls, heatmap: np.ndarray, high_percent: float = HIGH_PERCENT) -> "Scale":
        """Return the scale from −m to m, where m is the robust maximum of a signed map's absolute values.

        Raises:
            InputError: as `robust`.
        """
        size = cls.robust(np.abs(check_map(heatmap)), high_percent=high_percent).high
        return cls(-size, size)

    @classmethod
    def for_map(cls, heatmap: np.ndarray, *, signed: bool = False) -> "Scale":
        """Return the robust scale of a map; a symmetric one if the map is signed."""
        return cls.symmetric(heatmap) if signed else cls.robust(heatmap)


class StabilizedScale:
    """One scale for a whole video: taken from the first window of maps, then adapted, and reset at scene cuts.

    `begin` takes the robust percentiles over a whole window. After that each end moves towards those of each new map:
    as a running mean while the window is young, then by half of the way in `half_life_seconds`. So maps keep their
    brightness relative to each other for seconds, within a factor of 1.5. A map that would drown, because its range is
    less than two thirds of the scale's, or saturate, because its range is more than 1.5 times as wide, moves the ends
    towards that limit with a half-life of a quarter of a second. No end moves by more than its fraction of the current
    range, so that one odd frame can't shift it much. A flat map leaves the scale unchanged. Coarse maps are upsampled
    first, because they are drawn upsampled.
    """

    def __init__(self, half_life_seconds: float = 4.0, *, signed: bool = False) -> None:
        if not 0 < half_life_seconds < math.inf:
            raise InputError(f"a half-life of {half_life_seconds} seconds is invalid: give a positive number")
        self._half_life, self._signed = half_life_seconds, signed
        self._scale: Scale | None = None
        self._maps = 0

    def begin(self, heatmaps: Sequence[np.ndarray]) -> Scale:
        """Start over, at the beginning of a video or a scene, from a window of float (height, width) maps."""
        pooled = np.concatenate([resize_coarse_map(heatmap).ravel() for heatmap in heatmaps])
        self._scale, self._maps = Scale.for_map(pooled[None], signed=self._signed), len(heatmaps)
        return self._scale

    def update(self, heatmap: np.ndarray, step_seconds: float = 0.04) -> Scale:
        """Return the scale for the next map, float (height, width), shown `step_seconds` after the last one.

        The first map starts the scale if `begin` was not called.
        """
        if self._scale is None or self._scale.is_flat:
            return self.begin([heatmap])
        new = Scale.for_map(resize_coarse_map(heatmap), signed=self._signed)
        if not new.is_flat:
            self._maps += 1
            catch_up = self._fraction(min(CATCH_UP_SECONDS, self._half_life), step_seconds)
            self._scale = _move_towards(_visible_scale(new, self._scale), self._scale, catch_up)
            fraction = max(self._fraction(self._half_life, step_seconds), 1 / self._maps)
            self._scale = _move_towards(new, self._scale, fraction)
        return self._scale

    @staticmethod
    def _fraction(half_life_seconds: float, step_seconds: float) -> float:
        return 1 - 0.5 ** (max(step_seconds, 0.0) / half_life_seconds)


def _visible_scale(new: Scale, old: Scale) -> Scale:
    """Return the scale nearest to the old one on which a map whose own scale is the new one can be seen."""
    span, beyond = new.high - new.low, (new.low - old.low, old.high - new.high)
    excess, lack = (sum(max(0.0, sign * part) for part in beyond) for sign in (1, -1))
    keep_excess = min(1.0, (MAX_RANGE_RATIO - 1) * span / excess) if excess else 1.0
    keep_lack = min(1.0, (1 - 1 / MAX_RANGE_RATIO) * span / lack) if lack else 1.0
    below, above = (part * (keep_excess if part > 0 else keep_lack) for part in beyond)
    low = new.low - below
    return Scale(low, max(low, new.high + above))


def _move_towards(new: Scale, old: Scale, fraction: float) -> Scale:
    span = old.high - old.low
    low = old.low + fraction * min(max(new.low - old.low, -span), span)
    high = old.high + fraction * min(max(new.high - old.high, -span), span)
    return Scale(low, max(low, high))


def resize_coarse_map(heatmap: np.ndarray) -> np.ndarray:
    """Upsample a coarse map bilinearly, as it is drawn, to at least 64 cells per side: float32 (rows, columns).

    Interpolation makes peaks rarer, so percentiles of the grid itself would be too high.
    """
    values = check_map(heatmap)
    times = -(-MIN_SIDE // min(values.shape))
    if times <= 1:
        return values
    size_wh = (times * values.shape[1], times * values.shape[0])
    return np.asarray(Image.fromarray(values).resize(size_wh, Image.Resampling.BILINEAR))


def check_map(heatmap: np.ndarray) -> np.ndarray:
    """Return the map as a float32 (height, width) array.

    Raises:
        InputError: the map is not two-dimensional, is empty, or holds a value that is not finite.
    """
    values = np.asarray(heatmap, dtype=np.float32)
    if values.ndim != 2 or values.size == 0:
        raise InputError(f"a map of shape {values.shape} can't be drawn: give one of shape (height, width)")
    if not (math.isfinite(values.min()) and math.isfinite(values.max())):
        count = values.size - np.count_nonzero(np.isfinite(values))
        raise InputError(f"the map holds {count} values that are not finite: look for the cause where it was computed")
    return values
