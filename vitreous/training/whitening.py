"""Patch embeddings that start from what the images are made of."""

import torch
from torch import Tensor

from vitreous.data.image_set import ImageSet
from vitreous.data.loader import Normalize
from vitreous.model.vit import PatchEmbed, patchify
from vitreous.runtime import generator

SAMPLE_VALUES = 2**23
"""Of pixels that are looked at, about."""
EPSILON = 0.01
"""Added to variances, of pixels that vary by 1, so that what hardly occurs isn't blown up."""


@torch.no_grad()
def whitening_weights(stem: PatchEmbed, images: ImageSet, normalize: Normalize, seed: int) -> tuple[Tensor, Tensor]:
    """Weight and bias, float64, that make the embedding a rotation of the patches' whitened principal components.

    Tokens then vary alike in all directions at first, where pixels beside each other hardly differ (Jordan 2024, "94%
    on CIFAR-10 in 3.29 seconds", section 3.2, does so for a convolution and keeps it fixed; here it is learned on).
    """
    device = patch_embed.proj.weight.device
    count = max(1, SAMPLE_VALUES // images.images_u8[0].numel())
    sample = images.images_u8[:: max(1, -(-len(images) // count))].to(device)
    patches = patchify(normalize(sample), patch_embed.patch_size).flatten(0, 1)
    mean = patches.mean(0)
    apart = (patches - mean).double().cpu()
    variances, directions = torch.linalg.eigh(apart.T @ apart / len(apart))
    kept = min(patch_embed.proj.out_channels, len(variances))
    components = (directions[:, -kept:] / (variances[-kept:] + EPSILON).sqrt()).T
    rotation = torch.linalg.qr(
        torch.randn(patch_embed.proj.out_channels, kept, generator=generator(seed, "whitening"))
    )[0]
    weight = rotation.double() @ components
    return weight.view_as(patch_embed.proj.weight), -(weight @ mean.double().cpu())
