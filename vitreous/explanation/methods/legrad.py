"""LeGrad (Bousselham et al. 2024): the patches to which more attention would raise the score, in every layer."""

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor

from vitreous.errors import InputError
from vitreous.explanation.method import ExplainableModel, Maps
from vitreous.explanation.options import MethodOptions
from vitreous.explanation.streaming.attention_products import mean_positive
from vitreous.explanation.streaming.gradients import ScoredPass, forward_scored, score_gradients
from vitreous.explanation.streaming.tokens import to_grid
from vitreous.tasks.targets import Target


def legrad(model: ExplainableModel, images: Tensor, target: Target, options: MethodOptions) -> Maps:
    """Compute the mean over layers, heads and queries of (∂s_l / ∂A_l)⁺; s_l is the score of layer l's own tokens.

    As in the authors' code, s_l is what the model's norm and head read from the mean of all tokens of that layer, so
    that every query counts, whatever pooling the model has. Unlike there, the map keeps its scale, so that the maps of
    two images can be compared, and all layers are used. As s_l depends on A_l through the layer's output alone,
    ∂s_l / ∂A_l is g_i · v_j.

    Args:
        model: a model with `logit_lens`.
        images: (batch, channels, height, width), normalized.
        target: the score that is explained.
        options: none are used.

    Raises:
        InputError: the model can't classify the tokens of a layer, or gives no gradient.
    """
    forward = forward_scored(model, images, target)
    head = probe_head(model)  # checked second: where no attention is observed, the error names methods that work
    detached, total = target.detached(forward.logits, forward.trace), None
    for layer, record in enumerate(forward.trace.records):
        gradient = _output_gradient(forward, head, detached, layer)
        positive = mean_positive(record, gradient)
        total = positive if total is None else total + positive
    assert total is not None
    return Maps(to_grid(total.mean(1) / len(forward.trace.records), forward.trace), forward.logits)


def probe_head(model: ExplainableModel) -> Callable[[Tensor], Tensor]:
    """Return the function that maps the tokens (batch, tokens, width) of any block to logits (batch, classes).

    Raises:
        InputError: the model has none.
    """
    head = getattr(model, "logit_lens", None)
    if head is None:
        raise InputError(
            "legrad needs a model that can classify the tokens of each layer (`model.logit_lens`), and this one can't: "
            "try gradient-rollout, attention-gradient or integrated-gradients"
        )
    return cast(Callable[[Tensor], Tensor], head)


def _output_gradient(forward: ScoredPass, head: Callable[[Tensor], Tensor], detached: Target, layer: int) -> Tensor:
    """Return the gradient of a layer's own score with respect to the output of its attention."""
    with torch.enable_grad():
        tokens = forward.trace.tokens[layer + 1]
        scores = detached(head(tokens.mean(1, keepdim=True).expand_as(tokens)))
    return score_gradients(scores, [forward.trace.records[layer].output], keep_graph=True)[0]
