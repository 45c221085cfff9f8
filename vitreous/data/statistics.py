"""Brightness and contrast of a set of images, which a model's input is normalized with."""

import torch

from vitreous.data.image_set import ImageSet

COUNTED_AT_ONCE = 256  # images


def channel_statistics(images: ImageSet) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel over all pixels, on a scale of 0 to 1, exact.

    Pixels are counted a part at a time, so that images left on the disk stay there.
    """
    means, stds = [], []
    levels = torch.arange(256, dtype=torch.float64) / 255
    for channel in images.images_u8.unbind(1):
        counts = torch.zeros(256, dtype=torch.int64)
        for part in channel.split(COUNTED_AT_ONCE):
            counts += part.cpu().flatten().bincount(minlength=256)
        shares = counts.double() / channel.numel()
        mean = (shares * levels).sum()
        means.append(round(mean.item(), 6))
        stds.append(max(round((shares * (levels - mean) ** 2).sum().sqrt().item(), 6), 1e-3))
    return tuple(means), tuple(stds)
