"""Rows of an attention matrix a block at a time, for what can't be said as one product with a row vector."""

from collections.abc import Iterator

from torch import Tensor

from vitreous.explanation.rows import AttentionRows
from vitreous.model.trace import AttentionRecord

BLOCK_NUMBERS = 2**20
"""Numbers of the attention matrix that are held at a time: 4 MiB in float32."""


def row_blocks(row: Tensor, record: AttentionRecord) -> Iterator[tuple[Tensor, Tensor]]:
    """The rows of A that have a weight in `row` (batch, tokens), in blocks.

    Yields:
        Which rows (rows), and those rows of every head (batch, heads, rows, tokens), each summing to 1. Rows whose
        weight is 0 in every image are left out, so the memory grows with N alone.
    """
    used = row.ne(0).any(0)
    places, attention = used.nonzero().squeeze(1), AttentionRows(record, used)
    for chosen in attention.slices(BLOCK_NUMBERS):
        yield places[chosen], attention.block(chosen).unflatten(0, (-1, attention.heads))
