"""Attention rollout (Abnar and Zuidema 2020, section 3): attention followed through all layers."""

from collections.abc import Sequence

import torch
from torch import Tensor

from vitreous.errors import InputError
from vitreous.explanation.method import ExplainableModel, Maps
from vitreous.explanation.options import MethodOptions
from vitreous.explanation.streaming.attention_products import (
    AttentionLayer,
    at_least_float32,
    attention_row_blocks,
    full_precision,
    reference_attention,
    row_times_attention,
)
from vitreous.explanation.streaming.light_trace import LightTrace
from vitreous.explanation.streaming.tokens import readout_row, to_grid
from vitreous.explanation.targets import Target
from vitreous.model.trace import Trace


def rollout(model: ExplainableModel, images: Tensor, target: Target, settings: MethodOptions) -> Maps:
    """How much of each patch reaches the readout through all layers; the same for every target.

    The mean over heads with nothing discarded is Abnar and Zuidema's; see `fuse_rows` for the others.
    """
    if settings.head_fusion == "mean" and settings.discard_ratio == 0:
        lean = LightTrace()
        logits = model(images, lean)
        return Maps(to_grid(propagate(lean.layers, readout_row(lean, settings)), lean), logits)
    trace = Trace()
    logits = model(images, trace)
    return Maps(to_grid(propagate_fused(trace, readout_row(trace, settings), settings), trace), logits)


def propagate(layers: Sequence[AttentionLayer], row: Tensor) -> Tensor:
    """The share of each input token in a weighting of the last layer's: both (batch, tokens); rows sum to 1.

    A layer mixes tokens by ½ I + ½ mean over heads of A, the ½ I for the residual connection. Of the product of all
    layers only this row is wanted, so it is multiplied from the left, last layer first: a row vector times a
    matrix a layer, and never a matrix times a matrix.
    """
    row = at_least_float32(row)
    for layer in reversed(layers):
        row = (row + row_times_attention(row, layer).mean(1)) / 2
    return row


def reference_rollout(trace: Trace, row: Tensor) -> Tensor:
    """The same by the definition: the whole matrix of every layer, and their product. N² memory; for tests."""
    product = None
    for record in trace.records:
        matrix = reference_attention(record).mean(1)
        mixing = (matrix + torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)) / 2
        product = mixing if product is None else mixing @ product
    assert product is not None
    return (at_least_float32(row)[:, None] @ product).squeeze(1)


def fuse_rows(attention: Tensor, settings: MethodOptions) -> Tensor:
    """Rows of A (batch, heads, rows, tokens) as one (batch, rows, tokens): joined, thinned out, summing to 1 again.

    Heads are joined by `settings.fusion`. Then of each row the ⌊discard · N⌋ smallest weights become 0 (equal weights
    stay or go together: one as large as the smallest that is kept is kept). Then the row is divided by its sum, so that
    in Abnar and Zuidema's ½ I + ½ A the residual connection keeps its half. A row of which nothing is left stays 0.

    The idea of maximum, minimum and discarding is from vit-explain (Gildenblat 2020), which differs: it discards over
    the whole matrix at once, and normalizes after adding I, so that there the residual's part depends on the fusion.
    """
    joined = {"mean": attention.mean, "max": attention.amax, "min": attention.amin}[settings.head_fusion](1)
    tokens = joined.shape[-1]
    count = min(tokens - 1, int(settings.discard_ratio * tokens + 1e-9))  # 0.7 · 10 may be a hair below 7
    if count:
        least = joined.kthvalue(count + 1, -1, keepdim=True).values
        joined = joined.where(joined >= least, 0)
    return joined / joined.sum(-1, keepdim=True).clamp_min(torch.finfo(joined.dtype).tiny)


@full_precision
def propagate_fused(trace: Trace, row: Tensor, settings: MethodOptions) -> Tensor:
    """The share of each input token in a weighting of the last layer's: both (batch, tokens); rows sum to 1.

    Raises:
        InputError: `settings.discard` is not a share that leaves something.
    """
    if not 0 <= settings.discard_ratio < 1:
        raise InputError(f"discard is {settings.discard_ratio:g}: give the share to leave out, 0 to below 1")
    row = at_least_float32(row)
    for record in reversed(trace.records):
        mixed = torch.zeros_like(row)
        for chosen, attention in attention_row_blocks(row, record):
            part, joined = row[:, chosen], fuse_rows(attention, settings)
            mixed += (part[:, None] @ joined).squeeze(1) / 2
            mixed[:, chosen] += part * (1 - joined.sum(-1) / 2)
        row = mixed
    return row


def reference_fused_rollout(trace: Trace, row: Tensor, settings: MethodOptions) -> Tensor:
    """The same by the definition: the whole matrix of every layer, sorted, and their product. For tests."""
    product = None
    for record in trace.records:
        attention = reference_attention(record)
        matrix = {"mean": attention.mean(1), "max": attention.amax(1), "min": attention.amin(1)}[settings.head_fusion]
        count = min(matrix.shape[-1] - 1, int(settings.discard_ratio * matrix.shape[-1] + 1e-9))
        matrix = matrix * (matrix >= matrix.sort(-1).values[..., count, None])
        matrix = matrix / matrix.sum(-1, keepdim=True)
        mixing = (matrix + torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)) / 2
        product = mixing if product is None else mixing @ product
    assert product is not None
    return (at_least_float32(row)[:, None] @ product).squeeze(1)
