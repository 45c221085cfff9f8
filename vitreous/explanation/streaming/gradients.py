"""Gradients of a score: with respect to what a forward pass left in its trace, and with respect to its images.

A gradient starts at a copy of the images, so weights may be frozen or not, and nothing is ever added to their `grad`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vitreous.errors import InputError
from vitreous.explanation.method import ExplainableModel
from vitreous.explanation.streaming.attention_products import at_least_float32
from vitreous.explanation.targets import Target
from vitreous.model.trace import Trace

GRADIENT_CHUNK_ELEMENTS = 2**20
"""Numbers of images in one pass of copies: seven images of 224 pixels, or 340 of 32."""

GRADIENT_FREE_METHODS = "occlusion or rise, and where attention is seen attention or rollout"
"""Methods that ask for no gradient, as the error names them."""


@dataclass(frozen=True)
class ScoredPass:
    """A forward pass, still on the autograd graph."""

    scores: Tensor
    """(batch): the target's."""
    logits: Tensor
    """(batch, classes), no longer on the graph."""
    trace: Trace


def forward_scored(model: ExplainableModel, images: Tensor, target: Target) -> ScoredPass:
    """The model's answer to images (batch, channels, height, width), observed, with gradients on."""
    trace = Trace()
    with torch.enable_grad():
        logits = model(images.detach().requires_grad_(), trace)
        scores = target(logits, trace)
    return ScoredPass(scores, logits.detach(), trace)


def score_gradients(scores: Tensor, tensors: Sequence[Tensor], *, keep: bool = False) -> tuple[Tensor, ...]:
    """The gradient of each image's score (batch) with respect to each tensor, in its own shape.

    Images don't see each other, so the gradient of their sum holds each one's. `keep` leaves the graph for more.

    Raises:
        InputError: the scores don't depend on one of them in a way that autograd knows.
    """
    found: tuple[Tensor | None, ...] = (None,)
    if scores.requires_grad and all(tensor.requires_grad for tensor in tensors):
        found = torch.autograd.grad(scores, tensors, torch.ones_like(scores), retain_graph=keep, allow_unused=True)
    given = tuple(gradient for gradient in found if gradient is not None)
    if len(given) < len(tensors):
        raise InputError(
            "this model gives no gradient (it runs under no_grad, or detaches what it computes): let it, or choose a "
            f"method that needs none: {GRADIENT_FREE_METHODS}"
        )
    return given


def input_gradient(model: ExplainableModel, copies: Tensor, target: Target) -> tuple[Tensor, Tensor]:
    """Logits (copies, batch, classes) and the score's gradient (as the copies) for several copies of a batch.

    Copies are (copies, batch, channels, height, width); the target is asked for each copy of the batch in turn.
    """
    with torch.enable_grad():
        start = copies.detach().flatten(0, 1).requires_grad_()
        logits = model(start).unflatten(0, copies.shape[:2])
        scores = torch.stack([target(answers) for answers in logits])
    (gradient,) = score_gradients(scores, [start])
    return logits.detach(), at_least_float32(gradient).unflatten(0, copies.shape[:2])


def weighted_gradient(
    model: ExplainableModel, target: Target, copy: Callable[[int], Tensor], weights: Tensor
) -> Tensor:
    """Σ weight · gradient over changed copies of a batch, as many in a pass as GRADIENT_CHUNK_ELEMENTS allows.

    `copy(i)` is the batch (batch, channels, height, width), changed for the i-th time; `weights` (copies).
    """
    total = torch.zeros_like(at_least_float32(copy(0)))
    for chosen in torch.arange(len(weights)).split(max(1, GRADIENT_CHUNK_ELEMENTS // total.numel())):
        copies = torch.stack([copy(i) for i in chosen.tolist()])
        _, gradient = input_gradient(model, copies, target)
        total += torch.tensordot(weights[chosen].to(gradient), gradient, 1)
    return total
