"""Find with autograd where in the input image the patches of a model lie: a model may turn, crop or pad its image."""

from itertools import pairwise
from typing import NoReturn

import torch
from torch import Tensor

from vitreous.errors import InputError
from vitreous.explanation.observation.token_mixing import TokenTensor, gradients_of
from vitreous.explanation.perturbation import ATTENTION_FREE_METHODS
from vitreous.model.trace import TokenLayout

SPACING_TOLERANCE = 0.1
"""Relative deviation of the distance of patches that overlap from the size of their cells in the image."""
WIDE = 0.35
"""Standard deviation, in cells, of what a patch that hardly overlaps sees; what sees more has a less certain center."""
OFFSET_TOLERANCE = 0.75
"""Deviation of their centers from those of their cells, in cells: convolutions with padding move them by up to half."""


def find_patch_size(value: Tensor, image: Tensor, layout: TokenLayout, first: int) -> tuple[int, int]:
    """Find the (height, width) in pixels of the patches of a model's tokens; the last ones may reach beyond the image.

    Args:
        value: (1, heads, tokens, head width), the values of the first attention, which depend on no attention.
        image: (1, channels, height, width), the input.
        layout: the grid, in which the tokens should lie row by row.
        first: the number of the first patch's token.

    Raises:
        InputError: the patches don't cover the image row by row.
    """
    tokens = TokenTensor(value, 2)
    owners = _tokens_of_pixels(tokens, image, value.shape[2])
    if owners is None:
        _check_centers(tokens, image, layout, first)
        return image.shape[2] // layout.grid_height, image.shape[3] // layout.grid_width
    grid_hw = (layout.grid_height, layout.grid_width)
    indices = (owners - first).div(layout.grid_width, rounding_mode="floor"), (owners - first) % layout.grid_width
    sizes = [_side(one.masked_fill(owners < 0, -1).amax(1 - axis)) for axis, one in enumerate(indices)]
    rows, columns = (torch.arange(side) // size for side, size in zip(owners.shape, sizes, strict=True))
    fits = [-(-side // size) == cells for side, size, cells in zip(owners.shape, sizes, grid_hw, strict=True)]
    expected = first + rows[:, None] * layout.grid_width + columns
    is_unseen = owners < 0  # a model may clamp its input, which leaves some pixels without gradient
    is_cropped = bool(is_unseen.all(0).any() or is_unseen.all(1).any())
    if not all(fits) or is_cropped or not torch.equal(owners.where(~is_unseen, expected), expected):
        _refuse(owners, expected, first, grid_hw)
    return sizes[0], sizes[1]


def _tokens_of_pixels(tokens: TokenTensor, image: Tensor, count: int) -> Tensor | None:
    """Return the token that depends on each pixel: (height, width), −1 for none; None where several tokens do.

    The gradient at a pixel scales with the factor of its token: one backward pass for each binary digit of the token.
    """
    base = _energy(tokens, image, torch.ones(count).double())
    found, seen = torch.zeros_like(base, dtype=torch.long), base > 0
    for bit in range((count - 1).bit_length()):
        factors = 1.0 + (torch.arange(count) >> bit & 1).double()
        ratio = _energy(tokens, image, factors)[seen] / base[seen]
        is_set = ratio > 2
        if not torch.allclose(ratio, 1.0 + 3.0 * is_set.to(ratio), rtol=1e-3):
            return None
        found[seen] += is_set.long() << bit
    return found.masked_fill(~seen, -1).cpu()


def _energy(tokens: TokenTensor, image: Tensor, factors: Tensor) -> Tensor:
    """Return the squared gradient of a mixture of the tokens at each pixel: (height, width)."""
    (gradient,) = gradients_of([tokens], [image], factors)
    if gradient is None:
        return torch.zeros(image.shape[2:]).double()
    return gradient.double().square().sum((0, 1))


def _side(line: Tensor) -> int:
    """Return the number of pixels along a line from the first one to the first of another patch."""
    other = (line != line[0]).nonzero().flatten()
    return int(other[0]) if len(other) else len(line)


def _refuse(owners: Tensor, expected: Tensor, first: int, grid_hw: tuple[int, int]) -> NoReturn:
    """Raise the error that says what the model does with its image."""
    (height, width), unseen = owners.shape, owners < 0
    seen_patches = len(owners[~unseen].unique())
    cropped = (unseen.all(1)[:, None] | unseen.all(0)).any()
    ends = unseen.all(1).sum() < height / grid_hw[0] and unseen.all(0).sum() < width / grid_hw[1]
    if cropped and ends and not unseen[0].all() and not unseen[:, 0].all() and seen_patches == grid_hw[0] * grid_hw[1]:
        raise left_over((height, width), grid_hw)
    if cropped:
        what = f"{int(unseen.sum())} of the {height} x {width} pixels reach no token (the model crops the image)"
    elif seen_patches < grid_hw[0] * grid_hw[1]:
        what = f"only {seen_patches} of its {grid_hw[0]} x {grid_hw[1]} patches see the image (the model pads it)"
    else:
        row, column = ((owners != expected) & ~unseen).nonzero()[0].tolist()
        patch = divmod(int(owners[row, column]) - first, grid_hw[1])
        what = f"the pixel at row {row}, column {column} is in its patch at row {patch[0]}, column {patch[1]}"
    raise _moved(what)


def _moved(what: str) -> InputError:
    return InputError(
        f"this model moves the image before it cuts it into patches: {what}, so maps would be drawn in the wrong "
        f"place; move that out of the model, or choose {ATTENTION_FREE_METHODS}"
    )


def left_over(image_hw: tuple[int, int], grid_hw: tuple[int, int]) -> InputError:
    """Return the error for an image whose last pixels are in no patch."""
    return InputError(
        f"images of {image_hw[0]} x {image_hw[1]} pixels are cut into {grid_hw[0]} x {grid_hw[1]} patches, of which "
        "some pixels are left over: choose a size that the patch divides"
    )


def _check_centers(tokens: TokenTensor, image: Tensor, layout: TokenLayout, first: int) -> None:
    """Check a few rows and columns of patches that overlap: their centers are as far from each other as their cells.

    Raises:
        InputError: they are not.
    """
    grid_hw, image_hw = (layout.grid_height, layout.grid_width), (image.shape[2], image.shape[3])
    if any(side % cells for side, cells in zip(image_hw, grid_hw, strict=True)):
        raise left_over(image_hw, grid_hw)
    numbers = first + torch.arange(layout.grid_height * layout.grid_width).view(grid_hw)
    for axis, name in enumerate(("rows", "columns")):
        cells, cell = grid_hw[axis], image_hw[axis] / grid_hw[axis]
        _check_borders(_line_energy(tokens, image, axis, torch.arange(tokens.tensor.shape[2])), cell, name)
        lines = sorted({0, cells - 1} if cells < 4 else {1, cells // 2, cells - 2})
        spans = [_center(_line_energy(tokens, image, axis, numbers.select(axis, line).flatten())) for line in lines]
        slack = max(0.0, max(deviation for _, deviation in spans) / cell - WIDE)
        for line, (center, _) in zip(lines, spans, strict=True):
            if abs(center + 0.5 - (line + 0.5) * cell) > (OFFSET_TOLERANCE + slack) * cell:
                raise _moved(f"{name[:-1]} {line} of its patches lies at pixel {center:.0f}")
        # The borders of a small image cut off much of what wide patches see, which moves all centers to its middle.
        tolerance = SPACING_TOLERANCE + (slack / 2 if cells >= 8 else min(3 * slack, 0.8))
        for (line, (center, _)), (other, (following, _)) in pairwise(zip(lines, spans, strict=True)):
            distance = (following - center) / (other - line)
            if abs(distance - cell) > tolerance * cell + 0.5 / (other - line):
                raise _moved(f"the {name} of its patches lie {distance:.3g} pixels apart, not {cell:g}")


def _line_energy(tokens: TokenTensor, image: Tensor, axis: int, chosen: Tensor) -> Tensor:
    """Return the size of the gradient of some tokens at each row or column of pixels."""
    factors = torch.zeros(tokens.tensor.shape[2]).double()
    factors[chosen] = 1
    return _energy(tokens, image, factors).sqrt().sum(1 - axis).cpu()


def _center(energy: Tensor) -> tuple[float, float]:
    """Return the mean position and the standard deviation of a distribution over pixels."""
    positions = torch.arange(len(energy)).double()
    shares = energy / energy.sum().clamp_min(1e-300)
    center = (shares * positions).sum()
    return float(center), float((shares * (positions - center).square()).sum().sqrt())


def _check_borders(energy: Tensor, cell: float, name: str) -> None:
    """Check that pixels at the borders reach tokens.

    Raises:
        InputError: they don't, so the model crops its image.
    """
    seen = energy.nonzero().flatten().tolist()
    before, after = seen[0], len(energy) - 1 - seen[-1]
    if before > cell / 8 or after > cell / 2:
        raise _moved(f"the first {before} and last {after} {name} of pixels reach no token (the model crops the image)")
