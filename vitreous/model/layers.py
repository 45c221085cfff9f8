"""The small layers of a block: its MLP, normalization, layer scale and stochastic depth."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from vitreous.model.config import ViTConfig
from vitreous.model.linear import Linear


class Mlp(nn.Module):
    """Linear, GELU in the form that the configuration names, linear, on each token by itself."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.activation = config.mlp_layer
        hidden = int(config.mlp_ratio * config.embed_dim)
        self.fc1 = Linear(config.embed_dim, hidden)
        self.fc2 = Linear(hidden, config.embed_dim)

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens (batch, tokens, width) to tokens."""
        hidden = self.fc1(tokens)
        if self.activation == "quick-gelu":
            return self.fc2(hidden * torch.sigmoid(1.702 * hidden))
        return self.fc2(functional.gelu(hidden, approximate="tanh" if self.activation == "gelu-tanh" else "none"))


class SwiGLU(nn.Module):
    """A gated MLP: silu(gate) × value (Shazeer 2020, equation 6), of the same cost as the plain one.

    The rows of `fc1` are the gate's, then the value's, as in timm's SwiGLUPacked.
    """

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.fc1 = Linear(config.embed_dim, 2 * config.gated_dim)
        self.fc2 = Linear(config.gated_dim, config.embed_dim)

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens (batch, tokens, width) to tokens."""
        gate, value = self.fc1(tokens).chunk(2, -1)
        return self.fc2(functional.silu(gate) * value)


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
