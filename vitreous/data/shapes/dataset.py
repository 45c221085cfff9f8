"""Draw any number of images of one shape on a cluttered background, with the object's box and mask.

The class is the shape. Size, position, rotation and color are random and independent of the class. So a model has to
find the object before it can classify it, and its attention map can be compared with the mask.
"""

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction

import numpy as np
import torch

from vitreous.data.image_set import ImageSet
from vitreous.data.shapes.drawing import draw, ensure_contrast
from vitreous.data.shapes.outlines import OUTLINES
from vitreous.data.shapes.scene import random_scene, scene_at
from vitreous.errors import InputError

SHAPE_NAMES = tuple(OUTLINES)
SMALLEST_SIDE = 16
CHUNK = 32
"""Images that are drawn together, always all of them, so that image i doesn't depend on the count."""


def draw_shapes(count: int, seed: int, size: int = 64) -> ImageSet:
    """Draw `count` square images of `size` pixels, with boxes and masks; image i of a seed is always the same.

    Raises:
        InputError: `count` or `seed` is negative, or `size` is too small to recognize a shape.
    """
    if count < 0 or seed < 0 or size < SMALLEST_SIDE:
        raise InputError(
            f"can't draw {count} images of {size} pixels from seed {seed}: "
            f"give a count and a seed of at least 0 and a size of at least {SMALLEST_SIDE}"
        )
    images = np.empty((count, 3, size, size), np.uint8)
    masks = np.empty((count, size, size), bool)
    labels = np.empty(count, np.int64)
    for start in range(0, count, CHUNK):
        random = np.random.default_rng([seed, start])
        scene = random_scene(random, CHUNK, len(SHAPE_NAMES))
        drawn = draw(scene, (size, size), random)
        kept = slice(start, min(start + CHUNK, count))
        for whole, part in zip((images, masks, labels), (*drawn, scene.labels), strict=True):
            whole[kept] = part[: kept.stop - start]
    tensors = [torch.from_numpy(array) for array in (images, labels)]
    return ImageSet(*tensors, SHAPE_NAMES, torch.from_numpy(_boxes(masks)), torch.from_numpy(masks))


def draw_video(seconds: float, fps: Fraction | float, size_hw: tuple[int, int], seed: int) -> Iterator[np.ndarray]:
    """Draw a video, frame by frame: uint8 (height, width, 3). Its object is shape number `seed` modulo 8.

    The object moves from edge to edge and rotates slowly, in front of a swaying background.

    Raises:
        InputError: there is no frame to draw, the size is too small, or the seed is negative.
    """
    if round(seconds * fps) < 1 or min(size_hw) < SMALLEST_SIDE or seed < 0:
        raise InputError(
            f"can't draw {seconds} s at {fps} frames/s and {size_hw[0]} x {size_hw[1]} pixels from seed {seed}: "
            f"give at least one frame, sides of at least {SMALLEST_SIDE} and a seed of at least 0"
        )
    return _frames(round(seconds * fps), Fraction(fps), size_hw, seed)


def _frames(count: int, fps: Fraction, size_hw: tuple[int, int], seed: int) -> Iterator[np.ndarray]:
    random = np.random.default_rng([seed, 0])
    scene = random_scene(random, 1, 1)
    scene = replace(
        scene,
        labels=np.array([seed % len(SHAPE_NAMES)]),
        grain=np.array([0.01]),
        ink=ensure_contrast(scene.ink, scene.background.mean(axis=1), np.array([0.6])),
        contrast=np.zeros(1),  # the object keeps its color, while the background behind it changes
    )
    for index in range(count):
        image, _ = draw(scene_at(scene, float(index / fps)), size_hw, random)
        yield np.ascontiguousarray(image[0].transpose(1, 2, 0))


def _boxes(masks: np.ndarray) -> np.ndarray:
    """Return the smallest top, left, bottom, right (half-open) around each mask: int64 (count, 4)."""
    sides = []
    for axis in (2, 1):
        touched = np.logical_or.reduce(masks, axis=axis)
        sides.append((touched.argmax(axis=1), touched.shape[1] - touched[:, ::-1].argmax(axis=1)))
    (top, bottom), (left, right) = sides
    return np.stack([top, left, bottom, right], axis=1).astype(np.int64)
