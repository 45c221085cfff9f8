"""Pixels to tokens: one linear map a patch, or a small stack of convolutions."""

import torch
from torch import Tensor, nn

from vitreous.model.config import ViTConfig
from vitreous.model.convolution import stages
from vitreous.model.linear import Linear


class PatchEmbedding(nn.Module):
    """Cut an image into patches and map each to a token (Dosovitskiy et al. 2021, equation 1)."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.patch_size = config.patch_size
        self.linear = Linear(config.channels * config.patch_size**2, config.width)

    def forward(self, images: Tensor) -> Tensor:
        """Images (batch, channels, height, width) to tokens (batch, patches, width)."""
        return self.linear(patchify(images, self.patch_size))


class ConvStem(nn.Module):
    """3 × 3 convolutions, one or more for each halving of the sides down to the patch grid, then one linear map.

    After Xiao et al. 2021, "Early convolutions help transformers see better", section 4, with two differences: sides
    are halved by keeping the largest of 2 × 2 answers, and each image is normalized by itself, not with its batch.
    """

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(stages([config.channels, *config.stem_widths], config.stem_convolutions))
        self.linear = Linear(config.stem_widths[-1], config.width)

    def forward(self, images: Tensor) -> Tensor:
        """Images (batch, channels, height, width) to tokens (batch, patches, width)."""
        features = images.contiguous(memory_format=torch.channels_last)
        for block in self.blocks:
            features = block(features)
        return self.linear(features.flatten(2).transpose(1, 2))


def patchify(images: Tensor, patch_size: int) -> Tensor:
    """Images (batch, channels, height, width) to (batch, patches, channels × patch × patch), row by row."""
    batch, channels, height, width = images.shape
    rows, columns = height // patch_size, width // patch_size
    cut = images.reshape(batch, channels, rows, patch_size, columns, patch_size)
    return cut.permute(0, 2, 4, 1, 3, 5).reshape(batch, rows * columns, channels * patch_size**2)
