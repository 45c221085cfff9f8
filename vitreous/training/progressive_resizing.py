"""Smaller images at the beginning of a run: fewer tokens, so more passes in the same time."""

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional

from vitreous.errors import InputError


@dataclass(frozen=True)
class ProgressiveResizing:
    """Images are shown at `scale` of their height and width over the first `share` of the steps; 0 for never.

    Few tokens suffice for what is learned first (Touvron et al. 2019, "Fixing the train-test resolution discrepancy";
    Tan and Le 2021, section 4, grow the images as well). Positions are resampled to the smaller grid.
    """

    fraction: float = 0.0
    initial_scale: float = 0.75

    def __post_init__(self) -> None:
        if not 0 <= self.fraction < 1:
            raise InputError(f"resolution.share is {self.fraction}: it must be at least 0 and below 1")
        if not 0 < self.initial_scale < 1:
            raise InputError(f"resolution.scale is {self.initial_scale}: it must be between 0 and 1")


def low_resolution(size_hw: tuple[int, int], settings: ProgressiveResizing, patch_size: int) -> tuple[int, int]:
    """The (height, width) that images are shown at in the beginning: whole patches of `patch_size` pixels."""
    height, width = (max(1, round(settings.initial_scale * side / patch_size)) * patch_size for side in size_hw)
    return height, width


def relative_cost(step: int, steps: int, settings: ProgressiveResizing) -> float:
    """What the first `step` of `steps` cost, in steps at full size, as far as tokens tell.

    >>> work(5, 10, ResolutionSettings(share=0.5, scale=0.5)), work(10, 10, ResolutionSettings(share=0.5, scale=0.5))
    (1.25, 6.25)
    """
    small = min(step, settings.fraction * steps)
    return step - small * (1 - settings.initial_scale**2)


def resize_batch(step: int, steps: int, images: Tensor, settings: ProgressiveResizing, patch_size: int) -> Tensor:
    """The batch (count, channels, height, width) as it is shown at `step` of `steps`, in whole patches of `patch_size`.

    The very first step is at full size, so that a batch which doesn't fit into memory is known of at once.

    >>> import torch
    >>> settings = ResolutionSettings(share=0.5)
    >>> [shown_at(step, 10, torch.zeros(1, 3, 32, 64), settings, 4).shape[2:] for step in (0, 4, 5)]
    [torch.Size([32, 64]), torch.Size([24, 48]), torch.Size([32, 64])]
    """
    if step == 0 or step >= settings.fraction * steps:
        return images
    size_hw = low_resolution((images.shape[2], images.shape[3]), settings, patch_size)
    return functional.interpolate(images, size_hw, mode="bilinear", align_corners=False, antialias=True)
