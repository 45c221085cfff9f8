"""What a ViT costs, from its configuration alone: parameters and multiply-adds for one image."""

import torch

from vitreous.model.config import ViTConfig
from vitreous.model.vit import ViT


def count_parameters(config: ViTConfig) -> int:
    """How many numbers are learned; nothing is allocated to count them."""
    with torch.device("meta"):
        return sum(weight.numel() for weight in ViT(config).parameters())


def count_macs(config: ViTConfig) -> int:
    """Multiply-adds of one forward pass for one image of `image_size_hw`, in matrix products and convolutions.

    One is two floating point operations. What is done to each number by itself (normalization, softmax, GELU) isn't
    counted, as usual.
    """
    patches = config.grid_size[0] * config.grid_size[1]
    tokens, width = patches + config.num_prefix_tokens, config.embed_dim
    attention = tokens * 4 * width**2 + 2 * tokens**2 * width
    blocks = config.depth * (attention + tokens * _mlp(config))
    return _stem(config, patches) + blocks + _pooling(config, patches) + config.pooled_dim * config.num_classes


def _mlp(config: ViTConfig) -> int:
    """Multiply-adds of a block's MLP for one token."""
    return config.embed_dim * (3 * config.gated_dim if config.mlp_layer == "swiglu" else _plain_mlp(config))


def _plain_mlp(config: ViTConfig) -> int:
    """The same for the MLP without a gate, over the width."""
    return 2 * int(config.mlp_ratio * config.embed_dim)


def _stem(config: ViTConfig, patches: int) -> int:
    """Multiply-adds of the patch embedding, or of the convolutions, whose first in a stage sees pixels of the last."""
    if config.stem == "linear":
        return patches * config.in_chans * config.patch_size**2 * config.embed_dim
    total, narrow, pixels = 0, config.in_chans, patches * config.patch_size**2
    for wide in config.stem_widths:
        total += 9 * wide * (pixels * narrow + (config.stem_convs - 1) * (pixels // 4) * wide)
        narrow, pixels = wide, pixels // 4
    return total + patches * narrow * config.embed_dim


def _pooling(config: ViTConfig, patches: int) -> int:
    """Multiply-adds of what turns tokens into one vector; taking a token or a mean costs none."""
    width = config.embed_dim
    if config.global_pool == "attention":
        return 2 * patches * width
    if config.global_pool == "map":
        return 2 * width**2 + patches * 2 * width**2 + 2 * patches * width + width * _plain_mlp(config)
    return 0
