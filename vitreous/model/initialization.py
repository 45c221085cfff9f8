"""The weights before training."""

from typing import TYPE_CHECKING

import torch
from torch import nn

from vitreous.model.attention import Attention
from vitreous.model.blocks import MLP, SwiGLU
from vitreous.model.convolution import Convolution
from vitreous.model.pooling import MultiHeadPooling
from vitreous.model.positions import LearnedPositions, sincos_table

if TYPE_CHECKING:
    from vitreous.model.vit import ViT


@torch.no_grad()
def initialize(model: "ViT") -> None:
    """Linear maps: truncated normal of variance 1 / inputs; biases, head and the ends of residual branches: zero.

    A branch that ends in zeros leaves each block the identity at first (Zhang et al. 2019, "Fixup"), so that depth
    costs no stability. Learned positions start from sine-cosine ones, class token and registers from small noise.
    """
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.trunc_normal_(module.weight, std=module.in_features**-0.5)
            nn.init.zeros_(module.bias)
    for module in model.modules():
        if isinstance(module, Attention):
            nn.init.zeros_(module.projection.weight)
        elif isinstance(module, MLP | SwiGLU):
            nn.init.zeros_(module.contract.weight)
        elif isinstance(module, Convolution):
            module.reset_parameters()
        elif isinstance(module, LearnedPositions):
            height, width, channels = module.table.shape
            module.table.copy_(sincos_table((height, width), channels, (height, width)))
    if isinstance(model.head, nn.Linear):
        nn.init.zeros_(model.head.weight)
    if isinstance(model.pooling, MultiHeadPooling):
        nn.init.normal_(model.pooling.query, std=0.02)
    if model.prefix is not None:
        nn.init.normal_(model.prefix, std=0.02)
