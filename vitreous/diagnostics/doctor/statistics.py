"""What was measured inside a Vision Transformer: the numbers that a diagnosis is made of, and nothing of the model."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class ImageAnatomy:
    """What one image's tokens did. P is the image's number of patches, L the number of layers."""

    grid_hw: tuple[int, int]
    norms: np.ndarray
    """float (L + 1, P): length of each patch's token into the first block, then out of each."""
    attention: np.ndarray
    """float (L, P): attention of the model's readout on each patch, mean over heads; with the prefix it adds to 1."""
    rollout: np.ndarray
    """float (P): attention rollout from the readout on each patch."""


@dataclass(frozen=True)
class Anatomy:
    """What was measured inside a model, over several images; means over them unless said otherwise.

    Arrays are float64; L is the number of layers, H of heads.
    """

    prefix: int
    """Tokens before the patches."""
    patch_size: int
    """Side of a patch in the model's pixels."""
    queries: int
    """Rows of each attention matrix that were looked at, evenly over the patches; the others are like them."""
    entropy: np.ndarray
    """(L, H): entropy of a patch's attention over log(tokens): 0 looks at one token, 1 at all alike."""
    distance: np.ndarray
    """(L, H): how far from a patch the patches are that it attends to, in patches, weighted by attention
    (Dosovitskiy et al. 2021, figure 7)."""
    uniform_distance: float
    """The same for attention that is alike everywhere."""
    prefix_attention: np.ndarray
    """(L, H, prefix): share of the patches' attention on each prefix token."""
    query_dependence: np.ndarray
    """(L, H): how much a patch's attention depends on which patch it is: 0 all look at the same, 1 each elsewhere."""
    one_patch: np.ndarray
    """(L, H): the greatest share of all patches' attention together that a single patch gets."""
    likeness: np.ndarray
    """(L, H, H): correlation of two heads' attention matrices."""
    contribution: np.ndarray | None
    """(L, H): length of what a head adds to a token, over that token's length; None where it can't be known."""
    similarity: np.ndarray
    """(L + 1): mean cosine between different patches of an image, into the first block, then out of each."""
    change: np.ndarray
    """(L): length of what a block adds to a token, over that token's length."""
    layer_scale: np.ndarray | None
    """(L, 2): mean absolute factor on each block's attention and MLP; None for a model without LayerScale."""
    images: tuple[ImageAnatomy, ...]

    @property
    def layers(self) -> int:
        """Number of layers."""
        return self.entropy.shape[0]

    @property
    def heads(self) -> int:
        """Number of heads in a layer."""
        return self.entropy.shape[1]


def outlier_tokens(norms: np.ndarray, ratio: float, deviations: float) -> np.ndarray:
    """Which tokens of a layer are far longer than the rest: bool (tokens), from their lengths (tokens).

    Beyond `ratio` times the median, and beyond the median by `deviations` times the standard deviation as the median
    absolute deviation estimates it, which the outliers themselves don't move.
    """
    median = np.median(norms)
    spread = 1.4826 * np.median(np.abs(norms - median))
    return (norms > ratio * median) & (norms > median + deviations * spread)


def isolated_spots(heat: np.ndarray, ratio: float, alone: float) -> np.ndarray:
    """Which cells of a map, float (rows, columns), stand alone: bool (rows, columns).

    Beyond `ratio` times the map's median, and beyond `alone` times the greatest of the eight neighbors.
    """
    rows, columns = heat.shape
    padded = np.pad(heat, 1)
    places = [(down, across) for down in range(3) for across in range(3) if (down, across) != (1, 1)]
    around = np.max([padded[down : down + rows, across : across + columns] for down, across in places], 0)
    return (heat > ratio * np.median(heat)) & (heat > alone * around)


def evenness(weights: np.ndarray) -> float:
    """How even a map is: its entropy over that of an even one, 0 to 1; `weights` (places) are 0 or above."""
    shares = weights / weights.sum()
    entropy = -np.sum(shares * np.log(np.where(shares > 0, shares, 1)))
    return float(entropy / np.log(shares.size)) if shares.size > 1 else 1.0


def agreement(maps: list[np.ndarray]) -> float | None:
    """Mean correlation between the maps of different images, each (places); None if no two have one size.

    A map that is the same everywhere is like any other.
    """
    pairs = [
        _correlation(first, second)
        for i, first in enumerate(maps)
        for second in maps[i + 1 :]
        if first.shape == second.shape
    ]
    return float(np.mean(pairs)) if pairs else None


def _correlation(first: np.ndarray, second: np.ndarray) -> float:
    first, second = first - first.mean(), second - second.mean()
    lengths = float(np.linalg.norm(first) * np.linalg.norm(second))
    return float(first @ second) / lengths if lengths > 0 else 1.0
