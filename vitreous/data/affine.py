"""Affine transforms of batches: images bilinear, masks by the nearest pixel, boxes by their corners."""

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional

from vitreous.data.batch import Batch, clip_boxes, is_object

FILL = 128
"""The gray of pixels that come from outside an image, as in cutout."""
TOLERANCE = 1e-6
"""In pixels: a corner that rounding puts this far beyond a pixel's edge is on the edge."""


def transform_affine(batch: Batch, matrices: Tensor) -> Batch:
    """Transform each image of a batch, and its truth, as Pillow's `Image.transform(size, AFFINE, matrix, BILINEAR)`.

    Interpolated values are rounded; Pillow cuts off what is behind the point, so that half of them are one less.
    What comes from outside is gray in the image and no object in the mask. A box becomes the box around its moved
    corners, cut off at the borders.

    Args:
        batch: uint8 images, and their truth.
        matrices: float64 (batch, 2, 3), on the CPU. They map x, y, 1 in the new image to x, y in the old one, with the
            origin at the outer corner of the top left pixel: x of the first pixel's center is 0.5.
    """
    device, (height, width) = batch.images.device, batch.images.shape[2:]
    x, y = _sources(matrices.to(device), (height, width))
    is_inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    grid = torch.stack([2 * x / width - 1, 2 * y / height - 1], -1).float()
    moved = functional.grid_sample(batch.images.float(), grid, padding_mode="border", align_corners=False)
    images = torch.where(is_inside[:, None], (moved + 0.5).to(torch.uint8), FILL)
    boxes, masks = batch.boxes, batch.masks
    if masks is not None:
        pixels = y.long().clamp(0, height - 1) * width + x.long().clamp(0, width - 1)
        masks = masks.flatten(1).gather(1, pixels.flatten(1)).view_as(masks).masked_fill(~is_inside, 0)
    if boxes is not None:
        boxes = _move_boxes(boxes, matrices.to(device), (height, width))
    return replace(batch, images=images, boxes=boxes, masks=masks)


def rotation(degrees: Tensor, size_hw: tuple[int, int]) -> Tensor:
    """Return the matrices (batch, 2, 3) that rotate images counterclockwise about their center.

    >>> matrix = rotation(torch.tensor([90.0], dtype=torch.float64), (8, 12))[0]
    >>> (matrix @ torch.tensor([6.0, 0, 1], dtype=torch.float64)).round().tolist()  # from the right to the top
    [10.0, 4.0]
    """
    radians = torch.deg2rad(degrees)
    (y, x), cos, sin = (side / 2 for side in size_hw), radians.cos(), radians.sin()
    rows = [[cos, -sin, x - cos * x + sin * y], [sin, cos, y - sin * x - cos * y]]
    return torch.stack([torch.stack(row, -1) for row in rows], -2)


def _sources(matrices: Tensor, size_hw: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Return x and y in the old image of the center of each pixel of the new one: two of (batch, height, width)."""
    rows, columns = (torch.arange(side, dtype=matrices.dtype, device=matrices.device) + 0.5 for side in size_hw)
    per_row = matrices[:, :, 1:2] * rows + matrices[:, :, 2:]
    sources = (matrices[:, :, 0:1] * columns)[:, :, None] + per_row[..., None]
    return sources[:, 0], sources[:, 1]


def _move_boxes(boxes: Tensor, matrices: Tensor, size_hw: tuple[int, int]) -> Tensor:
    """Return the boxes (batch, ..., 4) around the moved corners of boxes, cut off at the borders."""
    top, left, bottom, right = boxes.to(matrices.dtype).unbind(-1)
    corners = torch.stack(
        [torch.stack([left, right, left, right], -1), torch.stack([top, top, bottom, bottom], -1)], -2
    )
    between = [1] * (boxes.ndim - 2)
    forward, shift = torch.linalg.inv(matrices[..., :2]), matrices[..., 2:]
    x, y = (forward.view(-1, *between, 2, 2) @ (corners - shift.view(-1, *between, 2, 1))).unbind(-2)
    first = [(values.amin(-1) + TOLERANCE).floor() for values in (y, x)]
    last = [(values.amax(-1) - TOLERANCE).ceil() for values in (y, x)]
    moved = clip_boxes(torch.stack([*first, *last], -1).long(), size_hw)
    return moved * is_object(boxes)[..., None]
