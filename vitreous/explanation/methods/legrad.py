"""LeGrad (Bousselham et al. 2024): in every layer, the patches to which more attention would raise the score."""

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
from vitreous.explanation.targets import Target


def legrad(model: ExplainableModel, images: Tensor, target: Target, settings: MethodOptions) -> Maps:
    """The mean over layers, heads and queries of (∂s_l / ∂A_l)⁺, s_l the score that is read from layer l's own tokens.

    As in the authors' code, s_l is what the model's norm and head read from the mean of all of that layer's tokens, so
    that every query counts, whatever the model's own pooling. Unlike there, the map keeps its scale, so that two
    images' maps can be compared, and all layers are taken. As s_l sees A_l through the layer's output alone,
    ∂s_l / ∂A_l is g_i · v_j.

    Raises:
        InputError: the model can't read a layer's tokens, or gives no gradient.
    """
    run = forward_scored(model, images, target)
    read = probe_head(model)  # asked second: where no attention is seen, other methods can help
    fixed, total = target.detached(run.logits, run.trace), None
    for layer, record in enumerate(run.trace.records):
        slope = _slope(run, read, fixed, layer)
        heads = mean_positive(record, slope)
        total = heads if total is None else total + heads
    assert total is not None
    return Maps(to_grid(total.mean(1) / len(run.trace.records), run.trace), run.logits)


def probe_head(model: ExplainableModel) -> Callable[[Tensor], Tensor]:
    """The part of the model that reads logits (batch, classes) from any block's tokens (batch, tokens, width).

    Raises:
        InputError: the model has none.
    """
    read = getattr(model, "read", None)
    if read is None:
        raise InputError(
            "legrad needs a model that can read each layer's tokens (`model.read`), and this one can't: "
            "try gradient-rollout, attention-gradient or integrated-gradients"
        )
    return cast(Callable[[Tensor], Tensor], read)


def _slope(run: ScoredPass, read: Callable[[Tensor], Tensor], fixed: Target, layer: int) -> Tensor:
    """The gradient of a layer's own score with respect to its attention's output, as that output."""
    with torch.enable_grad():
        tokens = run.trace.tokens[layer + 1]
        scores = fixed(read(tokens.mean(1, keepdim=True).expand_as(tokens)))
    return score_gradients(scores, [run.trace.records[layer].output], keep=True)[0]
