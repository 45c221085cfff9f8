"""Whitening: start the patch embedding from the principal components of the training images' patches."""

import torch
from torch import Tensor

from vitreous.data.image_set import ImageSet
from vitreous.data.loader import Normalize
from vitreous.model.vit import PatchEmbed, patchify
from vitreous.runtime import generator

SAMPLE_VALUES = 2**23
"""Number of channel values in the sample of images, approximately."""
EPSILON = 0.01
"""Added to the variances, so that rare directions aren't amplified. Pixels have variance 1."""


@torch.no_grad()
def whitening_weights(
    patch_embed: PatchEmbed, images: ImageSet, normalize: Normalize, seed: int
) -> tuple[Tensor, Tensor]:
    """Compute weight and bias, float64, that map patches to a random rotation of their whitened principal components.

    Neighboring pixels hardly differ; after whitening, tokens vary alike in all directions. Jordan 2024, "94% on
    CIFAR-10 in 3.29 seconds", section 3.2, does this for a convolution and keeps it fixed; here it is trained further.
    """
    proj = patch_embed.proj
    count = max(1, SAMPLE_VALUES // images.images_u8[0].numel())
    sample = images.images_u8[:: max(1, -(-len(images) // count))].to(proj.weight.device)
    patches = patchify(normalize(sample), patch_embed.patch_size).flatten(0, 1)
    mean = patches.mean(0)
    centered = (patches - mean).double().cpu()
    variances, directions = torch.linalg.eigh(centered.T @ centered / len(centered))
    rank = min(proj.out_channels, len(variances))
    components = (directions[:, -rank:] / (variances[-rank:] + EPSILON).sqrt()).T
    random = torch.randn(proj.out_channels, rank, generator=generator(seed, "whitening"))
    weight = torch.linalg.qr(random)[0].double() @ components
    return weight.view_as(proj.weight), -(weight @ mean.double().cpu())
