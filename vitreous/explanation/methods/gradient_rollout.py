"""Gradient rollout (Chefer et al. 2021, "Generic Attention-model Explainability"): what speaks for the target.

Each layer adds E_h((∇A ∘ A)⁺) R to the relevance R of the tokens for each other (equations 5 and 6).
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from vitreous.explanation.method import ExplainableModel, Maps
from vitreous.explanation.options import MethodOptions
from vitreous.explanation.streaming.attention_products import (
    at_least_float32,
    reference_attention_gradient,
    row_times_positive,
)
from vitreous.explanation.streaming.gradients import forward_scored, score_gradients
from vitreous.explanation.streaming.tokens import readout_row, to_grid
from vitreous.explanation.targets import Target
from vitreous.model.trace import AttentionRecord


def gradient_rollout(model: ExplainableModel, images: Tensor, target: Target, settings: MethodOptions) -> Maps:
    """How much of each patch reaches the readout through attention that raises the score, over all layers."""
    run = forward_scored(model, images, target)
    slopes = score_gradients(run.scores, [record.output for record in run.trace.records])
    brought = propagate_relevance(run.trace.records, slopes, readout_row(run.trace, settings, target))
    return Maps(to_grid(brought, run.trace), run.logits)


def propagate_relevance(records: Sequence[AttentionRecord], slopes: Sequence[Tensor], row: Tensor) -> Tensor:
    """What the layers bring to a weighting of the last one's tokens: both (batch, tokens).

    `slopes` are the gradients of the layers' outputs. Only one row of the product of all I + E_h((∇A ∘ A)⁺) is wanted,
    so it is multiplied from the left, last layer first: r ← r + r E_h((∇A ∘ A)⁺). The row itself, which the identity
    carries through, is left out: at a class token it lies on no patch, and with mean pooling it would be a constant
    that drowns the rest.
    """
    brought = torch.zeros_like(at_least_float32(row))
    for record, slope in zip(reversed(records), reversed(slopes), strict=True):
        brought = brought + row_times_positive(row + brought, record, slope).mean(1)
    return brought


def reference_gradient_rollout(records: Sequence[AttentionRecord], slopes: Sequence[Tensor], row: Tensor) -> Tensor:
    """The same by the definition: the whole matrix of every layer, and their product. N² memory; for tests."""
    brought = torch.zeros(row.shape[1], row.shape[1], device=row.device)  # R − I
    for record, slope in zip(records, slopes, strict=True):
        weights, gradient = reference_attention_gradient(record, slope)
        positive = (weights * gradient).clamp(min=0).mean(1)
        brought = brought + positive + positive @ brought.to(positive.dtype)
    return (row.to(brought.dtype)[:, None] @ brought).squeeze(1)
