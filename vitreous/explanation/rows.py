"""A row vector times an attention matrix, without the matrix: what attention maps and rollout are made of.

An explanation needs r A for a weighting r of the tokens (one at the class token, or the model's readout), where
A = softmax(scale · q kᵀ) is N × N a head. Two forms stand here: the plain one builds A and is the definition; the
streamed one works through A in blocks of rows that are forgotten at once, so its memory grows with N alone.
"""

import torch
from torch import Tensor

from vitreous.model.trace import AttentionRecord

BLOCK_NUMBERS = 2**20
"""Numbers of the attention matrix that the streamed form holds at a time: 4 MiB in float32, which caches hold."""


def plain_attention(record: AttentionRecord) -> Tensor:
    """The attention matrix itself: (batch, heads, tokens, tokens), rows sum to 1. For tests and small models."""
    return torch.softmax(record.scale * exact(record.query) @ exact(record.key).transpose(-2, -1), -1)


def plain_row_times_attention(row: Tensor, record: AttentionRecord) -> Tensor:
    """r A of each head: `row` (batch, tokens) to (batch, heads, tokens), by the definition."""
    return (exact(row)[:, None, None] @ plain_attention(record)).squeeze(2)


def row_times_attention(row: Tensor, record: AttentionRecord) -> Tensor:
    """r A of each head: `row` (batch, tokens) to (batch, heads, tokens), exactly and in memory linear in N.

    Rows of A whose weight is 0 in every picture are never computed: for the class token, one row is. A block of rows
    needs one matrix product and one softmax; going through the logarithms of the sums, as design.md sketches it, would
    take two passes over the scores for the same numbers.
    """
    row = exact(row)
    used = row.ne(0).any(0).nonzero().squeeze(1)
    key = exact(record.key).transpose(-2, -1)
    batch, heads, _, tokens = key.shape
    result = key.new_zeros(batch, heads, tokens)
    for chosen in used.split(max(1, BLOCK_NUMBERS // (batch * heads * tokens))):
        query = exact(record.query[:, :, chosen]) * record.scale
        result += (row[:, None, None, chosen] @ torch.softmax(query @ key, -1)).squeeze(2)
    return result


def exact(tensor: Tensor) -> Tensor:
    """In float32 at least: maps are computed more exactly than a bfloat16 forward pass."""
    return tensor if tensor.dtype in (torch.float32, torch.float64) else tensor.float()
