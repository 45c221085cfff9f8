"""The statistics that a diagnosis is made of: tokens, heads and maps of a model over several images."""

from dataclasses import dataclass

import numpy as np

from vitreous.imaging.geometry import Geometry


@dataclass(frozen=True)
class ImageStatistics:
    """Statistics of one image with P patches, in a model of L layers.

    Attributes:
        geometry: The area of the image that the model received.
        grid_size: Rows and columns of patches.
        norms: float64 (L + 1, P): norm of each patch token at the input of the first block and after each block; no
            rows for a wrapped model, which doesn't expose its tokens.
        attention: float64 (L, P): attention of the model's readout to each patch, mean over heads; together with the
            prefix tokens it sums to 1.
        rollout: float64 (P): attention rollout from the readout to each patch; empty if attention can't be multiplied
            through the layers of a wrapped model.
    """

    geometry: Geometry
    grid_size: tuple[int, int]
    norms: np.ndarray
    attention: np.ndarray
    rollout: np.ndarray


@dataclass(frozen=True)
class ModelStatistics:
    """Statistics of a model with L layers of H heads; means over the images. All arrays are float64.

    Attributes:
        patch_size: Side of a patch in pixels of the model's input.
        num_queries: Rows of each attention matrix that were sampled, evenly over the patches.
        entropy: (L, H): entropy of a patch's attention over log(tokens): 0 attends to one token, 1 to all equally.
        distance: (L, H): mean distance in patches between a patch and the patches that it attends to, weighted by
            attention (Dosovitskiy et al. 2021, figure 7).
        uniform_distance: The mean distance of uniform attention.
        prefix_attention: (L, H, prefix tokens): fraction of the patches' attention that goes to each prefix token.
        query_dependence: (L, H): how much a patch's attention depends on the patch: 0 if all attend to the same
            tokens.
        max_patch_attention: (L, H): the largest fraction of all patches' attention that goes to a single patch.
        head_similarity: (L, H, H): correlation of two heads' attention matrices.
        contribution: (L, H): norm of what a head adds to a token, over the token's norm; None if the model hides its
            projection.
        token_similarity: (L + 1): mean cosine between different patches of an image, before the first block and after
            each block; empty for a wrapped model.
        relative_change: (L): norm of what a block adds to a token, over the token's norm; empty for a wrapped model.
        layer_scale: (L, 2): mean absolute LayerScale factor of each block's attention and MLP; None without
            LayerScale.
    """

    num_prefix_tokens: int
    patch_size: int
    num_queries: int
    entropy: np.ndarray
    distance: np.ndarray
    uniform_distance: float
    prefix_attention: np.ndarray
    query_dependence: np.ndarray
    max_patch_attention: np.ndarray
    head_similarity: np.ndarray
    contribution: np.ndarray | None
    token_similarity: np.ndarray
    relative_change: np.ndarray
    layer_scale: np.ndarray | None
    images: tuple[ImageStatistics, ...]

    @property
    def has_tokens(self) -> bool:
        """Whether the tokens between the blocks are known."""
        return self.token_similarity.size > 0

    @property
    def has_rollout(self) -> bool:
        """Whether rollout is defined for the model."""
        return all(one.rollout.size for one in self.images)

    @property
    def depth(self) -> int:
        """Number of layers."""
        return self.entropy.shape[0]

    @property
    def num_heads(self) -> int:
        """Number of heads per layer."""
        return self.entropy.shape[1]


def outlier_tokens(norms: np.ndarray, ratio: float, deviations: float) -> np.ndarray:
    """Find the tokens of a layer whose norm is far above the others: bool (tokens), from norms (tokens).

    They exceed `ratio` times the median, and the median by `deviations` robust standard deviations. Those are estimated
    from the median absolute deviation, which outliers don't influence.
    """
    median = np.median(norms)
    deviation = 1.4826 * np.median(np.abs(norms - median))
    return (norms > ratio * median) & (norms > median + deviations * deviation)


def map_evenness(weights: np.ndarray) -> float:
    """Return the entropy of a non-negative map (patches) over that of a uniform map: between 0 and 1."""
    fractions = weights / weights.sum()
    entropy = -np.sum(fractions * np.log(np.where(fractions > 0, fractions, 1)))
    return float(entropy / np.log(fractions.size)) if fractions.size > 1 else 1.0


def map_agreement(maps: list[np.ndarray]) -> float | None:
    """Return the mean correlation between maps of different images, each (patches); None if no two have one size.

    A constant map correlates perfectly with any other.
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
    norms = float(np.linalg.norm(first) * np.linalg.norm(second))
    return float(first @ second) / norms if norms > 0 else 1.0
