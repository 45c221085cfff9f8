"""Mixup and CutMix: a batch is mixed with itself, and its labels with those of the other images."""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from vitreous.data.augment import Augment
from vitreous.runtime import seed_for


def mix_batch(
    images: Tensor, labels: Tensor, classes: int, settings: Augment, seed: int, step: int
) -> tuple[Tensor, Tensor]:
    """Mix each image of a batch with the one before it. The result depends on `seed` and `step` alone.

    Mixup (Zhang et al. 2018) adds the other image, CutMix (Yun et al. 2019) pastes a box of it. With both, each batch
    is mixed in one of the two ways, at random (as in timm).

    Args:
        images: (batch, channels, height, width), normalized or not.
        labels: int64 (batch).
        classes: their number.
        settings: the parameter of the beta distribution from which each batch draws its part, for each way.
        seed: the run's seed.
        step: the number of the batch.

    Returns:
        The images, and the soft labels (batch, classes), float32.
    """
    random = np.random.default_rng(seed_for(seed, "mixing", step))
    is_cutmix = bool(settings.cutmix) and (not settings.mixup or random.random() < 0.5)
    alpha = settings.cutmix if is_cutmix else settings.mixup
    kept = random.beta(alpha, alpha)
    others = images.roll(1, 0)
    if is_cutmix:
        (top, left), (bottom, right) = _random_box((images.shape[2], images.shape[3]), 1 - kept, random)
        images = images.clone()
        images[:, :, top:bottom, left:right] = others[:, :, top:bottom, left:right]
        kept = 1 - (bottom - top) * (right - left) / (images.shape[2] * images.shape[3])
    else:
        images = torch.lerp(others, images, kept)
    targets = functional.one_hot(labels, classes).float()
    return images, torch.lerp(targets.roll(1, 0), targets, kept)


def _random_box(
    size_hw: tuple[int, int], fraction: float, random: np.random.Generator
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Draw a box of about this fraction of the area, cut off at the borders: (top, left), (bottom, right)."""
    spans = []
    for side in size_hw:
        center, half = random.integers(side), side * fraction**0.5 / 2
        spans.append((max(0, round(center - half)), min(side, round(center + half))))
    (top, bottom), (left, right) = spans
    return (top, left), (bottom, right)
