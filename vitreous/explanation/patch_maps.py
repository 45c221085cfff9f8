"""Maps on the model's grid of patches: a method's, brought there, and the two baselines that know no model."""

import numpy as np
import torch
from torch import Tensor

from vitreous.errors import InputError
from vitreous.explanation.method import ExplainableModel
from vitreous.explanation.options import MethodOptions
from vitreous.explanation.registry import find_method
from vitreous.explanation.targets import Target
from vitreous.runtime import seed_for

BASELINES = ("random map", "centerd blob")
BLOB_DEVIATION = 0.25
"""Of the blob, over the image's sides."""


def patch_maps(
    model: ExplainableModel, inputs: Tensor, method: str, target: Target, grid_hw: tuple[int, int]
) -> tuple[np.ndarray, bool]:
    """A method's maps of prepared images (images, channels, height, width): float64 (images, patches).

    Patches row by row; also whether the maps are signed. A number a pixel is averaged over the patch, so that all
    methods rank equal units.

    Raises:
        InputError: the method can't explain this model, or gives nothing that ranks its patches.
    """
    chosen, settings = find_method(method, MethodOptions()), MethodOptions()
    with torch.no_grad():
        maps = chosen.attribute(model, inputs, target, settings)
    if maps.colors is not None:
        raise InputError("its maps are colors, which rank no patches")
    if not maps.values.isfinite().all():
        raise InputError("its values on this model are not finite")
    grids = maps.values.detach().double().cpu().numpy()
    return np.stack([to_patches(grid, grid_hw) for grid in grids]), chosen.scale_kind == "signed"


def to_patches(grid: np.ndarray, grid_hw: tuple[int, int]) -> np.ndarray:
    """A map (rows, columns) of patches or pixels as means of patches: float64 (patches).

    Raises:
        InputError: the map's cells don't lie within the patches.
    """
    (rows, columns), (high, wide) = grid.shape, grid_hw
    if rows % high or columns % wide:
        raise InputError(f"its {rows} × {columns} values don't lie within the model's {high} × {wide} patches")
    return grid.reshape(high, rows // high, wide, columns // wide).mean((1, 3)).ravel()


def baseline_map(name: str, grid_hw: tuple[int, int], seed: int, image: int, stage: str = "trained") -> np.ndarray:
    """One of BASELINES for an image: float64 (patches).

    The random map is drawn anew for each image and each stage of the model; the blob is always the same.
    """
    assert name in BASELINES, name
    if name == "random map":
        return np.random.default_rng(seed_for(seed, name, image, stage)).random(grid_hw[0] * grid_hw[1])
    down, across = (np.exp(-((((np.arange(side) + 0.5) / side - 0.5) / BLOB_DEVIATION) ** 2) / 2) for side in grid_hw)
    return np.outer(down, across).ravel()
