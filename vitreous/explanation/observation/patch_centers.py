"""Check with autograd where in the input image patches lie that overlap, or that see pixels in a mixture."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from vitreous.errors import InputError
from vitreous.explanation.observation.token_mixing import TokenTensor, gradients_of
from vitreous.explanation.perturbation import ATTENTION_FREE_METHODS
from vitreous.model.trace import TokenLayout

MAX_PATCHES = 64
"""Of a grid with more patches, half as many are checked, and its corners."""
MIXTURES = 3
"""Numbers of a token whose gradients are averaged: what a random mixture of them sees varies from pixel to pixel."""
MAX_OFFSET = 0.7
"""Common deviation of all centers, in cells: convolutions with padding move them by up to half."""
MAX_DEVIATION = 0.5
"""Further deviation of one center, in cells."""
WIDE = 0.65
"""Standard deviation, in cells, of what a patch sees, above which its center is less certain: by up to half a cell."""


def check_centers(tokens: TokenTensor, image: Tensor, layout: TokenLayout, first: int) -> None:
    """Check that patches that overlap lie in their cells of the image.

    Args:
        tokens: the values of the first attention.
        image: (1, channels, height, width), the input.
        layout: the grid, in which the tokens should lie row by row.
        first: the number of the first patch's token.

    Raises:
        InputError: they don't, so the model moves its image.
    """
    count = tokens.tensor.shape[2]
    grid, pixels = torch.tensor([layout.grid_height, layout.grid_width]), torch.tensor(image.shape[2:])
    energy = token_energy(tokens, image, torch.ones(count).double())
    for axis, name in enumerate(("rows", "columns")):
        _check_borders(energy.sum(1 - axis), name)
    chosen = spread_patches(layout.grid_height, layout.grid_width)
    parts = [
        TokenTensor(tokens.tensor[..., part::MIXTURES], 2) for part in range(min(MIXTURES, tokens.tensor.shape[3]))
    ]
    spans = torch.stack([_span([_only(part, image, [first + patch]) for part in parts]) for patch in chosen]).cpu()
    centers, widths = (one / pixels * grid for one in spans.unbind(1))
    places = torch.stack([torch.tensor(divmod(patch, layout.grid_width)) for patch in chosen]) + 0.5
    offset, width = (centers - places).median(0).values, widths.median(0).values
    deviations = centers - places - offset
    # The border cuts off what patches beside it would see beyond, which moves their centers inward.
    distances = places.where(deviations > 0, grid - places)
    tolerance = MAX_DEVIATION + (width - WIDE).clamp(0, 0.5) + (2 * width - distances).clamp_min(0)
    is_moved = (deviations.abs() > tolerance) | (offset.abs() > MAX_OFFSET)
    if bool(is_moved.any()):
        number = int(is_moved.any(1).nonzero()[0])
        row, column = (int(one) for one in places[number])
        y, x = ((centers[number] / grid * pixels) - 0.5).tolist()
        raise moved_image(f"the patch at row {row}, column {column} sees the image around row {y:.0f}, column {x:.0f}")
    if float(width.max()) < WIDE:
        _check_spacing(tokens, image, layout, first, energy)


def token_energy(tokens: TokenTensor, image: Tensor, factors: Tensor) -> Tensor:
    """Return the squared gradient of a mixture of the tokens at each pixel: (height, width)."""
    (gradient,) = gradients_of([tokens], [image], factors)
    if gradient is None:
        return torch.zeros(image.shape[2:]).double()
    return gradient.double().square().sum((0, 1))


def spread_patches(rows: int, columns: int) -> list[int]:
    """Return the numbers of all patches of a small grid, else of the corners and some that are spread over it."""
    cells = rows * columns
    if cells <= MAX_PATCHES:
        return list(range(cells))
    others = torch.randperm(cells, generator=torch.Generator().manual_seed(0))[: MAX_PATCHES // 2].tolist()
    return sorted({0, columns - 1, cells - columns, cells - 1, *others})


def moved_image(what: str) -> InputError:
    """Return the error for a model that moves its image; `what` says how that shows."""
    return InputError(
        f"this model moves the image before it cuts it into patches: {what}, so maps would be drawn in the wrong "
        f"place; move that out of the model, or choose {ATTENTION_FREE_METHODS}"
    )


def _only(tokens: TokenTensor, image: Tensor, chosen: Sequence[int]) -> Tensor:
    """Return the squared gradient of some tokens alone at each pixel: (height, width)."""
    factors = torch.zeros(tokens.tensor.shape[2]).double()
    factors[list(chosen)] = 1
    return token_energy(tokens, image, factors)


def _span(energies: Sequence[Tensor]) -> Tensor:
    """Return the center (row, column), in pixels from the edge, and the standard deviations: (2, 2)."""
    energy = torch.stack([one / one.sum().clamp_min(1e-300) for one in energies]).mean(0)
    spans = []
    for axis in (0, 1):
        shares = energy.sum(1 - axis) / energy.sum().clamp_min(1e-300)
        positions = torch.arange(len(shares), device=shares.device).double() + 0.5
        center = (shares * positions).sum()
        spans.append(torch.stack([center, (shares * (positions - center).square()).sum().sqrt()]))
    return torch.stack(spans, 1)


def _check_borders(energy: Tensor, name: str) -> None:
    """Check that lines of pixels at the borders reach tokens, unless as many are left out between others.

    Raises:
        InputError: they don't, so the model crops its image.
    """
    seen = energy.nonzero().flatten().tolist()
    gap = max((after - before - 1 for before, after in pairwise(seen)), default=0)
    before, after = (seen[0], len(energy) - 1 - seen[-1]) if seen else (0, len(energy))
    if max(before, after) > gap:
        raise moved_image(
            f"the first {before} and last {after} {name} of pixels reach no token (the model crops the image)"
        )


def _check_spacing(tokens: TokenTensor, image: Tensor, layout: TokenLayout, first: int, energy: Tensor) -> None:
    """Check that what lines of patches see begins and ends at the same place of each line's cells, to the pixel.

    This is so where the patches are convolutions of the image, and wrong where it is padded and shrunk. `energy` is
    what all patches see; lines that see the first or last pixels of it may be cut off there.

    Raises:
        InputError: it isn't.
    """
    numbers = first + torch.arange(layout.grid_height * layout.grid_width).view(layout.grid_height, -1)
    for axis, name in enumerate(("row", "column")):
        lines, seen = numbers.shape[axis], energy.sum(1 - axis).nonzero().flatten()
        cell, border = image.shape[2 + axis] // lines, (int(seen[0]), int(seen[-1]))
        begins, ends = set(), set()
        for line in sorted({0, 1, lines // 2, lines - 2, lines - 1} & set(range(lines))):
            found = _only(tokens, image, numbers.select(axis, line).tolist()).sum(1 - axis)
            seen = (found > 1e-8 * found.max()).nonzero().flatten()
            begin, end = int(seen[0]), int(seen[-1])
            if end - begin >= 2 * cell:
                break
            begins |= {begin - line * cell} if begin > border[0] else set()
            ends |= {end - line * cell} if end < border[1] else set()
        else:
            if len(begins) > 1 or len(ends) > 1:
                raise moved_image(f"the {name}s of its patches lie less or more than {cell} pixels apart")
