"""Between tokens and the patch grid: where a map starts, and how weights of tokens become a map."""

import torch
from torch import Tensor

from vitreous.errors import InputError
from vitreous.explanation.options import MethodOptions, patches_in_query
from vitreous.model.trace import TokenLayout, Trace
from vitreous.tasks.targets import RegionTarget, Target


def readout_row(trace: Trace, options: MethodOptions, target: Target | None = None) -> Tensor:
    """Return the weighting of tokens (batch, tokens) that a map starts from, which sums to 1.

    It is uniform over the patches of a target that is a region, or over those of the query, or else the model's
    readout.

    Raises:
        InputError: there is no such patch.
    """
    assert trace.readout is not None and trace.layout is not None
    if isinstance(target, RegionTarget):
        patches = target.patches
    elif options.query is not None:
        patches = patches_in_query(options.query)
    else:
        return trace.readout
    row = torch.zeros_like(trace.readout)
    row[:, [patch_token_index(patch, trace.layout) for patch in patches]] = 1 / len(patches)
    return row


def require_rollout(trace: Trace) -> None:
    """Check that attention can be multiplied through the layers.

    Raises:
        InputError: it can't; the message says why.
    """
    if trace.rollout_obstacle is not None:
        raise InputError(trace.rollout_obstacle)


def patch_token_index(patch: tuple[int, int], layout: TokenLayout) -> int:
    """Return the index of the token of a patch (row, column).

    >>> patch_token_index((1, 2), TokenLayout(num_prefix_tokens=1, grid_height=14, grid_width=14))
    17

    Raises:
        InputError: there is no such patch.
    """
    row, column = patch
    if not (0 <= row < layout.grid_height and 0 <= column < layout.grid_width):
        raise InputError(
            f"there is no patch at row {row}, column {column}: the model's grid has {layout.grid_height} rows and "
            f"{layout.grid_width} columns, counted from 0"
        )
    return layout.num_prefix_tokens + row * layout.grid_width + column


def to_grid(weights: Tensor, trace: Trace) -> Tensor:
    """Reshape weights of tokens (batch, tokens) to (batch, grid height, grid width), without the prefix tokens."""
    layout = trace.layout
    assert layout is not None
    assert weights.shape[1] == layout.num_tokens, f"{weights.shape[1]} weights for {layout.num_tokens} tokens"
    return weights[:, layout.num_prefix_tokens :].unflatten(1, (layout.grid_height, layout.grid_width))
