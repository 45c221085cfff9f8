"""Patch features: their principal components as colors, their similarity to one patch, or their norms."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from vitreous.errors import InputError
from vitreous.explanation.method import ExplainableModel, Maps
from vitreous.explanation.methods.patch_colors import PatchColors
from vitreous.explanation.options import MethodOptions, patches_in_query, resolve_index
from vitreous.explanation.streaming.attention_products import at_least_float32
from vitreous.explanation.streaming.tokens import patch_token_index, to_grid
from vitreous.model.trace import Trace
from vitreous.model.vit import ViT
from vitreous.tasks.targets import Target

FitColors = Callable[[Tensor], Sequence[PatchColors]]
"""Maps patch tokens (images, rows, columns, width) to the colors of each image."""
MIN_VARIANCE_KEPT = 1 / 3
"""`SharedPCA` fits new components when the explained variance falls below this fraction of what it was."""


def features(model: ExplainableModel, images: Tensor, target: Target, options: MethodOptions) -> Maps:
    """Show the tokens of one block: principal components as colors, cosine similarity to the query, or norms.

    Components and cosines are those of tokens after the model's last normalization, whatever the block: it brings the
    few channels that are large in every token to the size of the others. Norms are those before it, divided by the
    image's median and less 1: 0 for a usual token, 2 for one that is three times as long. Components as colors follow
    Oquab et al. 2023 (DINOv2, figure 1).

    Args:
        model: an observable model whose tokens between the blocks are recorded.
        images: (batch, channels, height, width), normalized.
        target: not used.
        options: layer, view, and query for the view "similarity".

    Raises:
        InputError: there is no such layer or patch, the query is missing, or the tokens can't be observed.
    """
    return _feature_maps(model, images, options, pca_per_image)


def pca_per_image(patches: Tensor) -> list[PatchColors]:
    """Fit the colors of each image (rows, columns, width) to its own patches alone."""
    return [PatchColors.fit(image[None]) for image in patches]


class SharedPCA:
    """The method `features` with one set of components for many images: a part keeps its color from frame to frame.

    The components are fitted to the first images of the first call, until `reset`, or until they explain less than a
    third of the variance that they explained there (after a black beginning, for example).
    """

    def __init__(self) -> None:
        self._colors: PatchColors | None = None
        self._explained = 0.0

    def reset(self) -> None:
        """Fit new components to the next images, as after a scene cut."""
        self._colors = None

    def __call__(self, model: ExplainableModel, images: Tensor, target: Target, options: MethodOptions) -> Maps:
        """Compute the maps as `features` does."""
        return _feature_maps(model, images, options, self._fit)

    def _fit(self, patches: Tensor) -> list[PatchColors]:
        if self._colors is None or self._colors.explained_variance_ratio(patches) < MIN_VARIANCE_KEPT * self._explained:
            self._colors = PatchColors.fit(patches)
            self._explained = self._colors.explained_variance_ratio(patches)
        return [self._colors] * len(patches)


class JointPCA:
    """The method `features` with components that are fitted to each image together with another image.

    Args:
        other: that image, normalized, (1, channels, height, width); its size may differ.
    """

    def __init__(self, other: Tensor) -> None:
        self._other = other

    def __call__(self, model: ExplainableModel, images: Tensor, target: Target, options: MethodOptions) -> Maps:
        """Compute the maps as `features` does."""
        (other,) = patch_features(model, self._other, options.layer)
        return _feature_maps(model, images, options, lambda patches: [PatchColors.fit([one, other]) for one in patches])


def patch_features(model: ExplainableModel, images: Tensor, layer: int | None = None) -> Tensor:
    """Compute the patch tokens of a block (the last by default) that the method `features` compares.

    Returns (batch, rows, columns, width), after the model's last normalization.

    Raises:
        InputError: there is no such layer, or the tokens can't be observed.
    """
    trace, tokens, _, _ = _layer_tokens(model, images, layer)
    return _patches(apply_final_norm(model, tokens), trace)


def _layer_tokens(model: ExplainableModel, images: Tensor, layer: int | None) -> tuple[Trace, Tensor, Tensor, int]:
    """Run the model: the trace, the tokens (batch, tokens, width) of a block, the logits, and the block's index."""
    trace = Trace()
    logits = model(images, trace)
    if not trace.tokens or trace.layout is None:
        raise InputError(
            "method 'features' needs the tokens between the blocks, which can't be observed in this model: "
            "choose attention, occlusion or rise"
        )
    index = resolve_index("layer", -1 if layer is None else layer, len(trace.tokens) - 1)
    return trace, at_least_float32(trace.tokens[index + 1].detach()), logits, index


def _patches(tokens: Tensor, trace: Trace) -> Tensor:
    """Return the tokens of the patches (batch, rows, columns, width)."""
    assert trace.layout is not None
    return tokens[:, trace.layout.num_prefix_tokens :].unflatten(1, (trace.layout.grid_height, trace.layout.grid_width))


def _feature_maps(model: ExplainableModel, images: Tensor, options: MethodOptions, fit: FitColors) -> Maps:
    _check_query(options)
    trace, tokens, logits, layer = _layer_tokens(model, images, options.layer)
    if options.view == "norms":
        norms = to_grid(tokens.norm(dim=-1), trace)
        median = norms.flatten(1).median(1).values[:, None, None]
        return Maps(norms / median.clamp_min(torch.finfo(norms.dtype).tiny) - 1, logits, layer)
    normalized = apply_final_norm(model, tokens)
    if options.query is not None:
        assert trace.layout is not None
        indices = [patch_token_index(patch, trace.layout) for patch in patches_in_query(options.query)]
        query = normalized[:, indices].mean(1, keepdim=True)
        return Maps(to_grid(functional.cosine_similarity(normalized, query, -1), trace), logits, layer)
    patches = _patches(normalized, trace)
    fitted = fit(patches)
    components = [one.project(image) for one, image in zip(fitted, patches, strict=True)]
    colors = torch.stack([one.to_rgb(each) for one, each in zip(fitted, components, strict=True)])
    return Maps(torch.stack(components)[..., 0].to(tokens.dtype), logits, layer, colors=colors.to(tokens.dtype))


def _check_query(options: MethodOptions) -> None:
    """Check that a query is given for the view "similarity", and for no other view."""
    if options.view == "similarity" and options.query is None:
        raise InputError("the view 'similarity' compares all patches with one: give that patch as query")
    if options.view != "similarity" and options.query is not None:
        raise InputError(
            f"the view '{options.view}' doesn't use a query: leave it out, or choose the view 'similarity'"
        )


def apply_final_norm(model: ExplainableModel, tokens: Tensor) -> Tensor:
    """Apply the model's last normalization to tokens (batch, tokens, width), or a LayerNorm without weights.

    With `fc_norm` the model normalizes only the pooled vector; its layer is applied to each token here.
    """
    if isinstance(model, ViT):
        norm = model.fc_norm if model.config.fc_norm else model.norm
        return at_least_float32(norm(tokens.to(next(model.parameters()).dtype)))
    return functional.layer_norm(tokens, tokens.shape[-1:])
