"""Where a clip cuts to another scene, found frame by frame on thumbnails."""

from dataclasses import dataclass

import numpy as np

from vitreous.render.image import check_image

SIDE = 32
SAMPLES = 4
BINS = 4
LEAST_CHANGE = 0.3
TIMES_USUAL = 2.5
MEMORY = 0.8
STILL = 3 / 255


@dataclass(frozen=True)
class Change:
    """How a frame differs from the one before.

    Attributes:
        cut: whether another scene begins with it (never for a clip's first frame).
        amount: 0 for the same image, up to 1 for one that shares neither its layout nor its colors.
        stillness: float32 (32, 32) in [0, 1]: 1 where nothing changed, 0.5 where a thumbnail's pixel changed by 3 of
            255 steps; zeros for a first frame and at a cut.
    """

    cut: bool
    amount: float
    stillness: np.ndarray


class SceneWatch:
    """Tells cuts from motion: a cut changes an image's layout and its colors, and far more than the frames before.

    A pan or a shake moves the layout and keeps most colors, a flash or a fade changes the brightness and keeps the
    layout: so the amount of change is the geometric mean of two distances, one minus the correlation of the thumbnails
    (at least 0) and half the L1 distance of their color histograms. It is a cut if it exceeds both a fixed least and a
    multiple of its running mean.
    """

    def __init__(self) -> None:
        self._before: np.ndarray | None = None
        self._histogram = np.zeros(0)
        self._usual = 0.0

    def update(self, image_u8: np.ndarray) -> Change:
        """Take in the next frame, uint8 (height, width, 3), of any size: how it differs from the one before."""
        small = thumbnail(image_u8)
        histogram = color_histogram(small)
        before, self._before = self._before, small
        previous, self._histogram = self._histogram, histogram
        if before is None:
            return Change(cut=False, amount=0.0, stillness=np.zeros((SIDE, SIDE), np.float32))
        amount = float(np.sqrt(layout_distance(before, small) * np.abs(histogram - previous).sum() / 2))
        cut = amount > max(LEAST_CHANGE, TIMES_USUAL * self._usual)
        if cut:
            return Change(cut, amount, np.zeros((SIDE, SIDE), np.float32))
        self._usual = MEMORY * self._usual + (1 - MEMORY) * amount
        moved = np.abs(small - before).mean(axis=2) / STILL
        return Change(cut, amount, 1 / (1 + moved * moved))


def thumbnail(image_u8: np.ndarray) -> np.ndarray:
    """The image on 32 x 32 pixels whatever its shape: float32 (32, 32, 3) in [0, 1], each the mean of 16 samples."""
    check_image(image_u8)
    rows, columns = (
        ((np.arange(SIDE * SAMPLES) + 0.5) * side / (SIDE * SAMPLES)).astype(int) for side in _hw(image_u8)
    )
    sampled = image_u8[rows[:, None], columns]
    return sampled.reshape(SIDE, SAMPLES, SIDE, SAMPLES, 3).mean(axis=(1, 3), dtype=np.float32) / 255


def layout_distance(before: np.ndarray, after: np.ndarray) -> float:
    """One minus the correlation of two thumbnails' brightness, between 0 and 1; 0 where both are even surfaces."""
    first, second = (image.mean(axis=2) - image.mean() for image in (before, after))
    spread = float(np.sqrt((first**2).sum() * (second**2).sum()))
    even = SIDE * SIDE * STILL**2
    return float(np.clip(1 - ((first * second).sum() + even) / (spread + even), 0, 1))


def color_histogram(small: np.ndarray) -> np.ndarray:
    """The shares of a thumbnail's pixels in 4 x 4 x 4 cells of color, softly counted: float64 (64,), sum 1."""
    shares = np.ones((SIDE * SIDE, 1))
    centers = (np.arange(BINS) + 0.5) / BINS
    for channel in range(3):
        values = np.clip(small[..., channel].reshape(-1, 1), centers[0], centers[-1])
        weights = np.maximum(0, 1 - np.abs(values - centers) * BINS)
        shares = (shares[:, :, None] * weights[:, None]).reshape(SIDE * SIDE, -1)
    return shares.mean(axis=0)


def _hw(image_u8: np.ndarray) -> tuple[int, int]:
    return image_u8.shape[0], image_u8.shape[1]
