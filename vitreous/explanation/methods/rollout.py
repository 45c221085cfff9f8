"""Attention rollout (Abnar and Zuidema 2020, section 3): attention followed through all layers."""

from collections.abc import Sequence

import torch
from torch import Tensor

from vitreous.errors import InputError
from vitreous.explanation.method import Maps, Model
from vitreous.explanation.options import Settings
from vitreous.explanation.streaming.attention_products import (
    Layer,
    exact,
    exactly,
    plain_attention,
    row_blocks,
    row_times_attention,
)
from vitreous.explanation.streaming.light_trace import LeanTrace
from vitreous.explanation.streaming.tokens import on_grid, starting_row
from vitreous.explanation.targets import Target
from vitreous.model.trace import Trace


def rollout(model: Model, images: Tensor, target: Target, settings: Settings) -> Maps:
    """How much of each patch reaches the readout through all layers; the same for every target.

    The mean over heads with nothing discarded is Abnar and Zuidema's; see `joined_rows` for the others.
    """
    if settings.fusion == "mean" and settings.discard == 0:
        lean = LeanTrace()
        logits = model(images, lean)
        return Maps(on_grid(roll(lean.layers, starting_row(lean, settings)), lean), logits)
    trace = Trace()
    logits = model(images, trace)
    return Maps(on_grid(roll_joined(trace, starting_row(trace, settings), settings), trace), logits)


def roll(layers: Sequence[Layer], row: Tensor) -> Tensor:
    """The share of each input token in a weighting of the last layer's: both (batch, tokens); rows sum to 1.

    A layer mixes tokens by ½ I + ½ mean over heads of A, the ½ I for the residual connection. Of the product of all
    layers only this row is wanted, so it is multiplied from the left, last layer first: a row vector times a
    matrix a layer, and never a matrix times a matrix.
    """
    row = exact(row)
    for layer in reversed(layers):
        row = (row + row_times_attention(row, layer).mean(1)) / 2
    return row


def plain_rollout(trace: Trace, row: Tensor) -> Tensor:
    """The same by the definition: the whole matrix of every layer, and their product. N² memory; for tests."""
    product = None
    for record in trace.records:
        matrix = plain_attention(record).mean(1)
        mixing = (matrix + torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)) / 2
        product = mixing if product is None else mixing @ product
    assert product is not None
    return (exact(row)[:, None] @ product).squeeze(1)


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
