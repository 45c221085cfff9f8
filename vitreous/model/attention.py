"""Multi-head self-attention (Vaswani et al. 2017, section 3.2), observed through a trace."""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from vitreous.model.config import ViTConfig
from vitreous.model.positions import rotate
from vitreous.model.trace import AttentionRecord, Trace

# Up to this many tokens, attention written out beats the fused kernel on a CPU (forward and backward, 2 cores with
# AVX512-BF16, torch 2.13; LOG.md 2026-11-21). Elsewhere the fused kernel always wins.
WRITTEN_OUT_TOKENS = {torch.bfloat16: 1024, torch.float32: 160}


class Attended(NamedTuple):
    """What attention gives: the values gathered, and the by-products of the kernel that ran (see AttentionRecord)."""

    output: Tensor
    weights: Tensor | None = None
    log_sums: Tensor | None = None


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
        query, key = self._placed(query, key, rotation)
        attended = attend(query, key, value)
        if trace is not None:
            record = AttentionRecord(
                query, key, value, attended.output, self.head_width**-0.5, attended.weights, attended.log_sums,
                self.projection.weight, tokens, lambda: self.query_and_key(tokens, rotation),
            )  # fmt: skip
            trace.attended(record)
        return self.projection(attended.output.transpose(1, 2).flatten(2))

    def query_and_key(self, tokens: Tensor, rotation: Tensor | None) -> tuple[Tensor, Tensor]:
        """The layer's queries and keys (batch, heads, tokens, head width), for its input."""
        width = self.heads * self.head_width
        both = functional.linear(tokens, self.qkv.weight[: 2 * width], self.qkv.bias[: 2 * width])
        query, key = both.unflatten(-1, (2, self.heads, self.head_width)).permute(2, 0, 3, 1, 4)
        return self._placed(query, key, rotation)

    def _placed(self, query: Tensor, key: Tensor, rotation: Tensor | None) -> tuple[Tensor, Tensor]:
        """Queries and keys normalised, if the model does, and turned by position."""
        precision = query.dtype
        query, key = self.query_norm(query), self.key_norm(key)
        if rotation is not None:
            query, key = rotate(query, rotation), rotate(key, rotation)
        return query.to(precision), key.to(precision)


def attend(query: Tensor, key: Tensor, value: Tensor) -> Attended:
    """softmax(query keyᵀ / √d) value by the fastest kernel for this device, precision and number of tokens.

    All are (batch, heads, tokens, head width d). This is the one place where a kernel is chosen.
    """
    if query.device.type != "cpu":
        return Attended(functional.scaled_dot_product_attention(query, key, value))
    if query.shape[-2] <= WRITTEN_OUT_TOKENS.get(query.dtype, 0):
        scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-2, -1)
        weights = torch.softmax(scores, -1, dtype=value.dtype)
        return Attended(weights @ value, weights)
    output, log_sums = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(query, key, value)
    return Attended(output, None, log_sums)
