"""Between tokens and places: from where a map starts, and how weights of tokens lie on the grid of patches."""

import torch
from torch import Tensor

from vitreous.errors import InputError
from vitreous.explanation.options import MethodOptions, patches_in_query
from vitreous.explanation.targets import RegionTarget, Target
from vitreous.model.trace import TokenLayout, Trace


def readout_row(trace: Trace, settings: MethodOptions, target: Target | None = None) -> Tensor:
    """The weighting of tokens (batch, tokens) that a map starts from, which sums to 1.

    It is equal over the chosen patches (most often one), over those of a target that is a region, or else the readout.
    """
    assert trace.readout is not None and trace.layout is not None
    if isinstance(target, RegionTarget):
        row = torch.zeros_like(trace.readout)
        row[:, [patch_token_index(place, trace.layout) for place in target.patches]] = 1 / len(target.patches)
        return row
    if settings.query is None:
        return trace.readout
    row, places = torch.zeros_like(trace.readout), patches_in_query(settings.query)
    row[:, [patch_token_index(place, trace.layout) for place in places]] = 1 / len(places)
    return row


def patch_token_index(place: tuple[int, int], layout: TokenLayout) -> int:
    """The token of the patch at (row, column).

    Raises:
        InputError: there is no such patch.
    """
    row, column = place
    if not (0 <= row < layout.grid_height and 0 <= column < layout.grid_width):
        raise InputError(
            f"there is no patch at row {row}, column {column}: the model's grid has {layout.grid_height} rows and "
            f"{layout.grid_width} columns, counted from 0"
        )
    return layout.num_prefix_tokens + row * layout.grid_width + column


def to_grid(weights: Tensor, trace: Trace) -> Tensor:
    """Weights of tokens (batch, tokens) as (batch, grid height, grid width), prefix tokens left out."""
    layout = trace.layout
    assert layout is not None
    assert weights.shape[1] == layout.num_tokens, f"{weights.shape[1]} weights for {layout.num_tokens} tokens"
    return weights[:, layout.num_prefix_tokens :].unflatten(1, (layout.grid_height, layout.grid_width))
