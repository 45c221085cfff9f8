"""Brightness and contrast of a set of pictures, which a model's input is normalised with."""

import torch

from vitreous.data.pictures import Pictures

COUNTED_AT_ONCE = 256  # pictures


def channel_statistics(pictures: Pictures) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel over all pixels, on a scale of 0 to 1, exact.

    Pixels are counted a part at a time, so that pictures left on the disk stay there.
    """
    means, stds = [], []
    levels = torch.arange(256, dtype=torch.float64) / 255
    for channel in pictures.images_u8.unbind(1):
        counts = torch.zeros(256, dtype=torch.int64)
        for part in channel.split(COUNTED_AT_ONCE):
            counts += part.cpu().flatten().bincount(minlength=256)
        shares = counts.double() / channel.numel()
        mean = (shares * levels).sum()
        means.append(round(mean.item(), 6))
        stds.append(max(round((shares * (levels - mean) ** 2).sum().sqrt().item(), 6), 1e-3))
    return tuple(means), tuple(stds)
