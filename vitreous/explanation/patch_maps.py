"""Maps with one value per patch, of methods and of the two baselines that don't use a model."""

import numpy as np
from torch import Tensor

from vitreous.errors import InputError
from vitreous.explanation.attribute import run_method
from vitreous.explanation.method import ExplainableModel
from vitreous.explanation.options import MethodOptions
from vitreous.explanation.registry import find_method
from vitreous.runtime import seed_for
from vitreous.tasks.targets import Target

BASELINES = ("random map", "center bias")
CENTER_DEVIATION = 0.25
"""Standard deviation of the center bias as a fraction of each side of the image."""


def patch_maps(
    model: ExplainableModel, inputs: Tensor, method: str, target: Target, grid_hw: tuple[int, int]
) -> tuple[np.ndarray, bool]:
    """Compute a method's maps of prepared images (images, channels, height, width), averaged over each patch.

    Returns:
        float64 (images, patches), patches row by row; and whether the maps are signed.

    Raises:
        InputError: the method can't explain this model, or its maps don't rank patches.
    """
    options = MethodOptions()
    found = find_method(method, options)
    maps = run_method(model, inputs, found, target, options)
    if maps.colors is not None:
        raise InputError("its maps are colors, which don't rank patches")
    if not maps.values.isfinite().all():
        raise InputError("its values on this model are not finite")
    values = maps.values.detach().double().cpu().numpy()
    return np.stack([to_patches(one, grid_hw) for one in values]), found.scale_kind == "signed"


def to_patches(values: np.ndarray, grid_hw: tuple[int, int]) -> np.ndarray:
    """Average a map (rows, columns) of patches or pixels over each patch: float64 (patches).

    >>> to_patches(np.arange(8.0).reshape(2, 4), (1, 2))
    array([2.5, 4.5])

    Raises:
        InputError: the map's cells don't divide the patches.
    """
    (rows, columns), (high, wide) = values.shape, grid_hw
    if rows % high or columns % wide:
        raise InputError(f"its {rows} × {columns} values don't lie within the model's {high} × {wide} patches")
    return values.reshape(high, rows // high, wide, columns // wide).mean((1, 3)).ravel()


def baseline_map(name: str, grid_hw: tuple[int, int], seed: int, image: int, stage: str = "trained") -> np.ndarray:
    """Compute one of BASELINES for an image: float64 (patches).

    The random map differs for each image and each stage of the model; the center bias is always the same.
    """
    assert name in BASELINES, name
    if name == "random map":
        return np.random.default_rng(seed_for(seed, name, image, stage)).random(grid_hw[0] * grid_hw[1])
    down, across = (np.exp(-((((np.arange(side) + 0.5) / side - 0.5) / CENTER_DEVIATION) ** 2) / 2) for side in grid_hw)
    return np.outer(down, across).ravel()
