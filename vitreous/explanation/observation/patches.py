"""Find how a model cuts its images into patches, and which of its tokens is which patch."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from vitreous.errors import InputError
from vitreous.explanation.observation.patch_centers import spread_patches
from vitreous.explanation.perturbation import ATTENTION_FREE_METHODS
from vitreous.model.trace import TokenLayout


@dataclass(frozen=True)
class PatchGrid:
    """A tensor with one or more values for each cell of a grid over the image."""

    tensor: Tensor
    grid_hw: tuple[int, int]
    is_patches: bool
    """Whether the cells are patches: they are adjacent and don't overlap."""
    axes: tuple[int, int] = (2, 3)
    """The axes of rows and columns; twice the same where they share it."""

    def by_cell(self, gradient: Tensor) -> Tensor:
        """Bring a gradient with respect to the tensor to (cells, ...), row by row."""
        axes = dict.fromkeys(self.axes)
        return gradient.movedim(tuple(axes), tuple(range(len(axes)))).flatten(0, len(axes) - 1)

    def gradient_norms(self, gradient: Tensor) -> Tensor:
        """Return the norm in each cell of a gradient with respect to the tensor: (rows, columns)."""
        squares = gradient.float().square()
        others = [axis for axis in range(squares.ndim) if axis not in self.axes]
        return squares.sum(others).sqrt().view(self.grid_hw)


def find_grid(
    func: Callable[..., Any], args: Sequence[Any], result: Any, image_hw: tuple[int, int]
) -> PatchGrid | None:
    """Return the grid over the image that a torch call makes, if any.

    Convolutions, poolings, unfolds and rearrangements make grids.
    """
    name = getattr(func, "__name__", "")
    if not isinstance(result, Tensor) or not args or not isinstance(args[0], Tensor):
        return None
    if name == "conv2d":
        return PatchGrid(result, _hw(result.shape[-2:]), _is_patchify(args)) if result.ndim == 4 else None
    if name == "pixel_unshuffle":
        is_image = result.ndim == 4 and _hw(args[0].shape[-2:]) == image_hw
        return PatchGrid(result, _hw(result.shape[-2:]), True) if is_image else None
    if name.endswith("_pool2d"):  # a tokenizer that ends in pooling, as in CCT
        return PatchGrid(result, _hw(result.shape[-2:]), False) if result.ndim == 4 else None
    if name == "unfold":
        return _unfold_grid(func, args, result, image_hw)
    if args[0].ndim == 4 and result.ndim == 6 and name in ("reshape", "view"):
        return _rearrangement_grid(args[0], result, image_hw)
    return None


def _rearrangement_grid(images: Tensor, result: Tensor, image_hw: tuple[int, int]) -> PatchGrid | None:
    """Return the grid of a reshape that splits height and width into two axes each; channels come first or last."""
    for first in (2, 1):
        rows, row, columns, column = result.shape[first : first + 4]
        sides = _hw(images.shape[first : first + 2])
        if sides == image_hw == (rows * row, columns * column):
            return PatchGrid(result, (rows, columns), True, (first, first + 2))
    return None


def _hw(sizes: Sequence[int]) -> tuple[int, int]:
    return int(sizes[0]), int(sizes[1])


def _is_patchify(args: Sequence[Any]) -> bool:
    """Return whether the kernel of a convolution is as large as its stride."""
    stride = args[3] if len(args) > 3 else 1
    stride = (stride, stride) if isinstance(stride, int) else tuple(stride) * (2 if len(stride) == 1 else 1)
    return tuple(args[1].shape[-2:]) == stride


