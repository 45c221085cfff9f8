"""Images shifted and turned, to see how far a model follows."""

import math

import torch
from torch import Tensor

from vitreous.evaluation.filtering import mirrored, places_of, read_at

DIRECTIONS = ((0, 1), (1, 0), (0, -1), (-1, 0))


def shifted(images_u8: Tensor, down: int, across: int) -> Tensor:
    """Images, uint8 (count, channels, height, width), moved by whole pixels; what comes in is mirrored."""
    height, width = images_u8.shape[-2:]
    reach = max(abs(down), abs(across))
    padded = mirrored(images_u8, reach)
    return padded[..., reach - down : reach - down + height, reach - across : reach - across + width]


def rotated(images_u8: Tensor, degrees: float) -> Tensor:
    """Images turned about their middle, counter-clockwise, read bilinearly; the corners that come in are mirrored."""
    if degrees == 0:
        return images_u8
    down, across = places_of(images_u8)
    height, width = images_u8.shape[-2:]
    down, across = down - (height - 1) / 2, across - (width - 1) / 2
    sine, cosine = math.sin(math.radians(degrees)), math.cos(math.radians(degrees))
    rows = cosine * down + sine * across + (height - 1) / 2
    columns = cosine * across - sine * down + (width - 1) / 2
    turned = read_at(images_u8.float(), rows, columns)
    return turned.round().clamp(0, 255).to(torch.uint8)
