"""Mixup and CutMix: a batch is mixed with itself, and its labels (and masks) with those of the other images."""

from collections.abc import Collection
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from vitreous.data.augment import Augment
from vitreous.data.batch import Batch, Truth
from vitreous.errors import InputError
from vitreous.runtime import seed_for


def mix_batch(batch: Batch, classes: int, settings: Augment, seed: int, step: int) -> Batch:
    """Mix each image of a batch with the one before it. The result depends on `seed` and `step` alone.

    Mixup (Zhang et al. 2018) adds the other image, CutMix (Yun et al. 2019) pastes a box of it, and the same part of
    its mask. With both, each batch is mixed in one of the two ways, at random (as in timm).

    Args:
        batch: floating-point images, normalized or not, with labels int64 (batch); its boxes can't be mixed, and masks
            only by CutMix (`check_truth`).
        classes: their number.
        settings: the parameter of the beta distribution from which each batch draws its part, for each way.
        seed: the run's seed.
        step: the number of the batch.

    Returns:
        The batch with soft labels (batch, classes), float32.
    """
    random = np.random.default_rng(seed_for(seed, "mixing", step))
    is_cutmix = bool(settings.cutmix) and (not settings.mixup or random.random() < 0.5)
    alpha = settings.cutmix if is_cutmix else settings.mixup
    kept = random.beta(alpha, alpha)
    if is_cutmix:
        height, width = batch.images.shape[2:]
        (top, left), (bottom, right) = _random_box((height, width), 1 - kept, random)
        images = _paste(batch.images, slice(top, bottom), slice(left, right))
        masks = None if batch.masks is None else _paste(batch.masks, slice(top, bottom), slice(left, right))
        kept = 1 - (bottom - top) * (right - left) / (height * width)
    else:
        images, masks = torch.lerp(batch.images.roll(1, 0), batch.images, kept), batch.masks
    targets = functional.one_hot(batch.labels, classes).float()
    return replace(batch, images=images, labels=torch.lerp(targets.roll(1, 0), targets, kept), masks=masks)


def check_truth(truth: Collection[Truth], settings: Augment) -> None:
    """Refuse to mix images whose boxes or masks can't be mixed like them.

    Raises:
        InputError: boxes with mixup or CutMix, or masks with mixup.
    """
    for name in ("mixup", "cutmix"):
        if getattr(settings, name) and "boxes" in truth:
            raise InputError(f"augment.{name} can't mix the boxes that this task learns from: set augment.{name}=0")
    if settings.mixup and "masks" in truth:
        raise InputError(
            "augment.mixup can't mix the masks that this task learns from: set augment.mixup=0; augment.cutmix can"
        )


def _paste(images: Tensor, rows: slice, columns: slice) -> Tensor:
    """Return images or masks (batch, ..., height, width), each with a box of the one before it."""
    pasted = images.clone()
    pasted[..., rows, columns] = images.roll(1, 0)[..., rows, columns]
    return pasted


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
