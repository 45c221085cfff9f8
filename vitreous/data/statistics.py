"""Brightness and contrast of a set of pictures, which a model's input is normalised with."""

import torch

from vitreous.data.pictures import Pictures


def channel_statistics(pictures: Pictures) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel over all pixels, on a scale of 0 to 1, exact."""
    means, stds = [], []
    levels = torch.arange(256, dtype=torch.float64) / 255
    for channel in pictures.images_u8.cpu().unbind(1):
        shares = torch.bincount(channel.flatten(), minlength=256).double() / channel.numel()
        mean = (shares * levels).sum()
        means.append(round(mean.item(), 6))
        stds.append(max(round((shares * (levels - mean) ** 2).sum().sqrt().item(), 6), 1e-3))
    return tuple(means), tuple(stds)
