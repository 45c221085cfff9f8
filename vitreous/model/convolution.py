"""Three by three pixels at a time: what a convolutional stem and a teacher are made of."""

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional


class Convolution(nn.Module):
    """A 3 × 3 convolution, perhaps halved sides, and GELU of what is normalized over the image.

    Nothing depends on how a batch is cut up, as it would with batch normalization. The weights are a matrix
    (out, 3 × 3 × in), which is what Muon orthogonalizes.
    """

    def __init__(self, entering: int, leaving: int, *, halves: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(leaving, 9 * entering))
        self.norm = nn.GroupNorm(1, leaving)
        self.halves = halves

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Small random weights; where it has as many channels as enter, the first begin as those."""
        leaving, entering = len(self.weight), self.weight.shape[1] // 9
        nn.init.trunc_normal_(self.weight, std=(27 * entering) ** -0.5)
        if leaving >= entering:
            nn.init.zeros_(self.weight[:entering])
            nn.init.eye_(self.weight[:entering, 4 * entering : 5 * entering])

    def forward(self, features: Tensor) -> Tensor:
        """(batch, in, height, width) to (batch, out, height, width), or half of both, rounded up."""
        kernel = self.weight.unflatten(1, (3, 3, -1)).permute(0, 3, 1, 2)
        features = functional.conv2d(features, kernel, padding=1)
        if self.halves:
            features = functional.max_pool2d(features, 2, ceil_mode=True)
        return functional.gelu(self.norm(features))


def stages(widths: Sequence[int], each: int = 2) -> list[Convolution]:
    """So many convolutions from each of the widths to the next, of which the first halves the sides."""
    blocks = []
    for entering, leaving in itertools.pairwise(widths):
        further = [Convolution(leaving, leaving, halves=False) for _ in range(each - 1)]
        blocks += [Convolution(entering, leaving, halves=True), *further]
    return blocks
