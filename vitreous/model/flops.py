"""What a ViT costs, from its configuration alone: parameters, and multiply-adds (MACs) for one image."""

import torch

from vitreous.model.config import ViTConfig
from vitreous.model.vit import ViT


def count_parameters(config: ViTConfig) -> int:
    """Count the parameters, without memory for them.

    >>> count_parameters(ViTConfig(patch_size=16))
    5717224
    """
    with torch.device("meta"):
        return sum(weight.numel() for weight in ViT(config).parameters())


def count_macs(config: ViTConfig) -> int:
    """Count the multiply-adds of one forward pass for one image of `image_size`, in matrix products and convolutions.

    One multiply-add is two floating point operations. Elementwise operations (normalization, softmax, GELU) aren't
    counted, as usual.
    """
    patches = config.grid_size[0] * config.grid_size[1]
    tokens, dim = patches + config.num_prefix_tokens, config.embed_dim
    attention = tokens * 4 * dim**2 + 2 * tokens**2 * dim
    blocks = config.depth * (attention + tokens * _mlp_macs(config))
    return _stem_macs(config, patches) + blocks + _pool_macs(config, patches) + config.pooled_dim * config.num_classes


def _mlp_macs(config: ViTConfig) -> int:
    """Multiply-adds of a block's MLP for one token."""
    if config.mlp_layer == "swiglu":
        return config.embed_dim * 3 * config.gated_dim
    return config.embed_dim * 2 * int(config.mlp_ratio * config.embed_dim)


def _stem_macs(config: ViTConfig, patches: int) -> int:
    """Multiply-adds of the patch embedding, or of the convolutions, whose first in a stage works at twice the sides."""
    if config.stem == "linear":
        return patches * config.in_chans * config.patch_size**2 * config.embed_dim
    total, in_chans, pixels = 0, config.in_chans, patches * config.patch_size**2
    for out_chans in config.stem_widths:
        total += 9 * out_chans * (pixels * in_chans + (config.stem_convs - 1) * (pixels // 4) * out_chans)
        in_chans, pixels = out_chans, pixels // 4
    return total + patches * in_chans * config.embed_dim


def _pool_macs(config: ViTConfig, patches: int) -> int:
    """Multiply-adds of the pooling; taking a token or an average costs none."""
    dim = config.embed_dim
    if config.global_pool == "attention":
        return 2 * patches * dim
    if config.global_pool == "map":
        mlp = dim * 2 * int(config.mlp_ratio * dim)
        return 2 * dim**2 + patches * 2 * dim**2 + 2 * patches * dim + mlp
    return 0
