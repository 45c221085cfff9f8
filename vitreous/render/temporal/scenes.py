"""Detect scene cuts, frame by frame, on thumbnails."""

from dataclasses import dataclass

import numpy as np

from vitreous.render.image import check_image

SIDE = 32
"""Side of the thumbnails in pixels."""
SAMPLES = 4
BINS = 4
MIN_CHANGE = 0.3
MIN_RATIO = 2.5
"""Change at a cut over the running mean of the changes before."""
MEAN_DECAY = 0.8
STILL_CHANGE = 3 / 255


@dataclass(frozen=True)
class SceneChange:
    """How a frame differs from the previous one.

    Attributes:
        cut: whether a new scene begins (never on the first frame of a video).
        amount: 0 for the same image, up to 1 for one with another layout and other colors.
        stillness: float32 (32, 32) in [0, 1]: 1 where nothing changed, 0.5 where a pixel of the thumbnail changed by 3
            of 255 steps; zeros on a first frame and at a cut.
    """

    cut: bool
    amount: float
    stillness: np.ndarray


class SceneDetector:
    """Detect cuts: a cut changes an image's layout and its colors, and far more than the frames before.

    A pan or a shake moves the layout and keeps most colors; a flash or a fade changes the brightness and keeps the
    layout. So the amount of change is the geometric mean of two distances: one minus the correlation of the thumbnails
    (at least 0), and half the L1 distance of their color histograms. A frame is a cut if the amount exceeds both a
    fixed minimum and a multiple of its running mean.
    """

    def __init__(self) -> None:
        self._before: np.ndarray | None = None
        self._histogram = np.zeros(0)
        self._mean_amount = 0.0

    def update(self, image_u8: np.ndarray) -> SceneChange:
        """Compare the next frame, uint8 (height, width, 3), of any size, with the previous one."""
        thumb = thumbnail(image_u8)
        histogram = color_histogram(thumb)
        before, self._before = self._before, thumb
        previous, self._histogram = self._histogram, histogram
        if before is None:
            return SceneChange(cut=False, amount=0.0, stillness=np.zeros((SIDE, SIDE), np.float32))
        amount = float(np.sqrt(layout_distance(before, thumb) * np.abs(histogram - previous).sum() / 2))
        cut = amount > max(MIN_CHANGE, MIN_RATIO * self._mean_amount)
        if cut:
            return SceneChange(cut, amount, np.zeros((SIDE, SIDE), np.float32))
        self._mean_amount = MEAN_DECAY * self._mean_amount + (1 - MEAN_DECAY) * amount
        change_ratio = np.abs(thumb - before).mean(axis=2) / STILL_CHANGE
        return SceneChange(cut, amount, 1 / (1 + change_ratio * change_ratio))


def thumbnail(image_u8: np.ndarray) -> np.ndarray:
    """Sample the image at 32 x 32 pixels: float32 (32, 32, 3) in [0, 1], each pixel the mean of 16 samples."""
    check_image(image_u8)
    rows, columns = (
        ((np.arange(SIDE * SAMPLES) + 0.5) * side / (SIDE * SAMPLES)).astype(int) for side in _hw(image_u8)
    )
    sampled = image_u8[rows[:, None], columns]
    return sampled.reshape(SIDE, SAMPLES, SIDE, SAMPLES, 3).mean(axis=(1, 3), dtype=np.float32) / 255


def layout_distance(before: np.ndarray, after: np.ndarray) -> float:
    """Return one minus the correlation of two thumbnails' brightness, between 0 and 1; 0 if both are uniform."""
    first, second = (image.mean(axis=2) - image.mean() for image in (before, after))
    spread = float(np.sqrt((first**2).sum() * (second**2).sum()))
    flat_energy = SIDE * SIDE * STILL_CHANGE**2
    return float(np.clip(1 - ((first * second).sum() + flat_energy) / (spread + flat_energy), 0, 1))


def color_histogram(thumb: np.ndarray) -> np.ndarray:
    """Return the soft histogram of a thumbnail's colors over 4 x 4 x 4 cells: float64 (64,), sum 1."""
    fractions = np.ones((SIDE * SIDE, 1))
    centers = (np.arange(BINS) + 0.5) / BINS
    for channel in range(3):
        values = np.clip(thumb[..., channel].reshape(-1, 1), centers[0], centers[-1])
        weights = np.maximum(0, 1 - np.abs(values - centers) * BINS)
        fractions = (fractions[:, :, None] * weights[:, None]).reshape(SIDE * SIDE, -1)
    return fractions.mean(axis=0)


def _hw(image_u8: np.ndarray) -> tuple[int, int]:
    return image_u8.shape[0], image_u8.shape[1]
