"""Attention weighted by its own gradient, (∇A ∘ A)⁺, times a row vector: what class-specific attention is made of.

The gradient of a score with respect to an attention matrix needs only the gradient g of the layer's output o = A v:
∇A_ij = g_i · v_j. So (∇A ∘ A)_ij = A_ij (g_i · v_j), a block of rows of which is two matrix products away. As in
`rows`, a plain form that builds the matrices by autograd stands beside the streamed one, in memory linear in N.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from vitreous.explanation.rows import AttentionRows, exact, exactly, plain_attention
from vitreous.model.trace import AttentionRecord

BLOCK_NUMBERS = 2**19
"""Numbers of a matrix that the streamed forms hold at a time, of two such matrices at most: 2 MiB each in float32."""


def plain_gradient(record: AttentionRecord, gradient: Tensor) -> tuple[Tensor, Tensor]:
    """A and ∇A (batch, heads, tokens, tokens) by autograd, through attention written out. For tests.

    `gradient` is the score's with respect to the layer's output, (batch, heads, tokens, head width).
    """
    with torch.enable_grad():
        weights = plain_attention(record).detach().requires_grad_()
        output = weights @ exact(record.value).detach()
        (slope,) = torch.autograd.grad(output, weights, exact(gradient))
    return weights.detach(), slope


def plain_row_times_positive(row: Tensor, record: AttentionRecord, gradient: Tensor) -> Tensor:
    """r (∇A ∘ A)⁺ of each head: `row` (batch, tokens) to (batch, heads, tokens), by the definition."""
    weights, slope = plain_gradient(record, gradient)
    return (row.to(weights.dtype)[:, None, None] @ (weights * slope).clamp(min=0)).squeeze(2)


@exactly
def row_times_positive(row: Tensor, record: AttentionRecord, gradient: Tensor) -> Tensor:
    """r (∇A ∘ A)⁺ of each head: `row` (batch, tokens) to (batch, heads, tokens), exactly and in memory linear in N.

    Rows whose weight is 0 in every image are never computed: for the class token, one row is.
    """
    used = row.ne(0).any(0)
    attention, value = AttentionRows(record, used), _flat(record.value).transpose(1, 2)
    slopes = _flat(gradient[:, :, used])
    rows = row[:, None, used].to(value.dtype).expand(-1, record.value.shape[1], -1).flatten(0, 1)[:, None]
    result = value.new_zeros(len(value), 1, value.shape[2])
    for chosen in attention.slices(BLOCK_NUMBERS):
        block = torch.bmm(slopes[:, chosen], value).clamp_(min=0)
        result.baddbmm_(rows[:, :, chosen], block.mul_(attention.block(chosen)))
    return result.view(*record.value.shape[:2], -1)


def plain_mean_positive(record: AttentionRecord, gradient: Tensor) -> Tensor:
    """The mean over queries of (∇A)⁺ of each head, (batch, heads, tokens), by the definition."""
    return plain_gradient(record, gradient)[1].clamp(min=0).mean(2)


@exactly
def mean_positive(record: AttentionRecord, gradient: Tensor) -> Tensor:
    """The mean over queries of (∇A)⁺ of each head, (batch, heads, tokens), in memory linear in N.

    Queries on which the score doesn't depend are never computed: where the class token alone is read, one is.
    """
    slopes = _flat(gradient[:, :, gradient.ne(0).any(-1).any(1).any(0)])
    value = _flat(record.value).transpose(1, 2)
    result = value.new_zeros(len(value), value.shape[2])
    for chosen in _blocks(slopes, value):
        result += torch.bmm(slopes[:, chosen], value).clamp_(min=0).sum(1)
    return result.view(*record.value.shape[:2], -1) / value.shape[2]


def _flat(tensor: Tensor) -> Tensor:
    """(batch, heads, tokens, width) as (batch × heads, tokens, width), exact and in one piece for all blocks."""
    return exact(tensor).flatten(0, 1).contiguous()


def _blocks(rows: Tensor, columns: Tensor) -> Iterator[slice]:
    """Slices of rows (batch × heads, rows, width) whose products with (batch × heads, width, tokens) make a block."""
    step = max(1, BLOCK_NUMBERS // (len(columns) * columns.shape[2]))
    return (slice(start, start + step) for start in range(0, rows.shape[1], step))
