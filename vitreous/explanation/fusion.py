"""Rollout with heads joined by maximum or minimum, or with the smallest weights discarded.

None of these is a product with a row vector, but each is defined a row of the attention at a time, so it needs no
N × N either: rows are made in blocks, joined, multiplied by their weight and forgotten.
"""

import torch
from torch import Tensor

from vitreous.errors import InputError
from vitreous.explanation.row_blocks import row_blocks
from vitreous.explanation.rows import exact, exactly, plain_attention
from vitreous.explanation.settings import Settings
from vitreous.model.trace import Trace


def joined_rows(attention: Tensor, settings: Settings) -> Tensor:
    """Rows of A (batch, heads, rows, tokens) as one (batch, rows, tokens): joined, thinned out, summing to 1 again.

    Heads are joined by `settings.fusion`. Then of each row the ⌊discard · N⌋ smallest weights become 0 (equal weights
    stay or go together: one as large as the smallest that is kept is kept). Then the row is divided by its sum, so that
    in Abnar and Zuidema's ½ I + ½ A the residual connection keeps its half. A row of which nothing is left stays 0.

    The idea of maximum, minimum and discarding is from vit-explain (Gildenblat 2020), which differs: it discards over
    the whole matrix at once, and normalizes after adding I, so that there the residual's part depends on the fusion.
    """
    joined = {"mean": attention.mean, "max": attention.amax, "min": attention.amin}[settings.fusion](1)
    tokens = joined.shape[-1]
    count = min(tokens - 1, int(settings.discard * tokens + 1e-9))  # 0.7 · 10 may be a hair below 7
    if count:
        least = joined.kthvalue(count + 1, -1, keepdim=True).values
        joined = joined.where(joined >= least, 0)
    return joined / joined.sum(-1, keepdim=True).clamp_min(torch.finfo(joined.dtype).tiny)


@exactly
def roll_joined(trace: Trace, row: Tensor, settings: Settings) -> Tensor:
    """The share of each input token in a weighting of the last layer's: both (batch, tokens); rows sum to 1.

    Raises:
        InputError: `settings.discard` is not a share that leaves something.
    """
    if not 0 <= settings.discard < 1:
        raise InputError(f"discard is {settings.discard:g}: give the share to leave out, 0 to below 1")
    row = exact(row)
    for record in reversed(trace.records):
        mixed = torch.zeros_like(row)
        for chosen, attention in row_blocks(row, record):
            part, joined = row[:, chosen], joined_rows(attention, settings)
            mixed += (part[:, None] @ joined).squeeze(1) / 2
            mixed[:, chosen] += part * (1 - joined.sum(-1) / 2)
        row = mixed
    return row


def plain_joined_rollout(trace: Trace, row: Tensor, settings: Settings) -> Tensor:
    """The same by the definition: the whole matrix of every layer, sorted, and their product. For tests."""
    product = None
    for record in trace.records:
        attention = plain_attention(record)
        matrix = {"mean": attention.mean(1), "max": attention.amax(1), "min": attention.amin(1)}[settings.fusion]
        count = min(matrix.shape[-1] - 1, int(settings.discard * matrix.shape[-1] + 1e-9))
        matrix = matrix * (matrix >= matrix.sort(-1).values[..., count, None])
        matrix = matrix / matrix.sum(-1, keepdim=True)
        mixing = (matrix + torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)) / 2
        product = mixing if product is None else mixing @ product
    assert product is not None
    return (exact(row)[:, None] @ product).squeeze(1)
