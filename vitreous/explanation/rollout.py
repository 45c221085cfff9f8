"""Attention rollout (Abnar and Zuidema 2020, section 3): attention followed through all layers."""

import torch
from torch import Tensor

from vitreous.explanation.rows import exact, plain_attention, row_times_attention
from vitreous.explanation.settings import Settings
from vitreous.model.trace import Trace


def rollout(trace: Trace, settings: Settings) -> Tensor:
    """How much of each input token reaches the readout through all layers: (batch, tokens); rows sum to 1.

    A layer mixes tokens by ½ I + ½ mean over heads of A, the ½ I for the residual connection. Of the product of all
    layers only the readout's row is wanted, so it is multiplied from the left, last layer first: a row vector times a
    matrix a layer, and never a matrix times a matrix.
    """
    assert trace.readout is not None
    row = exact(trace.readout)
    for record in reversed(trace.records):
        row = (row + row_times_attention(row, record).mean(1)) / 2
    return row


def plain_rollout(trace: Trace) -> Tensor:
    """The same by the definition: the whole matrix of every layer, and their product. N² memory; for tests."""
    assert trace.readout is not None
    product = None
    for record in trace.records:
        matrix = plain_attention(record).mean(1)
        mixing = (matrix + torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)) / 2
        product = mixing if product is None else mixing @ product
    assert product is not None
    return (exact(trace.readout)[:, None] @ product).squeeze(1)
