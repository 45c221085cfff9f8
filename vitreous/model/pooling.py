"""Tokens to one vector an image. Each way also says with which weight it read each token: the readout."""

import torch
from torch import Tensor, nn

from vitreous.model.blocks import MLP
from vitreous.model.config import ViTConfig
from vitreous.model.linear import Linear
from vitreous.model.norms import build_norm


def _zeros(tokens: Tensor) -> Tensor:
    """A nought a token (batch, tokens), in float32 at least: in bfloat16 1 / N times N isn't 1."""
    return tokens.new_zeros(tokens.shape[:2], dtype=torch.promote_types(tokens.dtype, torch.float32))


class ClassPooling(nn.Module):
    """One token alone: the class token (Dosovitskiy et al. 2021, equation 4), which is token 0."""

    def __init__(self, index: int = 0) -> None:
        super().__init__()
        self.index = index

    def forward(self, tokens: Tensor, prefix: int) -> tuple[Tensor, Tensor]:
        """Tokens (batch, tokens, width) to vectors (batch, width) and the readout (batch, tokens)."""
        readout = _zeros(tokens)
        readout[:, self.index] = 1
        return tokens[:, self.index], readout


class MeanPooling(nn.Module):
    """The mean over the patches."""

    def forward(self, tokens: Tensor, prefix: int) -> tuple[Tensor, Tensor]:
        """Tokens (batch, tokens, width) to vectors (batch, width) and the readout (batch, tokens)."""
        readout = _zeros(tokens)
        readout[:, prefix:] = 1 / (tokens.shape[1] - prefix)
        return tokens[:, prefix:].mean(1), readout


class PairPooling(nn.Module):
    """The class token joined with the patches' mean, or with the distillation token: each counts half."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.second = MeanPooling() if config.pooling == "class-and-mean" else ClassPooling(1)
        self.first = ClassPooling()

    def forward(self, tokens: Tensor, prefix: int) -> tuple[Tensor, Tensor]:
        """Tokens (batch, tokens, width) to vectors (batch, 2 × width) and the readout (batch, tokens)."""
        first, readout = self.first(tokens, prefix)
        second, other = self.second(tokens, prefix)
        return torch.cat([first, second], -1), (readout + other) / 2


class AttentionPooling(nn.Module):
    """A learned weighting of the patches: softmax over a linear score (Hassani et al. 2021, section 3.2)."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.score = Linear(config.width, 1)

    def forward(self, tokens: Tensor, prefix: int) -> tuple[Tensor, Tensor]:
        """Tokens (batch, tokens, width) to vectors (batch, width) and the readout (batch, tokens)."""
        patches = tokens[:, prefix:]
        weights = torch.softmax(self.score(patches).squeeze(-1).float(), -1)
        readout = torch.cat([weights.new_zeros(len(tokens), prefix), weights], 1)
        return (weights.to(patches.dtype).unsqueeze(1) @ patches).squeeze(1), readout


class MultiHeadPooling(nn.Module):
    """A learned query attends to the patches in several heads; an MLP follows (Zhai et al. 2022, section 3)."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.heads, self.head_width = config.heads, config.head_width
        self.query = nn.Parameter(torch.zeros(config.width))
        self.query_map = Linear(config.width, config.width)
        self.key_value_map = Linear(config.width, 2 * config.width)
        self.projection = Linear(config.width, config.width)
        self.norm = build_norm(config)
        self.mlp = MLP(config)

    def forward(self, tokens: Tensor, prefix: int) -> tuple[Tensor, Tensor]:
        """Tokens (batch, tokens, width) to vectors (batch, width) and the readout (batch, tokens), its heads' mean."""
        query = self.query_map(self.query.to(tokens.dtype)).unflatten(-1, (self.heads, 1, self.head_width))
        both = self.key_value_map(tokens[:, prefix:]).unflatten(-1, (2, self.heads, self.head_width))
        key, value = both.permute(2, 0, 3, 1, 4)
        weights = torch.softmax((query * self.head_width**-0.5 @ key.transpose(-2, -1)).float(), -1)
        pooled = self.projection((weights.to(value.dtype) @ value).flatten(1))
        mean = weights.mean(1).squeeze(1)
        return pooled + self.mlp(self.norm(pooled)), torch.cat([mean.new_zeros(len(tokens), prefix), mean], 1)


def build_pooling(config: ViTConfig) -> nn.Module:
    """The pooling that the configuration names."""
    if config.pooling == "class":
        return ClassPooling()
    if config.pooling == "mean":
        return MeanPooling()
    if config.pooling == "attention":
        return AttentionPooling(config)
    return MultiHeadPooling(config) if config.pooling == "map" else PairPooling(config)
