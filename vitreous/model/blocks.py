"""A transformer block: attention and an MLP, each normalized first and added to what came in."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from vitreous.model.attention import Attention
from vitreous.model.config import ViTConfig
from vitreous.model.linear import Linear
from vitreous.model.norms import build_norm
from vitreous.model.trace import Trace


class Block(nn.Module):
    """One pre-norm block (Dosovitskiy et al. 2021, equations 2 and 3)."""

    def __init__(self, config: ViTConfig, index: int) -> None:
        super().__init__()
        drop = config.stochastic_depth * index / max(1, config.depth - 1)
        self.attention_norm = build_norm(config)
        self.attention = Attention(config)
        self.attention_branch = ResidualBranch(config, drop)
        self.mlp_norm = build_norm(config)
        self.mlp = SwiGLU(config) if config.mlp == "swiglu" else MLP(config)
        self.mlp_branch = ResidualBranch(config, drop)

    def forward(self, tokens: Tensor, rotation: Tensor | None = None, trace: Trace | None = None) -> Tensor:
        """Tokens (batch, tokens, width) to tokens."""
        tokens = tokens + self.attention_branch(self.attention(self.attention_norm(tokens), rotation, trace))
        return tokens + self.mlp_branch(self.mlp(self.mlp_norm(tokens)))


class MLP(nn.Module):
    """Linear, GELU in the form that the configuration names, linear, on each token by itself."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.kind = config.mlp
        hidden = int(config.mlp_ratio * config.width)
        self.expand = Linear(config.width, hidden)
        self.contract = Linear(hidden, config.width)

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens (batch, tokens, width) to tokens."""
        hidden = self.expand(tokens)
        if self.kind == "quick-gelu":
            return self.contract(hidden * torch.sigmoid(1.702 * hidden))
        return self.contract(functional.gelu(hidden, approximate="tanh" if self.kind == "gelu-tanh" else "none"))


class SwiGLU(nn.Module):
    """A gated MLP: silu(gate) × value (Shazeer 2020, equation 6), of the same cost as the plain one."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.gate_and_value = Linear(config.width, 2 * config.gated_width)
        self.contract = Linear(config.gated_width, config.width)

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens (batch, tokens, width) to tokens."""
        gate, value = self.gate_and_value(tokens).chunk(2, -1)
        return self.contract(functional.silu(gate) * value)


class ResidualBranch(nn.Module):
    """What a branch passes through before it is added: a learned factor a channel, then stochastic depth."""

    def __init__(self, config: ViTConfig, drop: float) -> None:
        super().__init__()
        self.drop = drop
        scaled = config.layer_scale is not None
        self.factor = nn.Parameter(torch.full((config.width,), float(config.layer_scale or 0))) if scaled else None

    def forward(self, branch: Tensor) -> Tensor:
        """(batch, tokens, width) to the same; in training an image's whole branch is dropped at random."""
        if self.factor is not None:
            branch = branch * self.factor
        if not self.training or self.drop == 0:
            return branch
        kept = torch.rand(len(branch), 1, 1, device=branch.device) >= self.drop
        return branch * kept / (1 - self.drop)
