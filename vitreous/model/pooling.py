"""Tokens to one vector a picture. Each way also says with which weight it read each token: the readout."""

import torch
from torch import Tensor, nn

from vitreous.model.config import ViTConfig


class ClassPooling(nn.Module):
    """The class token alone (Dosovitskiy et al. 2021, equation 4)."""

    def forward(self, tokens: Tensor, prefix: int) -> tuple[Tensor, Tensor]:
        """Tokens (batch, tokens, width) to vectors (batch, width) and the readout (batch, tokens)."""
        readout = tokens.new_zeros(tokens.shape[:2])
        readout[:, 0] = 1
        return tokens[:, 0], readout


class MeanPooling(nn.Module):
    """The mean over the patches."""

    def forward(self, tokens: Tensor, prefix: int) -> tuple[Tensor, Tensor]:
        """Tokens (batch, tokens, width) to vectors (batch, width) and the readout (batch, tokens)."""
        readout = tokens.new_zeros(tokens.shape[:2])
        readout[:, prefix:] = 1 / (tokens.shape[1] - prefix)
        return tokens[:, prefix:].mean(1), readout


class AttentionPooling(nn.Module):
    """A learned weighting of the patches: softmax over a linear score (Hassani et al. 2021, section 3.2)."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.score = nn.Linear(config.width, 1)

    def forward(self, tokens: Tensor, prefix: int) -> tuple[Tensor, Tensor]:
        """Tokens (batch, tokens, width) to vectors (batch, width) and the readout (batch, tokens)."""
        patches = tokens[:, prefix:]
        weights = torch.softmax(self.score(patches).squeeze(-1).float(), -1)
        readout = torch.cat([weights.new_zeros(len(tokens), prefix), weights], 1)
        return (weights.to(patches.dtype).unsqueeze(1) @ patches).squeeze(1), readout


def build_pooling(config: ViTConfig) -> nn.Module:
    """The pooling that the configuration names."""
    if config.pooling == "class":
        return ClassPooling()
    return MeanPooling() if config.pooling == "mean" else AttentionPooling(config)
