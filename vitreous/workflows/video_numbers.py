"""A map of a frame in a few numbers: how spread it is, and where its middle lies."""

import math

import numpy as np


def mass(heat: np.ndarray) -> np.ndarray:
    """What of a map, float (rows, columns), speaks for its target, as shares that add to 1; zeros if nothing does."""
    positive = np.maximum(heat.astype(np.float64), 0)
    total = positive.sum()
    return positive / total if total > 0 else positive


def entropy(heat: np.ndarray) -> float:
    """How spread a map is: Σ −p log p over log(cells), 0 all on one cell, 1 even; not a number for an empty map."""
    shares = mass(heat)
    if not shares.any() or shares.size == 1:
        return math.nan
    present = shares[shares > 0]
    return abs(float(-(present * np.log(present)).sum() / math.log(shares.size)))


def center_of_mass(heat: np.ndarray, box: tuple[float, float, float, float]) -> tuple[float, float]:
    """The mean place of a map over `box` (top, left, bottom, right): (y, x) in its pixels; not numbers if empty."""
    shares, (top, left, bottom, right) = mass(heat), box
    if not shares.any():
        return math.nan, math.nan
    rows, columns = heat.shape
    down, across = ((np.arange(cells) + 0.5) / cells for cells in (rows, columns))
    y = top + float(shares.sum(1) @ down) * (bottom - top)
    return y, left + float(shares.sum(0) @ across) * (right - left)
