"""Colors for patches: their first three principal components as red, green and blue."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

SATURATED_FRACTION = 0.01
"""Fraction of the patches at each end whose color is saturated, so that a few outliers don't take the whole scale."""


@dataclass(frozen=True)
class PatchColors:
    """A fitted PCA of patch tokens, and the range of each component.

    Attributes:
        mean: float64 (width).
        loadings: float64 (width, 3), columns of length 1, or 0 where there are fewer components.
        low, high: float64 (3), the values of the components that become 0 and 1.
    """

    mean: Tensor
    loadings: Tensor
    low: Tensor
    high: Tensor

    @classmethod
    def fit(cls, patches: Tensor | Sequence[Tensor]) -> "PatchColors":
        """Fit the PCA to the patches of one or several images together.

        They are (images, rows, columns, width), or (rows, columns, width) of each image if their grids differ.

        The sign of a component is arbitrary. The first component gets the sign for which the patches along the images'
        border, mostly background, are below the mean; the others that for which their largest loading is positive.
        """
        flat = torch.cat([image.double().flatten(0, 1) for image in patches])
        mean = flat.mean(0)
        loadings = principal_components(flat - mean)
        components = (flat - mean) @ loadings
        border = torch.cat([_border(*image.shape[:2]) for image in patches]).to(flat.device)
        if components[border, 0].mean() > 0 and not border.all():
            flip = torch.tensor([-1, 1, 1], device=flat.device)
            loadings, components = loadings * flip, components * flip
        quantiles = torch.tensor([SATURATED_FRACTION, 1 - SATURATED_FRACTION]).to(components)
        low, high = torch.quantile(components, quantiles, 0)
        return cls(mean, loadings, low, high)

    def explained_variance_ratio(self, patches: Tensor) -> float:
        """Return the fraction of the variance of patches (..., width) that the three components explain."""
        centered = patches.double().flatten(0, -2)
        centered = centered - centered.mean(0)
        variance = float(centered.square().sum())
        return float((centered @ self.loadings).square().sum()) / variance if variance > 0 else 1.0

    def project(self, patches: Tensor) -> Tensor:
        """Project patches (..., width) onto the components: float64 (..., 3)."""
        return (patches.double() - self.mean) @ self.loadings

    def to_rgb(self, components: Tensor) -> Tensor:
        """Map components (..., 3) to red, green and blue in [0, 1], each stretched over its own range."""
        return ((components - self.low) / (self.high - self.low).clamp_min(1e-12)).clamp(0, 1)


def _border(rows: int, columns: int) -> Tensor:
    """Return which patches, row by row, lie along the border of their image."""
    border = torch.ones(rows, columns, dtype=torch.bool)
    border[1:-1, 1:-1] = False
    return border.flatten()


def principal_components(centered: Tensor) -> Tensor:
    """Return the first three components of patches (patches, width) with mean 0: float64 (width, 3).

    The largest loading of each component is positive.
    """
    variances, vectors = torch.linalg.eigh(centered.T @ centered)  # the smallest first
    loadings = (vectors * (variances > 1e-12 * variances[-1])).flip(1)[:, :3]  # fewer patches have fewer components
    loadings = functional.pad(loadings, (0, 3 - loadings.shape[1]))
    largest = loadings.gather(0, loadings.abs().argmax(0, keepdim=True))
    return loadings * torch.where(largest < 0, -1, 1)
