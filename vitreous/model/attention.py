"""Multi-head self-attention (Vaswani et al. 2017, section 3.2), observed through a trace."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from vitreous.model.config import ViTConfig
from vitreous.model.positions import rotate
from vitreous.model.trace import AttentionRecord, Trace

# Up to this many tokens, attention written out beats the fused kernel on a CPU (forward and backward, 2 cores with
# AVX512-BF16, torch 2.13; LOG.md 2026-11-21). Elsewhere the fused kernel always wins.
WRITTEN_OUT_TOKENS = {torch.bfloat16: 1024, torch.float32: 160}


class Attention(nn.Module):
    """Every token gathers from all tokens, in `heads` ways at once."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.heads, self.head_width = config.heads, config.head_width
        self.qkv = nn.Linear(config.width, 3 * config.width)
        self.projection = nn.Linear(config.width, config.width)
        self.query_norm = nn.LayerNorm(self.head_width, config.norm_epsilon) if config.qk_norm else nn.Identity()
        self.key_norm = nn.LayerNorm(self.head_width, config.norm_epsilon) if config.qk_norm else nn.Identity()

    def forward(self, tokens: Tensor, rotation: Tensor | None = None, trace: Trace | None = None) -> Tensor:
        """Tokens (batch, tokens, width) to tokens; `rotation` turns queries and keys by position."""
        qkv = self.qkv(tokens).unflatten(-1, (3, self.heads, self.head_width))
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        query, key = self.query_norm(query), self.key_norm(key)
        if rotation is not None:
            query, key = rotate(query, rotation), rotate(key, rotation)
        query, key = query.to(value.dtype), key.to(value.dtype)
        output = attend(query, key, value)
        if trace is not None:
            trace.records.append(AttentionRecord(query, key, value, output, self.head_width**-0.5))
        return self.projection(output.transpose(1, 2).flatten(2))


def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """softmax(query keyᵀ / √d) value by the fastest kernel for this device, precision and number of tokens.

    All are (batch, heads, tokens, head width d). This is the one place where a kernel is chosen.
    """
    if query.device.type == "cpu" and query.shape[-2] <= WRITTEN_OUT_TOKENS.get(query.dtype, 0):
        scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-2, -1)
        return torch.softmax(scores, -1, dtype=value.dtype) @ value
    return functional.scaled_dot_product_attention(query, key, value)
