"""Attention rollout (Abnar and Zuidema 2020, section 3): attention multiplied through all layers."""

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
from vitreous.explanation.streaming.tokens import readout_row, require_rollout, to_grid
from vitreous.model.trace import Trace
from vitreous.tasks.targets import Target


def rollout(model: ExplainableModel, images: Tensor, target: Target, options: MethodOptions) -> Maps:
    """Compute how much of each patch reaches the readout through all layers; the same for every target.

    The mean over heads with a `discard_ratio` of 0 is Abnar and Zuidema's method; `fuse_rows` describes the others.

    Args:
        model: any observable model.
        images: (batch, channels, height, width), normalized.
        target: not used.
        options: query, head_fusion and discard_ratio.

    Raises:
        InputError: there is no such patch, the discard ratio is not in [0, 1), or a wrapped model mixes tokens between
            its layers by something else than attention.
    """
    if options.head_fusion == "mean" and options.discard_ratio == 0:
        light = LightTrace()
        logits = model(images, light)
        require_rollout(light)
        return Maps(to_grid(propagate(light.layers, readout_row(light, options)), light), logits)
    trace = Trace()
    logits = model(images, trace)
    require_rollout(trace)
    return Maps(to_grid(propagate_fused(trace, readout_row(trace, options), options), trace), logits)


def propagate(layers: Sequence[AttentionLayer], row: Tensor) -> Tensor:
    """Compute the proportion of each input token in a weighting of the last layer's tokens: both (batch, tokens).

    Rows sum to 1. A layer mixes tokens by ½ I + ½ mean over heads of A, with ½ I for the residual connection. Of the
    product of all layers only this row is wanted, so it is multiplied from the left, last layer first: one product of a
    row vector and a matrix per layer, and none of two matrices.
    """
    row = at_least_float32(row)
    for layer in reversed(layers):
        row = (row + row_times_attention(row, layer).mean(1)) / 2
    return row


def reference_rollout(trace: Trace, row: Tensor) -> Tensor:
    """Compute the same by the definition, from the whole matrix of every layer. Takes N² memory; for tests."""
    product = None
    for record in trace.records:
        matrix = reference_attention(record).mean(1)
        mixing = (matrix + torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)) / 2
        product = mixing if product is None else mixing @ product
    assert product is not None
    return (at_least_float32(row)[:, None] @ product).squeeze(1)


def fuse_rows(attention: Tensor, options: MethodOptions) -> Tensor:
    """Combine the heads of rows of A (batch, heads, rows, tokens) and discard small weights: (batch, rows, tokens).

    Heads are combined by `head_fusion`. Then the ⌊discard_ratio · N⌋ smallest weights of each row become 0 (a weight as
    large as the smallest one that is kept is kept). Then the row is divided by its sum, so that in Abnar and Zuidema's
    ½ I + ½ A the residual connection keeps its half. A row of zeros stays 0.

    The idea of max, min and discarding is from vit-explain (Gildenblat 2020), which differs: it discards over the whole
    matrix at once, and normalizes after adding I, so that there the residual's part depends on the fusion.
    """
    fused = {"mean": attention.mean, "max": attention.amax, "min": attention.amin}[options.head_fusion](1)
    tokens = fused.shape[-1]
    count = min(tokens - 1, int(options.discard_ratio * tokens + 1e-9))  # 0.7 · 10 may be slightly below 7
    if count:
        smallest_kept = fused.kthvalue(count + 1, -1, keepdim=True).values
        fused = fused.where(fused >= smallest_kept, 0)
    return fused / fused.sum(-1, keepdim=True).clamp_min(torch.finfo(fused.dtype).tiny)


@full_precision
def propagate_fused(trace: Trace, row: Tensor, options: MethodOptions) -> Tensor:
    """Compute what `propagate` does, with rows of attention fused by `fuse_rows`.

    Raises:
        InputError: the discard ratio is not in [0, 1).
    """
    if not 0 <= options.discard_ratio < 1:
        raise InputError(f"discard_ratio is {options.discard_ratio:g}: give a fraction from 0 to below 1")
    row = at_least_float32(row)
    for record in reversed(trace.records):
        mixed = torch.zeros_like(row)
        for chosen, attention in attention_row_blocks(row, record):
            part, fused = row[:, chosen], fuse_rows(attention, options)
            mixed += (part[:, None] @ fused).squeeze(1) / 2
            mixed[:, chosen] += part * (1 - fused.sum(-1) / 2)
        row = mixed
    return row


def reference_fused_rollout(trace: Trace, row: Tensor, options: MethodOptions) -> Tensor:
    """Compute the same by the definition, from the whole, sorted matrix of every layer. For tests."""
    product = None
    for record in trace.records:
        attention = reference_attention(record)
        matrix = {"mean": attention.mean(1), "max": attention.amax(1), "min": attention.amin(1)}[options.head_fusion]
        count = min(matrix.shape[-1] - 1, int(options.discard_ratio * matrix.shape[-1] + 1e-9))
        matrix = matrix * (matrix >= matrix.sort(-1).values[..., count, None])
        matrix = matrix / matrix.sum(-1, keepdim=True)
        mixing = (matrix + torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)) / 2
        product = mixing if product is None else mixing @ product
    assert product is not None
    return (at_least_float32(row)[:, None] @ product).squeeze(1)
