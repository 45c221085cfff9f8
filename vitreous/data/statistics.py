"""Mean and standard deviation of the pixels of a set of images."""

import torch

from vitreous.data.image_set import ImageSet

CHUNK = 256
"""Images that are counted at a time."""


def channel_statistics(images: ImageSet) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation of each channel over all pixels, on a scale of 0 to 1, exactly.

    Pixels are counted in chunks, so that images on the disk stay there.
    """
    means, stds = [], []
    levels = torch.arange(256, dtype=torch.float64) / 255
    for channel in images.images_u8.unbind(1):
        counts = torch.zeros(256, dtype=torch.int64)
        for chunk in channel.split(CHUNK):
            counts += chunk.cpu().flatten().bincount(minlength=256)
        fractions = counts.double() / channel.numel()
        mean = (fractions * levels).sum()
        means.append(round(mean.item(), 6))
        stds.append(max(round((fractions * (levels - mean) ** 2).sum().sqrt().item(), 6), 1e-3))
    return tuple(means), tuple(stds)
