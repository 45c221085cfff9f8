"""A row vector times an attention matrix, without the matrix: what attention maps and rollout are made of.

An explanation needs r A for a weighting r of the tokens (one at the class token, or the model's readout), where
A = softmax(scale · q kᵀ) is N × N a head. Two forms stand here: the plain one builds A and is the definition; the
streamed one works through A in blocks of rows that are forgotten at once, so its memory grows with N alone.
"""

import math

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


@torch.no_grad()
def row_times_attention(row: Tensor, record: AttentionRecord) -> Tensor:
    """r A of each head: `row` (batch, tokens) to (batch, heads, tokens), exactly and in memory linear in N.

    Where the kernel wrote A out, it is there to be used. Else rows of A whose weight is 0 in every picture are never
    computed: for the class token, one row is.
    """
    row = exact(row)
    if record.weights is not None and is_exact(record.weights):
        return (row[:, None, None] @ record.weights).squeeze(2)
    query, log_sums = record.query, record.log_sums if is_exact(record.query) else None
    used = row.ne(0).any(0)
    if not used.all():
        row, query = row[:, used], query[:, :, used]
        log_sums = None if log_sums is None else log_sums[:, :, used]
    return streamed(row, exact(query) * record.scale, exact(record.key), log_sums)


def streamed(row: Tensor, query: Tensor, key: Tensor, log_sums: Tensor | None) -> Tensor:
    """r A of each head in blocks of rows: `row` (batch, rows) to (batch, heads, tokens).

    A block needs one matrix product. Where the fused kernel told the logarithm of each row's sum (batch, heads, rows),
    subtracting it normalises the row, and powers are taken of 2, which is faster than of e; else the block goes
    through a softmax.
    """
    batch, heads, tokens, width = key.shape
    query = query if log_sums is None else query / math.log(2)
    query, key = query.reshape(batch * heads, -1, width), key.reshape(batch * heads, tokens, width).transpose(1, 2)
    rows = row[:, None].expand(-1, heads, -1).reshape(batch * heads, 1, -1)
    sums = None if log_sums is None else (log_sums / math.log(2)).reshape(batch * heads, -1, 1)
    step = max(1, BLOCK_NUMBERS // (batch * heads * tokens))
    numbers = key.new_empty(batch * heads * min(step, rows.shape[2]) * tokens)
    result = key.new_zeros(batch * heads, 1, tokens)
    for start in range(0, rows.shape[2], step):
        chosen = slice(start, start + step)
        count = rows[:, :, chosen].shape[2]
        block = numbers[: batch * heads * count * tokens].view(batch * heads, count, tokens)
        if sums is None:
            block = torch.softmax(torch.bmm(query[:, chosen], key, out=block), -1)
        else:
            torch.baddbmm(sums[:, chosen], query[:, chosen], key, beta=-1, out=block).exp2_()
        result.baddbmm_(rows[:, :, chosen], block)
    return result.view(batch, heads, tokens)


def exact(tensor: Tensor) -> Tensor:
    """In float32 at least: maps are computed more exactly than a bfloat16 forward pass."""
    return tensor if is_exact(tensor) else tensor.float()


def is_exact(tensor: Tensor) -> bool:
    """Whether numbers are float32 at least."""
    return tensor.dtype in (torch.float32, torch.float64)