def _unfold_grid(func: Any, args: Sequence[Any], result: Tensor, image_hw: tuple[int, int]) -> PatchGrid | None:
    if func is functional.unfold:  # (batch, channels × patch × patch, patches)
        pixels, cells = image_hw[0] * image_hw[1], result.shape[-1]
        numbers = args[0].shape[1]
        side = round((result.shape[1] / numbers) ** 0.5)
        fits = side * side * numbers == result.shape[1] and side * side * cells == pixels
        return PatchGrid(result, (image_hw[0] // side, image_hw[1] // side), True, (2, 2)) if fits else None
    if args[0].ndim != 5 or result.ndim != 6:  # the second of two unfolds: (batch, channels, rows, columns, ...)
        return None
    grid_hw = _hw(result.shape[2:4])
    fits = (grid_hw[0] * result.shape[4], grid_hw[1] * result.shape[5]) == image_hw
    return PatchGrid(result, grid_hw, True) if fits else None


def choose_grid(grids: Sequence[PatchGrid], tokens: int, image_hw: tuple[int, int]) -> PatchGrid:
    """Choose the grid whose cells are the tokens of the first attention.

    Raises:
        InputError: there is none, or there are several.
    """
    fitting = [grid for grid in grids if grid.grid_hw[0] * grid.grid_hw[1] <= tokens]
    # Of grids whose cells overlap the finest one; a branch of the stem may pool the whole image, as squeeze-excitation.
    finest = max((grid.grid_hw[0] * grid.grid_hw[1] for grid in fitting), default=0)
    overlapping = [grid for grid in fitting if grid.grid_hw[0] * grid.grid_hw[1] == finest]
    fitting = [grid for grid in fitting if grid.is_patches] or overlapping[-1:]
    grids_text = " or ".join(f"{rows} x {columns}" for rows, columns in dict.fromkeys(grid.grid_hw for grid in grids))
    tokens_text = f"{tokens} tokens attend to each other, for images of {image_hw[0]} x {image_hw[1]} pixels"
    if not grids:
        raise InputError(
            f"{tokens_text}, but no patch embedding was observed (a convolution, pooling, unfold or rearrangement)"
        )
    if not fitting:
        raise InputError(
            f"{tokens_text}, but they are cut into {grids_text} cells: fewer tokens than cells mean windows or pooling "
            f"(as in Swin), which can't be explained; choose {ATTENTION_FREE_METHODS}"
        )
    if len({grid.grid_hw for grid in fitting}) > 1:
        raise InputError(
            f"{tokens_text}, which are cut into {grids_text} cells: it isn't clear which of these are the patches"
        )
    return fitting[-1]


def find_layout(grid: PatchGrid, value: Tensor) -> tuple[TokenLayout, int]:
    """Find which tokens are patches, and how many of the other tokens come behind them.

    Token i is the patch on which it depends the most, according to autograd.

    Args:
        grid: the grid of the image's patches.
        value: (1, heads, tokens, head width), the values of the first attention, a function of `grid.tensor`.

    Raises:
        InputError: the patches aren't in row-major order, or other tokens are among them.
    """
    rows, columns = grid.grid_hw
    prefix = value.shape[2] - rows * columns
    chosen = spread_patches(rows, columns)
    cells: dict[int, list[int]] = {}
    for trailing in dict.fromkeys((0, prefix, *range(prefix))):
        first = prefix - trailing
        for patch in chosen:
            token = first + patch
            if token not in cells:
                cells[token] = _strongest_cells(grid, value, token)
            if cells[token][:1] != [patch]:
                break
        else:
            return TokenLayout(prefix, rows, columns), trailing
    order = "but they are in another order"
    if any(len(found) > 1 for found in cells.values()):
        order = "but each of them depends on several patches before the first attention, as by a convolution of tokens"
    raise InputError(
        f"of the model's {value.shape[2]} tokens, {rows} x {columns} should be patches row by row, with {prefix} "
        f"others before or behind them, {order}; choose {ATTENTION_FREE_METHODS}"
    )


def _strongest_cells(grid: PatchGrid, value: Tensor, token: int) -> list[int]:
    """Return the numbers of the cells on which a token depends, the strongest first, up to two."""
    numbers = value[:, :, token]
    signs = torch.arange(numbers.numel(), device=numbers.device).add(1).sin().view_as(numbers)
    (gradient,) = torch.autograd.grad((numbers * signs).sum(), grid.tensor, retain_graph=True, allow_unused=True)
    if gradient is None:
        return []
    norms, cells = grid.gradient_norms(gradient).flatten().topk(min(2, grid.grid_hw[0] * grid.grid_hw[1]))
    return cells[norms > 0].tolist()
