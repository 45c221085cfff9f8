"""Occlusion (Zeiler and Fergus 2014, section 4.2): how much of the score is lost where a part is hidden."""

import torch
from torch import Tensor

from vitreous.errors import InputError
from vitreous.explanation.method import ExplainableModel, Maps
from vitreous.explanation.options import MethodOptions
from vitreous.explanation.perturbation import cell_borders, forward_unperturbed, perturbed_scores
from vitreous.explanation.targets import Target

WINDOW = 2
"""Side of the hidden window in cells, where none is asked for."""

Window = tuple[slice, slice]
"""Rows and columns, of cells or of pixels."""


def occlusion(model: ExplainableModel, images: Tensor, target: Target, settings: MethodOptions) -> Maps:
    """By how much the target's score drops where a window is hidden: the mean over all windows that cover a cell.

    The model is a black box: anything that takes images and answers. The window moves by half its side, at least by
    one cell; it never leaves the image, so the border is hidden as much at a time as the rest. Negative where hiding
    raises the score.

    Raises:
        InputError: the window is no window, or hides the whole image.
    """
    asked = forward_unperturbed(model, images)
    rows, columns = cell_borders(asked)
    fixed = target.detached(asked.logits, asked.trace)
    before = fixed(asked.logits, asked.trace)
    side = WINDOW if settings.patch_window is None else settings.patch_window
    windows = _windows(len(rows) - 1, len(columns) - 1, side)
    places = [_pixels(window, rows, columns) for window in windows]
    drops = images.new_zeros(len(images), len(rows) - 1, len(columns) - 1)
    cover = torch.zeros_like(drops[0])

    def hidden(start: int, stop: int) -> Tensor:
        return torch.stack([fill_window(images, *place) for place in places[start:stop]])

    for start, _, after in perturbed_scores(asked, fixed, len(windows), hidden):
        for window, score in zip(windows[start:], after, strict=False):
            drops[:, *window] += (before - score).to(drops.dtype)[:, None, None]
            cover[window] += 1
    return Maps(drops / cover, asked.logits)


def fill_window(images: Tensor, down: slice, across: slice) -> Tensor:
    """Images (batch, channels, height, width) with a window replaced by what surrounds it.

    Each hidden pixel becomes the mean of all pixels outside, weighted by a Gaussian of half the window's side: nothing
    of what is hidden remains, as it would in a blurred copy, and the patch has the colors of its place, where one
    gray would be a new edge that the model was never shown.
    """
    copy = images.clone()
    copy[..., down, across] = 0
    outside = torch.ones_like(copy[:1, :1])
    outside[..., down, across] = 0
    rows, columns = (_gaussian(length, part, copy) for length, part in zip(copy.shape[2:], (down, across), strict=True))
    copy[..., down, across] = (rows @ copy @ columns.T) / (rows @ outside @ columns.T)
    return copy


def _gaussian(length: int, part: slice, like: Tensor) -> Tensor:
    """Weights of all pixels along a side for those in `part`: (part, length)."""
    places = torch.arange(length, device=like.device, dtype=like.dtype)
    distances = (places[part, None] - places) / ((part.stop - part.start) / 2)
    return torch.exp(-(distances**2) / 2)


def _windows(rows: int, columns: int, side: int) -> list[Window]:
    """Every place of the window, in cells."""
    if side < 1:
        raise InputError(f"window is {side}: give its side in patches, 1 or more")
    if side >= rows and side >= columns:
        raise InputError(
            f"a window of {side} × {side} patches hides the whole image of {rows} × {columns}: give a smaller one"
        )
    return [(down, across) for down in _starts(rows, side) for across in _starts(columns, side)]


def _starts(length: int, side: int) -> list[slice]:
    """The parts of a side that the window takes, the last one flush with the end."""
    side = min(side, length)
    starts = [*range(0, length - side, max(1, side // 2)), length - side]
    return [slice(start, start + side) for start in starts]


def _pixels(window: Window, rows: Tensor, columns: Tensor) -> Window:
    """A window of cells in pixels."""
    down, across = window
    return slice(int(rows[down.start]), int(rows[down.stop])), slice(
        int(columns[across.start]), int(columns[across.stop])
    )
