"""Does a map fall on the object: the measures of one map against one mask, each higher for a better map.

A map says nothing by its units, only by where it is high, so every measure is unchanged when the map is multiplied by
a number. Of a signed map the positive part counts. Pixels of equal height count as equal: a map that is the same
everywhere, or has no positive part, scores what chance gives.
"""

from dataclasses import dataclass, fields

import numpy as np

from vitreous.evaluation.intervals import Estimate, bootstrap_mean

TOLERANCE = 0.03
"""How far beside the object the peak may lie, over the image's longer side, for `pointing_near`: the 15 pixels of
Zhang et al. (2018, section 4.1) on images of about 500."""


@dataclass(frozen=True)
class Localization:
    """How one map falls on one image's object."""

    pointing: float
    """1 if the map's highest pixel is on the object, else 0 (the pointing game, Zhang et al. 2018, section 4.1); of
    several equally high pixels, the share that is."""
    pointing_near: float
    """The same, where `TOLERANCE` beside the object still counts."""
    energy: float
    """Share of the positive map that is on the object (Wang et al. 2020, equation 5), 0 to 1."""
    energy_over_chance: float
    """That share over the object's share of the image's area: 1 for a map that knows nothing."""
    precision: float
    """Average precision of the pixels, ranked by the map: the mean precision over recall, 0 to 1; by chance the
    object's share of the area."""
    best_overlap: float
    """Intersection over union at the best of all thresholds, 0 to 1. An oracle: the threshold is chosen knowing the
    mask, so it bounds what a map could give and is nothing a user can reach."""
    best_threshold: float
    """That threshold, over the map's maximum."""


SHOWN = {
    "pointing": "peak on the object",
    "pointing_near": f"peak on it or {TOLERANCE:.0%} beside",
    "energy": "share of the map on it",
    "energy_over_chance": "that share over chance",
    "precision": "average precision of pixels",
    "best_overlap": "overlap at best threshold (oracle)",
}
"""The measures in words, in the order in which they are told; the threshold is no measure of quality."""


def localize(heat: np.ndarray, mask: np.ndarray, near: np.ndarray | None = None) -> Localization:
    """All measures of a map, float (height, width), against a mask, bool (height, width), true on the object.

    `near` is `widened(mask)` where the caller has it already. The mask has pixels on and off the object.
    """
    assert heat.shape == mask.shape and heat.ndim == 2 and mask.dtype == np.bool_, (heat.shape, mask.shape, mask.dtype)
    assert mask.any(), "the mask is empty: there is no object to fall on"
    weights = positive(heat)
    energy = energy_inside(weights, mask)
    heights, hits, counts = ranked(weights, mask)
    overlap, place = best_overlap(hits, counts)
    return Localization(
        pointing=pointing(weights, mask),
        pointing_near=pointing(weights, widened(mask) if near is None else near),
        energy=energy,
        energy_over_chance=energy / float(mask.mean()),
        precision=average_precision(hits, counts),
        best_overlap=overlap,
        best_threshold=float(heights[place] / heights[0]),
    )


def positive(heat: np.ndarray) -> np.ndarray:
    """The positive part of a map, float64 and at most 1; ones where there is none."""
    weights = np.maximum(heat, 0).astype(np.float64)
    highest = weights.max()
    return weights / highest if highest > 0 else np.ones_like(weights)


def pointing(weights: np.ndarray, mask: np.ndarray) -> float:
    """Share of the highest pixels that are on the object: 0 or 1 where one pixel is the highest."""
    return float(mask[weights == weights.max()].mean())


def widened(mask: np.ndarray, share: float = TOLERANCE) -> np.ndarray:
    """The object and all pixels whose center is at most `share` of the longer side from one of its own."""
    radius = int(share * max(mask.shape))
    wide = np.zeros_like(mask)
    for down in range(-radius, radius + 1):
        across = int((radius**2 - down**2) ** 0.5)
        source = mask[max(0, -down) : mask.shape[0] - max(0, down)]
        wide[max(0, down) : mask.shape[0] - max(0, -down)] |= _widened_across(source, across)
    return wide


def _widened_across(mask: np.ndarray, reach: int) -> np.ndarray:
    """True where a pixel of the same row within `reach` is true."""
    total = np.cumsum(np.pad(mask, ((0, 0), (reach + 1, reach))), 1, dtype=np.int32)
    return total[:, 2 * reach + 1 :] > total[:, : mask.shape[1]]


def energy_inside(weights: np.ndarray, mask: np.ndarray) -> float:
    """Share of a map of 0 and above that is on the object."""
    return float(weights[mask].sum() / weights.sum())


def ranked(weights: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The map cut at each of its heights, highest first: heights, pixels of the object above, pixels above."""
    order = np.argsort(weights, axis=None)[::-1]
    heights = weights.ravel()[order]
    last = np.append(np.flatnonzero(np.diff(heights)), heights.size - 1)
    return heights[last], np.cumsum(mask.ravel()[order])[last], last + 1


def best_overlap(hits: np.ndarray, counts: np.ndarray) -> tuple[float, int]:
    """The highest intersection over union over all cuts, and which cut gives it."""
    overlaps = hits / (counts + hits[-1] - hits)
    place = int(overlaps.argmax())
    return float(overlaps[place]), place


def average_precision(hits: np.ndarray, counts: np.ndarray) -> float:
    """Σ (recall_n − recall_{n−1}) precision_n over the cuts."""
    return float(np.sum(np.diff(hits, prepend=0) / hits[-1] * hits / counts))


def localization_scores(measured: list[Localization]) -> dict[str, Estimate]:
    """The mean of each measure over images, with its bootstrap interval; the threshold left out."""
    names = [field.name for field in fields(Localization) if field.name in SHOWN]
    return {name: bootstrap_mean(np.array([getattr(one, name) for one in measured]), "higher") for name in names}
