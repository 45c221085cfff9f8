"""The tokens of one layer and a score's gradient there: what class activation maps are made of."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from vitreous.errors import InputError
from vitreous.explanation.method import ExplainableModel, Maps
from vitreous.explanation.options import MethodOptions, resolve_index
from vitreous.explanation.streaming.attention_products import at_least_float32
from vitreous.explanation.streaming.gradients import ScoredPass, forward_scored, score_gradients
from vitreous.explanation.targets import Target


@dataclass(frozen=True)
class Activations:
    """The patches' tokens and their gradient, both (batch, patches, width), of one pass."""

    tokens: Tensor
    gradient: Tensor
    layer: int
    run: ScoredPass

    def maps(self, weighed: Callable[["Activations"], Tensor]) -> Maps:
        """The positive part of a number a patch (batch, patches)."""
        layout = self.run.trace.layout
        assert layout is not None
        evidence = weighed(self).clamp(min=0).unflatten(1, (layout.grid_height, layout.grid_width))
        return Maps(evidence, self.run.logits, self.layer)


def activations(
    model: ExplainableModel, images: Tensor, target: Target, settings: MethodOptions, *, behind_norm: bool = False
) -> Activations:
    """The tokens that enter the layer that the settings name, the last by default.

    Where the head reads patches, these are the residual stream's. Where it reads a class token alone, and where
    `behind_norm` asks for it, they are what attention sees, behind the norm: before a norm lengths don't matter to the
    score, so that a token and its own gradient are at right angles there.

    Raises:
        InputError: there is no such layer, or the model's tokens between its blocks are not seen.
    """
    run = forward_scored(model, images, target)
    trace, wanted = run.trace, -1 if settings.layer is None else settings.layer
    assert trace.layout is not None and trace.readout is not None
    if not trace.tokens:
        raise InputError("it needs the tokens between a model's blocks, which are not seen: try gradient-rollout")
    layer, patches = resolve_index("layer", wanted, len(trace.records)), slice(trace.layout.num_prefix_tokens, None)
    reads_patches = bool(trace.readout[:, patches].any())
    tokens = trace.tokens[layer] if reads_patches and not behind_norm else trace.records[layer].inputs
    assert tokens is not None
    (gradient,) = score_gradients(run.scores, [tokens])
    return Activations(at_least_float32(tokens.detach())[:, patches], at_least_float32(gradient)[:, patches], layer, run)


def grad_cam(model: ExplainableModel, images: Tensor, target: Target, settings: MethodOptions) -> Maps:
    """(Σ_c w_c t_c)⁺ of each patch's token t into one layer, w the mean over patches of its gradient.

    Equations 1 and 2 of the paper, with a layer's tokens (the last layer by default) in place of a convolution's
    activations. One weight a channel says little where patches matter in different ways, as they do to
    a class token: `hires-cam` weighs each patch by its own gradient.

    Raises:
        InputError: there is no such layer, or the model's tokens between its blocks are not seen.
    """

    def weighed(found: Activations) -> Tensor:
        return (found.tokens * found.gradient.mean(1, keepdim=True)).sum(-1)

    return activations(model, images, target, settings).maps(weighed)


def hires_cam(model: ExplainableModel, images: Tensor, target: Target, settings: MethodOptions) -> Maps:
    """(Σ_c g_c t_c)⁺ of each patch's token t into one layer, g the score's gradient there.

    Grad-CAM without the mean over places, with a layer's tokens (the last layer by default) in place of a convolution's
    activations.

    Raises:
        InputError: there is no such layer, or the model's tokens between its blocks are not seen.
    """

    def weighed(found: Activations) -> Tensor:
        return (found.tokens * found.gradient).sum(-1)

    return activations(model, images, target, settings, behind_norm=True).maps(weighed)
