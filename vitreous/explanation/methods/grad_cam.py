"""Grad-CAM (Selvaraju et al. 2017) and HiResCAM (Draelos and Carin 2020) on the tokens of one layer."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from vitreous.errors import InputError
from vitreous.explanation.method import ExplainableModel, Maps
from vitreous.explanation.options import MethodOptions, resolve_index
from vitreous.explanation.streaming.attention_products import at_least_float32
from vitreous.explanation.streaming.gradients import ScoredPass, forward_scored, score_gradients
from vitreous.tasks.targets import Target


@dataclass(frozen=True)
class LayerActivations:
    """Patch tokens of one layer and the score's gradient there, both (batch, patches, width)."""

    tokens: Tensor
    gradient: Tensor
    layer: int
    forward: ScoredPass

    def to_maps(self, weigh: Callable[["LayerActivations"], Tensor]) -> Maps:
        """Return the positive part of one value per patch, which `weigh` computes: (batch, patches)."""
        layout = self.forward.trace.layout
        assert layout is not None
        positive = weigh(self).clamp(min=0).unflatten(1, (layout.grid_height, layout.grid_width))
        return Maps(positive, self.forward.logits, self.layer)


def layer_activations(
    model: ExplainableModel, images: Tensor, target: Target, options: MethodOptions, *, behind_norm: bool = False
) -> LayerActivations:
    """Compute the tokens that enter the layer named in the options (the last by default), and their gradients.

    Where the head pools patches, these are the tokens of the residual stream. Where it reads a class token alone, and
    with `behind_norm`, they are the normalized tokens that attention reads: before a norm the length of a token doesn't
    change the score, so that a token and its own gradient are orthogonal.

    Raises:
        InputError: there is no such layer, or the model's tokens between its blocks can't be observed.
    """
    forward = forward_scored(model, images, target)
    trace, wanted = forward.trace, -1 if options.layer is None else options.layer
    assert trace.layout is not None and trace.readout is not None
    if not trace.tokens:
        raise InputError("this method needs the tokens between blocks, which can't be observed: try gradient-rollout")
    layer, patches = resolve_index("layer", wanted, len(trace.records)), slice(trace.layout.num_prefix_tokens, None)
    pools_patches = bool(trace.readout[:, patches].any())
    tokens = trace.tokens[layer] if pools_patches and not behind_norm else trace.records[layer].inputs
    assert tokens is not None
    (gradient,) = score_gradients(forward.scores, [tokens])
    return LayerActivations(
        at_least_float32(tokens.detach())[:, patches], at_least_float32(gradient)[:, patches], layer, forward
    )


def grad_cam(model: ExplainableModel, images: Tensor, target: Target, options: MethodOptions) -> Maps:
    """Compute (Σ_c w_c t_c)⁺ for each patch token t into one layer; w is the mean of its gradient over the patches.

    These are equations 1 and 2 of Selvaraju et al. 2017, with the tokens of a layer (the last by default) in place of
    the activations of a convolution. One weight per channel says little where patches matter in different ways, as
    they do to a class token: `hires_cam` weighs each patch by its own gradient.

    Args:
        model: an observable model whose tokens between the blocks are recorded.
        images: (batch, channels, height, width), normalized.
        target: the score that is explained.
        options: layer.

    Raises:
        InputError: there is no such layer, or the model's tokens between its blocks can't be observed.
    """

    def weigh(found: LayerActivations) -> Tensor:
        return (found.tokens * found.gradient.mean(1, keepdim=True)).sum(-1)

    return layer_activations(model, images, target, options).to_maps(weigh)


def hires_cam(model: ExplainableModel, images: Tensor, target: Target, options: MethodOptions) -> Maps:
    """Compute (Σ_c g_c t_c)⁺ for each patch token t into one layer; g is the score's gradient there.

    This is Grad-CAM without the mean over positions (Draelos and Carin 2020, equation 3). Arguments and errors are
    those of `grad_cam`.
    """

    def weigh(found: LayerActivations) -> Tensor:
        return (found.tokens * found.gradient).sum(-1)

    return layer_activations(model, images, target, options, behind_norm=True).to_maps(weigh)
