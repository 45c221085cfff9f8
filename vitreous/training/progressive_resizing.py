"""Progressive resizing: train on smaller images first, which have fewer tokens and so allow more epochs in the same
time."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional

from vitreous.data.batch import Batch
from vitreous.errors import InputError


@dataclass(frozen=True)
class ProgressiveResizing:
    """Train on images of `initial_scale` times their height and width for the first `fraction` of the steps.

    Few tokens suffice for what a model learns first (Touvron et al. 2019, "Fixing the train-test resolution
    discrepancy"; Tan and Le 2021, section 4, grow the images as well). Positions are resampled to the smaller grid.

    Attributes:
        fraction: 0 trains at full size from the start.
    """

    fraction: float = 0.0
    initial_scale: float = 0.75

    def __post_init__(self) -> None:
        if not 0 <= self.fraction < 1:
            raise InputError(f"progressive_resizing.fraction is {self.fraction}: it must be at least 0 and below 1")
        if not 0 < self.initial_scale < 1:
            raise InputError(f"progressive_resizing.initial_scale is {self.initial_scale}: it must be between 0 and 1")


def low_resolution(image_size: tuple[int, int], settings: ProgressiveResizing, patch_size: int) -> tuple[int, int]:
    """Return the (height, width) of the first steps, in whole patches of `patch_size` pixels."""
    height, width = (max(1, round(settings.initial_scale * side / patch_size)) * patch_size for side in image_size)
    return height, width


def relative_cost(step: int, steps: int, settings: ProgressiveResizing) -> float:
    """Estimate the cost of the first `step` of `steps` from their numbers of tokens, in steps at full size.

    >>> settings = ProgressiveResizing(fraction=0.5, initial_scale=0.5)
    >>> relative_cost(5, 10, settings), relative_cost(10, 10, settings)
    (1.25, 6.25)
    """
    small_steps = min(step, settings.fraction * steps)
    return step - small_steps * (1 - settings.initial_scale**2)


def resize_batch(step: int, steps: int, batch: Batch, settings: ProgressiveResizing, patch_size: int) -> Batch:
    """Resize a batch for step `step` of `steps`, to whole patches of `patch_size`, with its masks and boxes.

    The very first step is at full size, so that a batch that doesn't fit into memory is noticed at once.

    >>> import torch
    >>> settings, batch = ProgressiveResizing(fraction=0.5), Batch(torch.zeros(1, 3, 32, 64), torch.zeros(1).long())
    >>> [resize_batch(step, 10, batch, settings, 4).images.shape[2:] for step in (0, 4, 5)]
    [torch.Size([32, 64]), torch.Size([24, 48]), torch.Size([32, 64])]
    """
    if step == 0 or step >= settings.fraction * steps:
        return batch
    size_hw = low_resolution((batch.images.shape[2], batch.images.shape[3]), settings, patch_size)
    images = functional.interpolate(batch.images, size_hw, mode="bilinear", align_corners=False, antialias=True)
    return resize_truth(batch, images)


def resize_truth(batch: Batch, images: Tensor) -> Batch:
    """Return a batch with its images as they are at another size, and its masks and boxes at that size.

    Masks take the nearest pixel. Boxes are rounded outwards, so that they still hold the object.

    >>> import torch
    >>> batch = Batch(torch.zeros(1, 3, 8, 8), torch.zeros(1), torch.tensor([[1, 2, 5, 8]]), torch.eye(8)[None] > 0)
    >>> small = resize_truth(batch, torch.zeros(1, 3, 4, 4))
    >>> small.boxes.tolist(), torch.equal(small.masks[0], torch.eye(4) > 0)
    ([[0, 1, 3, 4]], True)
    """
    (old_height, old_width), (height, width) = batch.images.shape[2:], images.shape[2:]
    boxes, masks = batch.boxes, batch.masks
    if masks is not None:
        rows, columns = _nearest(old_height, height, masks.device), _nearest(old_width, width, masks.device)
        masks = masks[:, rows[:, None], columns]
    if boxes is not None:
        new, old = (
            torch.tensor(2 * sides, device=boxes.device) for sides in ((height, width), (old_height, old_width))
        )
        scaled = boxes * new
        boxes = torch.cat([scaled[..., :2] // old[:2], -(-scaled[..., 2:] // old[2:])], -1)
    return replace(batch, images=images, boxes=boxes, masks=masks)


def _nearest(old: int, new: int, device: torch.device) -> Tensor:
    """Return which of `old` positions is nearest to the center of each of `new` ones: int64 (new,)."""
    return (2 * torch.arange(new, device=device) + 1) * old // (2 * new)
