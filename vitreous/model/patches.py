"""Pixels to tokens: one linear map a patch, or a small stack of convolutions."""

import itertools
import math

from torch import Tensor, nn

from vitreous.model.config import ViTConfig
from vitreous.model.linear import Linear


class PatchEmbedding(nn.Module):
    """Cut a picture into patches and map each to a token (Dosovitskiy et al. 2021, equation 1)."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.patch_size = config.patch_size
        self.linear = Linear(config.channels * config.patch_size**2, config.width)

    def forward(self, pictures: Tensor) -> Tensor:
        """Pictures (batch, channels, height, width) to tokens (batch, patches, width)."""
        return self.linear(patchify(pictures, self.patch_size))


class ConvStem(nn.Module):
    """Strided 3 × 3 convolutions down to the patch grid, then 1 × 1 (Xiao et al. 2021, section 4)."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        halvings = int(math.log2(config.patch_size))
        widths = [config.channels, *(max(16, config.width >> (halvings - 1 - i)) for i in range(halvings))]
        for narrow, wide in itertools.pairwise(widths):
            layers += [nn.Conv2d(narrow, wide, 3, 2, 1, bias=False), nn.BatchNorm2d(wide), nn.GELU()]
        self.layers = nn.Sequential(*layers, nn.Conv2d(widths[-1], config.width, 1))

    def forward(self, pictures: Tensor) -> Tensor:
        """Pictures (batch, channels, height, width) to tokens (batch, patches, width)."""
        return self.layers(pictures).flatten(2).transpose(1, 2)


def patchify(pictures: Tensor, patch_size: int) -> Tensor:
    """Pictures (batch, channels, height, width) to (batch, patches, channels × patch × patch), row by row."""
    batch, channels, height, width = pictures.shape
    rows, columns = height // patch_size, width // patch_size
    cut = pictures.reshape(batch, channels, rows, patch_size, columns, patch_size)
    return cut.permute(0, 2, 4, 1, 3, 5).reshape(batch, rows * columns, channels * patch_size**2)
