"""Attention rollout (Abnar and Zuidema 2020, section 3): attention followed through all layers."""

from collections.abc import Sequence

import torch
from torch import Tensor

from vitreous.explanation.fusion import roll_joined
from vitreous.explanation.lean import LeanTrace
from vitreous.explanation.method import Maps, Model
from vitreous.explanation.rows import Layer, exact, plain_attention, row_times_attention
from vitreous.explanation.settings import Settings
from vitreous.explanation.targets import Target
from vitreous.explanation.tokens import on_grid, starting_row
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
