"""Gradients of a target's score with respect to tensors of a trace and to the input images.

A gradient starts at a copy of the images, so weights may be frozen or not, and nothing is ever added to their `grad`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vitreous.errors import InputError
from vitreous.explanation.method import ExplainableModel
from vitreous.explanation.streaming.attention_products import at_least_float32
from vitreous.model.trace import AttentionRecord, Trace
from vitreous.tasks.targets import Target

GRADIENT_CHUNK_ELEMENTS = 2**20
"""Elements of images in one pass over copies: seven images of 224 pixels, or 340 of 32."""

GRADIENT_FREE_METHODS = "occlusion or rise, or attention or rollout where attention can be observed"
"""Methods that need no gradient, as the error names them."""


@dataclass(frozen=True)
class ScoredPass:
    """A forward pass that is still on the autograd graph."""

    scores: Tensor
    """(batch): the target's scores."""
    logits: Tensor
    """(batch, classes), detached from the graph."""
    trace: Trace


def forward_scored(model: ExplainableModel, images: Tensor, target: Target) -> ScoredPass:
    """Run the model on images (batch, channels, height, width) with a trace and with gradients on."""
    trace = Trace()
    with torch.enable_grad():
        logits = model(images.detach().requires_grad_(), trace)
        scores = target(logits, trace)
    return ScoredPass(scores, logits.detach(), trace)


def score_gradients(scores: Tensor, tensors: Sequence[Tensor], *, keep_graph: bool = False) -> tuple[Tensor, ...]:
    """Return the gradient of each image's score (batch) with respect to each tensor, in the tensor's shape.

    Images don't depend on each other, so the gradient of the sum of the scores holds that of each image.

    Raises:
        InputError: the scores don't depend on one of the tensors as far as autograd can tell.
    """
    found: tuple[Tensor | None, ...] = (None,)
    if scores.requires_grad and all(tensor.requires_grad for tensor in tensors):
        found = torch.autograd.grad(
            scores, tensors, torch.ones_like(scores), retain_graph=keep_graph, allow_unused=True
        )
    given = tuple(gradient for gradient in found if gradient is not None)
    if len(given) < len(tensors):
        raise InputError(
            "this model gives no gradient (it runs under no_grad, or detaches its activations): remove that, or choose "
            f"a method that needs no gradient: {GRADIENT_FREE_METHODS}"
        )
    return given


def output_gradients(scores: Tensor, records: Sequence[AttentionRecord]) -> list[Tensor]:
    """Return the gradient of each image's score (batch) with respect to the output of each record, in its shape.

    Raises:
        InputError: the scores don't depend on one of the outputs as far as autograd can tell.
    """
    parts = [record.output_parts or (record.output,) for record in records]
    gradients = iter(score_gradients(scores, [one for several in parts for one in several]))
    found = [[next(gradients) for _ in several] for several in parts]
    return [several[0] if len(several) == 1 else torch.cat(several, 1) for several in found]


def input_gradient(model: ExplainableModel, copies: Tensor, target: Target) -> tuple[Tensor, Tensor]:
    """Return logits (copies, batch, classes) and the score's gradient (in the copies' shape) for copies of a batch.

    Copies are (copies, batch, channels, height, width); the target reads one copy of the batch after the other.
    """
    with torch.enable_grad():
        start = copies.detach().flatten(0, 1).requires_grad_()
        logits = model(start).unflatten(0, copies.shape[:2])
        scores = torch.stack([target(one) for one in logits])
    (gradient,) = score_gradients(scores, [start])
    return logits.detach(), at_least_float32(gradient).unflatten(0, copies.shape[:2])


def weighted_gradient(
    model: ExplainableModel, target: Target, copy: Callable[[int], Tensor], weights: Tensor
) -> Tensor:
    """Compute Σ weight · gradient over changed copies of a batch, at most GRADIENT_CHUNK_ELEMENTS in a pass.

    `copy(i)` is the batch (batch, channels, height, width), changed for the i-th time; `weights` is (copies).
    """
    total = torch.zeros_like(at_least_float32(copy(0)))
    for chosen in torch.arange(len(weights)).split(max(1, GRADIENT_CHUNK_ELEMENTS // total.numel())):
        copies = torch.stack([copy(i) for i in chosen.tolist()])
        _, gradient = input_gradient(model, copies, target)
        total += torch.tensordot(weights[chosen].to(gradient), gradient, 1)
    return total
