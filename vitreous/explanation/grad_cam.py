"""Grad-CAM (Selvaraju et al. 2017) on tokens: patches that hold what the score rises with."""

from torch import Tensor

from vitreous.errors import InputError
from vitreous.explanation.gradients import gradients, scored
from vitreous.explanation.method import Maps, Model
from vitreous.explanation.rows import exact
from vitreous.explanation.settings import Settings, index
from vitreous.explanation.targets import Target
from vitreous.explanation.tokens import on_grid


def grad_cam(model: Model, pictures: Tensor, target: Target, settings: Settings) -> Maps:
    """(Σ_c w_c t_c)⁺ of each patch's token t into one block, w the mean over patches of its gradient.

    Equations 1 and 2 of the paper, with the tokens into a block (the last by default) in place of a convolution's
    activations; out of the last block they would not do, as a class token's score depends on no patch there.

    Raises:
        InputError: there is no such layer, or the model's tokens between its blocks are not seen.
    """
    run = scored(model, pictures, target)
    into_blocks = run.trace.tokens[:-1]
    if not into_blocks:
        raise InputError("grad-cam needs the tokens between a model's blocks, which are not seen: try gradient-rollout")
    layer = index("layer", -1 if settings.layer is None else settings.layer, len(into_blocks))
    (gradient,) = gradients(run.scores, [into_blocks[layer]])
    assert run.trace.layout is not None
    weights = exact(gradient)[:, run.trace.layout.prefix :].mean(1, keepdim=True)
    evidence = (exact(into_blocks[layer].detach()) * weights).sum(-1).clamp(min=0)
    return Maps(on_grid(evidence, run.trace), run.logits, layer)
