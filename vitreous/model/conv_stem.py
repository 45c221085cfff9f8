"""The convolutional stem: 3 × 3 convolutions from pixels to tokens. The teacher of a run is made of them too."""

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from vitreous.model.config import ViTConfig
from vitreous.model.linear import Linear


class ConvStem(nn.Module):
    """3 × 3 convolutions, one or more for each halving of the sides down to the patch grid, then one linear map.

    After Xiao et al. 2021, "Early convolutions help transformers see better", section 4, with two differences: sides
    are halved by max pooling over 2 × 2, and each image is normalized by itself, not with its batch.
    """

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.convs = nn.ModuleList(conv_stages([config.in_chans, *config.stem_widths], config.stem_convs))
        self.proj = Linear(config.stem_widths[-1], config.embed_dim)

    def forward(self, images: Tensor) -> Tensor:
        """Images (batch, channels, height, width) to tokens (batch, patches, width)."""
        features = images.contiguous(memory_format=torch.channels_last)
        for conv in self.convs:
            features = conv(features)
        return self.proj(features.flatten(2).transpose(1, 2))


class ConvBlock(nn.Module):
    """A 3 × 3 convolution, max pooling that halves the sides if asked for, normalization over the image, and GELU.

    Nothing depends on how a batch is split, as it would with batch normalization. The weights are a matrix
    (out, 3 × 3 × in), which is what Muon orthogonalizes.
    """

    def __init__(self, in_chans: int, out_chans: int, *, halves: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(out_chans, 9 * in_chans))
        self.norm = nn.GroupNorm(1, out_chans)
        self.halves = halves

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw small random weights; the first output channels start as copies of the input channels, if all fit."""
        out_chans, in_chans = len(self.weight), self.weight.shape[1] // 9
        nn.init.trunc_normal_(self.weight, std=(27 * in_chans) ** -0.5)
        if out_chans >= in_chans:
            nn.init.zeros_(self.weight[:in_chans])
            nn.init.eye_(self.weight[:in_chans, 4 * in_chans : 5 * in_chans])

    def forward(self, features: Tensor) -> Tensor:
        """(batch, in, height, width) to (batch, out, height, width), or to half the sides, rounded up."""
        kernel = self.weight.unflatten(1, (3, 3, -1)).permute(0, 3, 1, 2)
        features = functional.conv2d(features, kernel, padding=1)
        if self.halves:
            features = functional.max_pool2d(features, 2, ceil_mode=True)
        return functional.gelu(self.norm(features))


def conv_stages(widths: Sequence[int], convs_per_stage: int = 2) -> list[ConvBlock]:
    """Build the convolutions from each of the widths to the next; the first of each stage halves the sides."""
    blocks = []
    for in_chans, out_chans in itertools.pairwise(widths):
        further = [ConvBlock(out_chans, out_chans, halves=False) for _ in range(convs_per_stage - 1)]
        blocks += [ConvBlock(in_chans, out_chans, halves=True), *further]
    return blocks
