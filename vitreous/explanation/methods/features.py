"""What the tokens of patches hold: their main differences as colors, their likeness to one patch, their lengths."""

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
from vitreous.explanation.targets import Target
from vitreous.model.trace import Trace
from vitreous.model.vit import ViT

Choice = Callable[[Tensor], Sequence[PatchColors]]
"""From patches (images, rows, columns, width) to the colors of each image's."""
MIN_VARIANCE_KEPT = 1 / 3
"""Of the variance that components showed of the images they are from: what they show of later ones to be kept."""


def features(model: ExplainableModel, images: Tensor, target: Target, settings: MethodOptions) -> Maps:
    """Of one block's tokens: principal components as colors, the cosine with the patch at `query`, or norms.

    Components and cosines are those of tokens after the model's last normalization, whatever the block: it takes the
    few numbers that are large in every token back to the size of the others. Norms are those before it, as a share of
    the image's median, less 1: 0 for a usual token, 2 for one three times as long.

    Raises:
        InputError: no such layer or patch, no patch to compare with, or the model's tokens can't be seen.
    """
    return _shown(model, images, settings, pca_per_image)


def pca_per_image(patches: Tensor) -> list[PatchColors]:
    """The colors of each image from its own patches alone."""
    return [PatchColors.fitted(image[None]) for image in patches]


class SharedPCA:
    """The method `features`, called as it is, with one set of colors: a part keeps its hue from image to image.

    The components and their ranges are those of the first images that it is given together, until `restart`, or until
    they show less than a third as much of what is there, as those of a black beginning do.
    """

    def __init__(self) -> None:
        self._kept: PatchColors | None = None
        self._shown = 0.0

    def restart(self) -> None:
        """Take the colors from the next images, at a scene cut."""
        self._kept = None

    def __call__(self, model: ExplainableModel, images: Tensor, target: Target, settings: MethodOptions) -> Maps:
        """As `features`."""
        return _shown(model, images, settings, self._choose)

    def _choose(self, patches: Tensor) -> list[PatchColors]:
        if self._kept is None or self._kept.explained_variance_ratio(patches) < MIN_VARIANCE_KEPT * self._shown:
            self._kept = PatchColors.fitted(patches)
            self._shown = self._kept.explained_variance_ratio(patches)
        return [self._kept] * len(patches)


def _shown(model: ExplainableModel, images: Tensor, settings: MethodOptions, choose: Choice) -> Maps:
    _check(settings)
    trace = Trace()
    logits = model(images, trace)
    if not trace.tokens or trace.layout is None:
        raise InputError(
            "method 'features' needs the tokens between the blocks, which can't be seen in this model: "
            "choose attention, occlusion or rise"
        )
    layer = resolve_index("layer", -1 if settings.layer is None else settings.layer, len(trace.tokens) - 1)
    tokens = at_least_float32(trace.tokens[layer + 1].detach())
    if settings.view == "norms":
        norms = to_grid(tokens.norm(dim=-1), trace)
        usual = norms.flatten(1).median(1).values[:, None, None]
        return Maps(norms / usual.clamp_min(torch.finfo(norms.dtype).tiny) - 1, logits, layer)
    level = apply_final_norm(model, tokens)
    if settings.query is not None:
        asked = [patch_token_index(place, trace.layout) for place in patches_in_query(settings.query)]
        one = level[:, asked].mean(1, keepdim=True)
        return Maps(to_grid(functional.cosine_similarity(level, one, -1), trace), logits, layer)
    patches = level[:, trace.layout.num_prefix_tokens :].unflatten(
        1, (trace.layout.grid_height, trace.layout.grid_width)
    )
    chosen = choose(patches)
    scores = [one.scores(image) for one, image in zip(chosen, patches, strict=True)]
    colors = torch.stack([one.colors(score) for one, score in zip(chosen, scores, strict=True)])
    return Maps(torch.stack(scores)[..., 0].to(tokens.dtype), logits, layer, colors=colors.to(tokens.dtype))


def _check(settings: MethodOptions) -> None:
    """Only the view "similarity" takes a query, and it needs one."""
    if settings.view == "similarity" and settings.query is None:
        raise InputError("the view 'similarity' shows the likeness to a patch: give the patch as query")
    if settings.view != "similarity" and settings.query is not None:
        raise InputError(
            f"the view '{settings.view}' has no use for a query: leave it out, or choose the view 'similarity'"
        )


def apply_final_norm(model: ExplainableModel, tokens: Tensor) -> Tensor:
    """Tokens (batch, tokens, width) after the model's last normalization, or a plain one where there is none."""
    if isinstance(model, ViT):
        return at_least_float32(model.norm(tokens.to(next(model.parameters()).dtype)))
    return functional.layer_norm(tokens, tokens.shape[-1:])
