"""The small layers of a block: normalization, layer scale and stochastic depth."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from vitreous.model.config import ViTConfig


class LayerScale(nn.Module):
    """A learned factor for each channel (Touvron et al. 2021, "Going deeper with Image Transformers", section 2)."""

    def __init__(self, dim: int, init_values: float) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((dim,), float(init_values)))

    def forward(self, tokens: Tensor) -> Tensor:
        """(batch, tokens, width) to the same shape."""
        return tokens * self.gamma


def build_layer_scale(config: ViTConfig) -> nn.Module:
    return nn.Identity() if config.init_values is None else LayerScale(config.embed_dim, config.init_values)


class DropPath(nn.Module):
    """Stochastic depth: in training, drop an image's whole branch at random (Huang et al. 2016)."""

    def __init__(self, drop_prob: float) -> None:
        super().__init__()
        self.drop_prob = drop_prob

    def forward(self, branch: Tensor) -> Tensor:
        """(batch, tokens, width) to the same shape."""
        if not self.training or self.drop_prob == 0:
            return branch
        kept = torch.rand(len(branch), 1, 1, device=branch.device) >= self.drop_prob
        return branch * kept / (1 - self.drop_prob)


class RMSNorm(nn.Module):
    """Divide by the root mean square (Zhang and Sennrich 2019, equation 4), then scale by a learned factor.

    torch's own module warns, and takes a slow way, where it meets bfloat16 numbers and float32 factors.
    """

    def __init__(self, dim: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))
        self.eps = eps

    def forward(self, tokens: Tensor) -> Tensor:
        """(..., width) to the same shape and precision."""
        return functional.rms_norm(tokens, self.weight.shape, self.weight.to(tokens.dtype), self.eps)


def build_norm(config: ViTConfig) -> nn.Module:
    """Build the normalization of a token's channels that the configuration names."""
    norm = nn.LayerNorm if config.norm_layer == "layernorm" else RMSNorm
    return norm(config.embed_dim, config.norm_eps)
