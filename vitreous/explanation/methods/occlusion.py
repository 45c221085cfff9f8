"""Occlusion (Zeiler and Fergus 2014, section 4.2): how much of the score is lost where a window is hidden."""

import torch
from torch import Tensor

from vitreous.errors import InputError
from vitreous.explanation.method import ExplainableModel, Maps
from vitreous.explanation.options import MethodOptions
from vitreous.explanation.perturbation import cell_borders, forward_unperturbed, perturbed_scores
from vitreous.tasks.targets import Target

DEFAULT_WINDOW = 2
"""Side of the hidden window in cells."""

Window = tuple[slice, slice]
"""Rows and columns, of cells or of pixels."""


def occlusion(model: ExplainableModel, images: Tensor, target: Target, options: MethodOptions) -> Maps:
    """Compute how much the score drops where a window is hidden: the mean over all windows that cover a cell.

    The model is a black box: only its output is used. The window moves by half its side, at least by one cell; it never
    leaves the image, so the border is hidden as often as the rest. Values are negative where hiding raises the score.

    Args:
        model: any model.
        images: (batch, channels, height, width), normalized.
        target: the score that is explained.
        options: patch_window.

    Raises:
        InputError: the window is smaller than one cell, or hides the whole image.
    """
    unperturbed = forward_unperturbed(model, images)
    rows, columns = cell_borders(unperturbed)
    detached = target.detached(unperturbed.logits, unperturbed.trace)
    score = detached(unperturbed.logits, unperturbed.trace)
    side = DEFAULT_WINDOW if options.patch_window is None else options.patch_window
    windows = _windows(len(rows) - 1, len(columns) - 1, side)
    pixels = [_to_pixels(window, rows, columns) for window in windows]
    drops = images.new_zeros(len(images), len(rows) - 1, len(columns) - 1)
    cover = torch.zeros_like(drops[0])

    def occluded(start: int, stop: int) -> Tensor:
        return torch.stack([fill_window(images, *window) for window in pixels[start:stop]])

    for start, _, found in perturbed_scores(unperturbed, detached, len(windows), occluded):
        for window, occluded_score in zip(windows[start:], found, strict=False):
            drops[:, *window] += (score - occluded_score).to(drops.dtype)[:, None, None]
            cover[window] += 1
    return Maps(drops / cover, unperturbed.logits)


def fill_window(images: Tensor, rows: slice, columns: slice) -> Tensor:
    """Replace a window of images (batch, channels, height, width) by what surrounds it.

    Each pixel in the window becomes the mean of all pixels outside, weighted by a Gaussian of half the window's side:
    nothing of what is hidden remains, as it would in a blurred copy, and the window has the colors around it, where an
    even gray would add edges that are in no image.
    """
    filled = images.clone()
    filled[..., rows, columns] = 0
    outside = torch.ones_like(filled[:1, :1])
    outside[..., rows, columns] = 0
    down, across = (
        _gaussian(length, part, filled) for length, part in zip(filled.shape[2:], (rows, columns), strict=True)
    )
    filled[..., rows, columns] = (down @ filled @ across.T) / (down @ outside @ across.T)
    return filled


def _gaussian(length: int, part: slice, like: Tensor) -> Tensor:
    """Return the weights of all pixels along a side for those in `part`: (part, length)."""
    positions = torch.arange(length, device=like.device, dtype=like.dtype)
    distances = (positions[part, None] - positions) / ((part.stop - part.start) / 2)
    return torch.exp(-(distances**2) / 2)


def _windows(rows: int, columns: int, side: int) -> list[Window]:
    """Return every position of the window, in cells."""
    if side < 1:
        raise InputError(f"patch_window is {side}: give the side of the window in patches, 1 or more")
    if side >= rows and side >= columns:
        raise InputError(
            f"a window of {side} × {side} patches hides the whole image of {rows} × {columns}: give a smaller one"
        )
    return [(down, across) for down in _spans(rows, side) for across in _spans(columns, side)]


def _spans(length: int, side: int) -> list[slice]:
    """Return the spans of cells that the window covers along one side; the last one ends at the border."""
    side = min(side, length)
    starts = [*range(0, length - side, max(1, side // 2)), length - side]
    return [slice(start, start + side) for start in starts]


def _to_pixels(window: Window, rows: Tensor, columns: Tensor) -> Window:
    """Convert a window of cells to pixels."""
    down, across = window
    return slice(int(rows[down.start]), int(rows[down.stop])), slice(
        int(columns[across.start]), int(columns[across.stop])
    )
