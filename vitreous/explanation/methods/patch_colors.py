"""The colors of patches: the three directions in which they differ most as red, green and blue."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

TAILS = 0.01
"""Share of the patches at each end whose color is saturated, so that a few outliers don't take the whole scale."""


@dataclass(frozen=True)
class PatchColors:
    """What gives patches their colors: a mean, the first three principal components and the range of each.

    Attributes:
        mean: float64 (width).
        loadings: float64 (width, 3), of length 1, or 0 where there are fewer components.
        low, high: float64 (3), which become 0 and 1.
    """

    mean: Tensor
    loadings: Tensor
    low: Tensor
    high: Tensor

    @classmethod
    def fitted(cls, patches: Tensor) -> "PatchColors":
        """Those of one or several images' patches together, (images, rows, columns, width).

        A component's sign means nothing by itself. Here the first is turned so that the patches along the images'
        border, which are mostly background, are below the mean; the others so that their largest loading is positive.
        """
        flat = patches.double().flatten(0, 2)
        mean = flat.mean(0)
        loadings = principal_components(flat - mean)
        scores = (patches.double() - mean) @ loadings
        border = torch.ones(patches.shape[1:3], dtype=torch.bool, device=patches.device)
        border[1:-1, 1:-1] = False
        if scores[:, border, 0].mean() > 0 and not border.all():
            turn = torch.tensor([-1, 1, 1], device=patches.device)
            loadings, scores = loadings * turn, scores * turn
        low, high = torch.quantile(scores.flatten(0, 2), torch.tensor([TAILS, 1 - TAILS]).to(scores), 0)
        return cls(mean, loadings, low, high)

    def explained_variance_ratio(self, patches: Tensor) -> float:
        """Of how patches (..., width) differ from each other, their variance, the share that the components show."""
        centerd = patches.double().flatten(0, -2)
        centerd = centerd - centerd.mean(0)
        whole = float(centerd.square().sum())
        return float((centerd @ self.loadings).square().sum()) / whole if whole > 0 else 1.0

    def scores(self, patches: Tensor) -> Tensor:
        """The components of patches (..., width): float64 (..., 3)."""
        return (patches.double() - self.mean) @ self.loadings

    def colors(self, scores: Tensor) -> Tensor:
        """Components (..., 3) as red, green and blue in [0, 1], each stretched over its own range."""
        return ((scores - self.low) / (self.high - self.low).clamp_min(1e-12)).clamp(0, 1)


def principal_components(centerd: Tensor) -> Tensor:
    """The first three of patches (patches, width) whose mean is 0: float64 (width, 3), largest loadings above 0."""
    strengths, vectors = torch.linalg.eigh(centerd.T @ centerd)  # the smallest first
    loadings = (vectors * (strengths > 1e-12 * strengths[-1])).flip(1)[:, :3]  # fewer patches have fewer components
    loadings = functional.pad(loadings, (0, 3 - loadings.shape[1]))
    largest = loadings.gather(0, loadings.abs().argmax(0, keepdim=True))
    return loadings * torch.where(largest < 0, -1, 1)
