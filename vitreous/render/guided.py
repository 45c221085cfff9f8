"""The fast guided filter: a coarse map is refined along the edges of its image."""

import numpy as np
from PIL import Image

from vitreous.render.color import check_map
from vitreous.render.upsample import PixelBox, clip_box, resize_plane

STATISTICS_SIDE = 96
RESULT_SIDE = 480
SMOOTHNESS = 0.02**2


def guided_filter(heatmap: np.ndarray, image_u8: np.ndarray, box: PixelBox | None = None) -> np.ndarray:
    """Upsample a float (rows, columns) map so that it follows the image's edges: float32, longest side at most 480.

    A local linear model of the image's colors is fitted at 96 pixels and applied at 480 (He, Sun and Tang, "Guided
    image filtering", 2013, equation 19; He and Sun, "Fast guided filter", 2015). Minimum, maximum and mean of the map
    are kept.

    Args:
        heatmap: the map, which covers `box`.
        image_u8: uint8 (height, width, 3).
        box: (top, left, bottom, right) in pixels; the whole image by default. The result covers the same box.

    Raises:
        InputError: the map is not two-dimensional, is empty, or holds a value that is not finite.
    """
    values = check_map(heatmap)
    top, left, bottom, right = clip_box(box, (image_u8.shape[0], image_u8.shape[1]))
    covered = image_u8[top:bottom, left:right]
    fine = downsample(covered, RESULT_SIDE)
    coarse = downsample(fine, STATISTICS_SIDE)
    target = resize_plane(values, coarse.shape[:2])
    guide = coarse.astype(np.float32) / 255
    cell = max(coarse.shape[0] / values.shape[0], coarse.shape[1] / values.shape[1])
    slope, offset = fit_linear_model(guide, target, max(1, round(cell)))
    planes = [resize_plane(plane, fine.shape[:2]) for plane in (*np.moveaxis(slope, 2, 0), offset)]
    result = planes[3]
    for channel in range(3):
        result = result + planes[channel] * (fine[..., channel] * np.float32(1 / 255))
    return match_mean(np.clip(result, values.min(), values.max()), values)


def fit_linear_model(guide: np.ndarray, target: np.ndarray, radius: int) -> tuple[np.ndarray, np.ndarray]:
    """Fit the target locally to the guide's colors: slope (height, width, 3) and offset (height, width)."""
    mean_guide, mean_target = box_mean(guide, radius), box_mean(target[..., None], radius)
    covariance = box_mean(guide * target[..., None], radius) - mean_guide * mean_target
    products = box_mean((guide[..., :, None] * guide[..., None, :]).reshape(*target.shape, 9), radius)
    variance = products.reshape(*target.shape, 3, 3) - mean_guide[..., :, None] * mean_guide[..., None, :]
    slope = np.linalg.solve(variance + SMOOTHNESS * np.eye(3, dtype=np.float32), covariance[..., None])[..., 0]
    offset = mean_target - (slope * mean_guide).sum(axis=2, keepdims=True)
    averaged = box_mean(np.concatenate([slope, offset], axis=2), radius)
    return averaged[..., :3], averaged[..., 3]


def box_mean(planes: np.ndarray, radius: int) -> np.ndarray:
    """Average the (2 radius + 1)² pixels around each that lie inside, by running sums: (height, width, planes)."""
    for axis in (0, 1):
        side = planes.shape[axis]
        sums = np.cumsum(planes, axis=axis, dtype=np.float64)
        sums = np.concatenate([np.zeros_like(sums.take([0], axis)), sums], axis)
        positions = np.arange(side)
        last, first = np.minimum(positions + radius + 1, side), np.maximum(positions - radius, 0)
        counts = (last - first).reshape(-1, *[1] * (planes.ndim - axis - 1))
        planes = (sums.take(last, axis) - sums.take(first, axis)) / counts
    return planes.astype(np.float32)


def match_mean(result: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Blend the result towards the map's maximum or minimum until it has the map's mean again."""
    missing = float(values.mean(dtype=np.float64) - result.mean(dtype=np.float64))
    extreme = values.max() if missing > 0 else values.min()
    room = float(extreme) - float(result.mean(dtype=np.float64))
    if abs(missing) >= abs(room):  # rounding alone: the result is that extreme already
        return result
    return result + np.float32(missing / room) * (extreme - result)


def downsample(image_u8: np.ndarray, max_side: int) -> np.ndarray:
    """Reduce the image by a whole factor to at most `max_side`; each pixel is the mean of those that it replaces."""
    factor = -(-max(image_u8.shape[:2]) // max_side)
    return np.asarray(Image.fromarray(np.ascontiguousarray(image_u8)).reduce(factor)) if factor > 1 else image_u8
