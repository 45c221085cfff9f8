"""Gradient rollout (Chefer et al. 2021, "Generic Attention-model Explainability").

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
from vitreous.explanation.streaming.gradients import forward_scored, output_gradients
from vitreous.explanation.streaming.tokens import readout_row, require_rollout, to_grid
from vitreous.model.trace import AttentionRecord
from vitreous.tasks.targets import Target


def gradient_rollout(model: ExplainableModel, images: Tensor, target: Target, options: MethodOptions) -> Maps:
    """Compute how much of each patch reaches the readout through attention that raises the score, over all layers.

    Args:
        model: any observable model that gives gradients.
        images: (batch, channels, height, width), normalized.
        target: the score whose gradients are taken.
        options: none are used.

    Raises:
        InputError: the model gives no gradient, or mixes tokens between its layers by something else than attention.
    """
    forward = forward_scored(model, images, target)
    require_rollout(forward.trace)
    gradients = output_gradients(forward.scores, forward.trace.records)
    relevance = propagate_relevance(forward.trace.records, gradients, readout_row(forward.trace, options, target))
    return Maps(to_grid(relevance, forward.trace), forward.logits)


def propagate_relevance(records: Sequence[AttentionRecord], gradients: Sequence[Tensor], row: Tensor) -> Tensor:
    """Compute what the layers add to a weighting `row` of the last layer's tokens: both (batch, tokens).

    `gradients` are those of the layers' outputs. Only one row of the product of all I + E_h((∇A ∘ A)⁺) is wanted, so it
    is multiplied from the left, last layer first: r ← r + r E_h((∇A ∘ A)⁺). The row itself, which the identity carries
    through, is left out: at a class token it covers no patch, and with mean pooling it would be a constant that hides
    the rest.
    """
    relevance = torch.zeros_like(at_least_float32(row))
    for record, gradient in zip(reversed(records), reversed(gradients), strict=True):
        relevance = relevance + row_times_positive(row + relevance, record, gradient).mean(1)
    return relevance


def reference_gradient_rollout(records: Sequence[AttentionRecord], gradients: Sequence[Tensor], row: Tensor) -> Tensor:
    """Compute the same by the definition, from the whole matrix of every layer. Takes N² memory; for tests."""
    relevance = torch.zeros(row.shape[1], row.shape[1], device=row.device)  # R − I
    for record, output_gradient in zip(records, gradients, strict=True):
        weights, gradient = reference_attention_gradient(record, output_gradient)
        positive = (weights * gradient).clamp(min=0).mean(1)
        relevance = relevance + positive + positive @ relevance.to(positive.dtype)
    return (row.to(relevance.dtype)[:, None] @ relevance).squeeze(1)
