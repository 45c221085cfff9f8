"""Initial weights of a ViT: variance-preserving, with each block the identity and a head of zeros."""

import torch
from torch import Tensor, nn

from vitreous.model.conv_stem import ConvBlock
from vitreous.model.pooling import AttentionPool
from vitreous.model.positions import sincos_pos_embed

LAST_MAPS = (".attn.proj", "mlp.fc2")
"""Ends of the names of the last linear map of each branch."""


@torch.no_grad()
def draw_weights(part: nn.Module) -> None:
    """Draw the weights of a part: linear maps from a truncated normal distribution of variance 1 / inputs.

    Biases and the last map of each branch are zero, which leaves each block the identity at first (Zhang et al. 2019,
    "Fixup"), so that depth costs no stability.
    """
    for module in part.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            nn.init.trunc_normal_(module.weight, std=module.weight[0].numel() ** -0.5)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    for name, module in part.named_modules():
        if isinstance(module, nn.Linear) and name.endswith(LAST_MAPS):
            nn.init.zeros_(module.weight)
        elif isinstance(module, ConvBlock):
            module.reset_parameters()
        elif isinstance(module, AttentionPool):
            nn.init.normal_(module.latent, std=0.02)


@torch.no_grad()
def draw_pos_embed(pos_embed: Tensor, grid_size: tuple[int, int]) -> None:
    """Start learned positions (1, patches, width) from sine-cosine ones."""
    pos_embed.copy_(sincos_pos_embed(grid_size, pos_embed.shape[2], grid_size))


@torch.no_grad()
def draw_prefix_tokens(prefix: list[Tensor]) -> None:
    """Draw class token and registers, (1, count, width) each, from small noise."""
    noise = nn.init.normal_(torch.cat(prefix, 1), std=0.02)
    for tokens, drawn in zip(prefix, noise.split([one.shape[1] for one in prefix], 1), strict=True):
        tokens.copy_(drawn)
