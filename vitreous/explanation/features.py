"""What the tokens of patches hold: their main differences as colours, their likeness to one patch, their lengths."""

import torch
from torch import Tensor
from torch.nn import functional

from vitreous.errors import InputError
from vitreous.explanation.method import Maps, Model
from vitreous.explanation.rows import exact
from vitreous.explanation.settings import Settings, index
from vitreous.explanation.targets import Target
from vitreous.explanation.tokens import on_grid, patch_token
from vitreous.model.trace import Trace
from vitreous.model.vit import ViT

TAILS = 0.01
"""Share of the patches at each end whose colour is saturated, so that a few outliers don't take the whole scale."""


def features(model: Model, pictures: Tensor, target: Target, settings: Settings) -> Maps:
    """Of one block's tokens: principal components as colours, the cosine with the patch at `query`, or norms.

    Components and cosines are those of tokens after the model's last normalisation, whatever the block: it takes the
    few numbers that are large in every token back to the size of the others. Norms are those before it, as a share of
    the picture's median, less 1: 0 for a usual token, 2 for one three times as long.

    Raises:
        InputError: no such layer or patch, no patch to compare with, or the model's tokens can't be seen.
    """
    _check(settings)
    trace = Trace()
    logits = model(pictures, trace)
    if not trace.tokens or trace.layout is None:
        raise InputError(
            "method 'features' needs the tokens between the blocks, which can't be seen in this model: "
            "choose attention, occlusion or rise"
        )
    layer = index("layer", -1 if settings.layer is None else settings.layer, len(trace.tokens) - 1)
    tokens = exact(trace.tokens[layer + 1].detach())
    if settings.view == "norms":
        norms = on_grid(tokens.norm(dim=-1), trace)
        usual = norms.flatten(1).median(1).values[:, None, None]
        return Maps(norms / usual.clamp_min(torch.finfo(norms.dtype).tiny) - 1, logits, layer)
    level = normalised(model, tokens)
    if settings.query is not None:
        one = level[:, patch_token(settings.query, trace.layout), None]
        return Maps(on_grid(functional.cosine_similarity(level, one, -1), trace), logits, layer)
    grid_hw = trace.layout.grid_height, trace.layout.grid_width
    scores = torch.stack([components(picture[trace.layout.prefix :], grid_hw) for picture in level])
    scores = scores.unflatten(1, grid_hw)
    return Maps(scores[..., 0].to(tokens.dtype), logits, layer, colors=as_colors(scores).to(tokens.dtype))


def _check(settings: Settings) -> None:
    """Only the view "similarity" takes a query, and it needs one."""
    if settings.view == "similarity" and settings.query is None:
        raise InputError("the view 'similarity' shows the likeness to a patch: give the patch as query")
    if settings.view != "similarity" and settings.query is not None:
        raise InputError(
            f"the view '{settings.view}' has no use for a query: leave it out, or choose the view 'similarity'"
        )


def normalised(model: Model, tokens: Tensor) -> Tensor:
    """Tokens (batch, tokens, width) after the model's last normalisation, or a plain one where there is none."""
    if isinstance(model, ViT):
        return exact(model.norm(tokens))
    return functional.layer_norm(tokens, tokens.shape[-1:])


def components(patches: Tensor, grid_hw: tuple[int, int]) -> Tensor:
    """The first three principal components of a picture's patches (patches, width): float64 (patches, 3).

    A component's sign means nothing by itself. Here the first is turned so that the patches along the picture's border,
    which are mostly background, are below the mean; the others so that their largest loading is positive.
    """
    centred = patches.double() - patches.double().mean(0)
    strengths, vectors = torch.linalg.eigh(centred.T @ centred)  # the smallest first
    loadings = (vectors * (strengths > 1e-12 * strengths[-1])).T.flip(0)[:3]  # fewer patches have fewer components
    loadings = functional.pad(loadings, (0, 0, 0, 3 - len(loadings)))
    largest = loadings.gather(1, loadings.abs().argmax(1, keepdim=True))
    scores = centred @ (loadings * torch.where(largest < 0, -1, 1)).T
    border = torch.ones(grid_hw, dtype=torch.bool)
    border[1:-1, 1:-1] = False
    if scores[border.flatten().to(scores.device), 0].mean() > 0 and not border.all():
        scores[:, 0] *= -1
    return scores


def as_colors(scores: Tensor) -> Tensor:
    """Components (batch, rows, columns, 3) as red, green and blue in [0, 1], each stretched over its own range."""
    flat = scores.flatten(1, 2)
    low, high = flat.quantile(TAILS, 1, keepdim=True), flat.quantile(1 - TAILS, 1, keepdim=True)
    stretched = (flat - low) / (high - low).clamp_min(1e-12)
    return stretched.clamp(0, 1).view(scores.shape)
