"""Localization metrics: how well one map falls on the object in one mask. Higher is better for all of them.

The values of a map have no common unit, so every metric is unchanged when the map is multiplied by a number. Of a
signed map only the positive part counts. Tied pixels are treated alike: a constant map, or one without a positive part,
scores as by chance.
"""

from dataclasses import dataclass

import numpy as np

from vitreous.evaluation.intervals import Estimate, bootstrap_mean, wilson_interval

TOLERANCE = 0.03
"""Distance from the object at which a maximum still counts in `pointing_game_tolerant`, over the image's longer side.
Zhang et al. (2018, section 4.1) use 15 pixels on images of about 500."""


@dataclass(frozen=True)
class LocalizationScores:
    """The metrics of one map on one image.

    Attributes:
        pointing_game: 1 if the map's maximum is on the object, else 0 (Zhang et al. 2018, section 4.1); with several
            maxima, the fraction of them that is.
        pointing_game_tolerant: The same, with a tolerance of `TOLERANCE` around the object.
        energy: Energy-based pointing game: the fraction of the positive map that is on the object, 0 to 1 (Wang et
            al. 2020, equation 5).
        energy_over_chance: `energy` over the object's fraction of the image: 1 for a map that doesn't depend on the
            object.
        average_precision: Average precision of the pixels, ranked by the map, 0 to 1; by chance the object's fraction
            of the image.
        max_iou: Intersection over union at the best of all thresholds, 0 to 1. This threshold is chosen with the mask
            at hand, so the value is an upper bound that no user can reach.
        max_iou_threshold: The threshold of `max_iou`, over the map's maximum.
    """

    pointing_game: float
    pointing_game_tolerant: float
    energy: float
    energy_over_chance: float
    average_precision: float
    max_iou: float
    max_iou_threshold: float


METRICS = {
    "pointing_game": "pointing game",
    "pointing_game_tolerant": f"pointing game, {TOLERANCE:.0%} tolerance",
    "energy": "energy-based pointing game",
    "energy_over_chance": "energy over that of a uniform map",
    "average_precision": "average precision of the pixels",
    "max_iou": "IoU at the best threshold (oracle)",
}
"""Titles of the metrics, in the order of tables; the threshold measures no quality."""
PROPORTIONS = ("pointing_game", "pointing_game_tolerant")
"""The metrics that are hit or miss on each image."""


def measure_localization(
    heatmap: np.ndarray, mask: np.ndarray, tolerant_mask: np.ndarray | None = None
) -> LocalizationScores:
    """Measure how well a map falls on an object.

    Args:
        heatmap: float (height, width).
        mask: bool (height, width), true on the object; neither all true nor all false.
        tolerant_mask: `dilate_mask(mask)`, where the caller has it already.
    """
    assert heatmap.shape == mask.shape and heatmap.ndim == 2 and mask.dtype == np.bool_, (heatmap.shape, mask.shape)
    assert mask.any() and not mask.all(), "the mask shows no object, or nothing else"
    weights = positive_part(heatmap)
    energy = energy_on_object(weights, mask)
    thresholds, hits, counts = cut_at_thresholds(weights, mask)
    max_iou, best = best_iou(hits, counts)
    return LocalizationScores(
        pointing_game=pointing_game(weights, mask),
        pointing_game_tolerant=pointing_game(weights, dilate_mask(mask) if tolerant_mask is None else tolerant_mask),
        energy=energy,
        energy_over_chance=energy / float(mask.mean()),
        average_precision=average_precision(hits, counts),
        max_iou=max_iou,
        max_iou_threshold=float(thresholds[best] / thresholds[0]),
    )


def positive_part(heatmap: np.ndarray) -> np.ndarray:
    """Return the positive part of a map, float64, scaled to a maximum of 1; ones where there is none."""
    weights = np.maximum(heatmap, 0).astype(np.float64)
    maximum = weights.max()
    return weights / maximum if maximum > 0 else np.ones_like(weights)


def pointing_game(weights: np.ndarray, mask: np.ndarray) -> float:
    """Return the fraction of the maximal pixels that is on the object: 0 or 1 for a single maximum."""
    return float(mask[weights == weights.max()].mean())


def dilate_mask(mask: np.ndarray, tolerance: float = TOLERANCE) -> np.ndarray:
    """Dilate a mask by a disk whose radius is `tolerance` times the longer side."""
    radius = int(tolerance * max(mask.shape))
    dilated = np.zeros_like(mask)
    for down in range(-radius, radius + 1):
        reach = int((radius**2 - down**2) ** 0.5)
        rows = mask[max(0, -down) : mask.shape[0] - max(0, down)]
        dilated[max(0, down) : mask.shape[0] - max(0, -down)] |= _dilate_rows(rows, reach)
    return dilated


def _dilate_rows(mask: np.ndarray, reach: int) -> np.ndarray:
    """Set the pixels of each row within `reach` of a true pixel."""
    total = np.cumsum(np.pad(mask, ((0, 0), (reach + 1, reach))), 1, dtype=np.int32)
    return total[:, 2 * reach + 1 :] > total[:, : mask.shape[1]]


def energy_on_object(weights: np.ndarray, mask: np.ndarray) -> float:
    """Return the fraction of a non-negative map that is on the object."""
    return float(weights[mask].sum() / weights.sum())


def cut_at_thresholds(weights: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cut a map at each distinct value, from the highest: thresholds, object pixels above, all pixels above."""
    order = np.argsort(weights, axis=None)[::-1]
    values = weights.ravel()[order]
    last = np.append(np.flatnonzero(np.diff(values)), values.size - 1)
    return values[last], np.cumsum(mask.ravel()[order])[last], last + 1


def best_iou(hits: np.ndarray, counts: np.ndarray) -> tuple[float, int]:
    """Return the largest intersection over union of all cuts, and the index of the cut."""
    ious = hits / (counts + hits[-1] - hits)
    best = int(ious.argmax())
    return float(ious[best]), best


def average_precision(hits: np.ndarray, counts: np.ndarray) -> float:
    """Return Σ (recall_n − recall_{n−1}) precision_n over the cuts."""
    return float(np.sum(np.diff(hits, prepend=0) / hits[-1] * hits / counts))


def average_scores(scores: list[LocalizationScores]) -> dict[str, Estimate]:
    """Average each of `METRICS` over images, with Wilson intervals of proportions and bootstrap intervals of means.

    With several maxima, an image counts as a fraction of a hit; the Wilson interval is then wider than need be.
    """
    rows = [vars(one) for one in scores]
    estimates = {}
    for name in METRICS:
        values = np.array([row[name] for row in rows])
        if name in PROPORTIONS:
            low, high = wilson_interval(values.sum(), len(values))
            estimates[name] = Estimate(float(values.mean()), low, high, len(values), "higher")
        else:
            estimates[name] = bootstrap_mean(values, "higher")
    return estimates
