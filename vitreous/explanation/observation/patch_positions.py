"""Find with autograd where in the input image the patches of a model lie: a model may turn, crop or pad its image."""

from typing import NoReturn

import torch
from torch import Tensor

from vitreous.errors import InputError
from vitreous.explanation.observation.patch_centers import check_centers, moved_image, token_energy
from vitreous.explanation.observation.token_mixing import TokenTensor
from vitreous.model.trace import TokenLayout


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
    tokens, grid_hw = TokenTensor(value, 2), (layout.grid_height, layout.grid_width)
    owners = _tokens_of_pixels(tokens, image, value.shape[2])
    if owners is None:
        if any(side % cells for side, cells in zip(image.shape[2:], grid_hw, strict=True)):
            raise left_over((image.shape[2], image.shape[3]), grid_hw)
        check_centers(tokens, image, layout, first)
        return image.shape[2] // layout.grid_height, image.shape[3] // layout.grid_width
    indices = (owners - first).div(layout.grid_width, rounding_mode="floor"), (owners - first) % layout.grid_width
    sizes = [_side(one.masked_fill(owners < 0, -1).amax(1 - axis)) for axis, one in enumerate(indices)]
    rows, columns = (torch.arange(side) // size for side, size in zip(owners.shape, sizes, strict=True))
    fits = [-(-side // size) == cells for side, size, cells in zip(owners.shape, sizes, grid_hw, strict=True)]
    expected = first + rows[:, None] * layout.grid_width + columns
    is_unseen = owners < 0  # a model may clamp its input, which leaves some pixels without gradient
    is_cropped = bool(is_unseen.all(0).any() or is_unseen.all(1).any())
    if not all(fits) or is_cropped or not torch.equal(owners.where(~is_unseen, expected), expected):
        _refuse(owners, expected, first, grid_hw, (sizes[0], sizes[1]))
    return sizes[0], sizes[1]


def _tokens_of_pixels(tokens: TokenTensor, image: Tensor, count: int) -> Tensor | None:
    """Return the token that depends on each pixel: (height, width), −1 for none; None where several tokens do.

    The gradient at a pixel scales with the factor of its token: one backward pass for each binary digit of the token.
    """
    base = token_energy(tokens, image, torch.ones(count).double())
    found, seen = torch.zeros_like(base, dtype=torch.long), base > 0
    for bit in range((count - 1).bit_length()):
        factors = 1.0 + (torch.arange(count) >> bit & 1).double()
        ratio = token_energy(tokens, image, factors)[seen] / base[seen]
        is_set = ratio > 2
        if not torch.allclose(ratio, 1.0 + 3.0 * is_set.to(ratio), rtol=1e-3):
            return None
        found[seen] += is_set.long() << bit
    return found.masked_fill(~seen, -1).cpu()


def _side(line: Tensor) -> int:
    """Return the number of pixels along a line from the first one to the first of another patch."""
    other = (line != line[0]).nonzero().flatten()
    return int(other[0]) if len(other) else len(line)


def _refuse(
    owners: Tensor, expected: Tensor, first: int, grid_hw: tuple[int, int], patch_hw: tuple[int, int]
) -> NoReturn:
    """Raise the error that says what the model does with its image."""
    (height, width), unseen = owners.shape, owners < 0
    seen_patches = len(owners[~unseen].unique())
    cropped = (unseen.all(1)[:, None] | unseen.all(0)).any()
    inside = slice(grid_hw[0] * patch_hw[0]), slice(grid_hw[1] * patch_hw[1])
    rest = [side - cells * size for side, cells, size in zip(owners.shape, grid_hw, patch_hw, strict=True)]
    fits = any(rest) and all(0 <= left < size for left, size in zip(rest, patch_hw, strict=True))
    seen_inside = not (unseen[inside].all(0).any() or unseen[inside].all(1).any())
    is_regular = torch.equal(owners.where(~unseen, expected)[inside], expected[inside])
    if cropped and fits and seen_inside and is_regular and patch_hw[0] == patch_hw[1]:
        raise left_over((height, width), grid_hw)
    if cropped:
        what = f"{int(unseen.sum())} of the {height} x {width} pixels reach no token (the model crops the image)"
    elif seen_patches < grid_hw[0] * grid_hw[1]:
        what = f"only {seen_patches} of its {grid_hw[0]} x {grid_hw[1]} patches see the image (the model pads it)"
    else:
        row, column = ((owners != expected) & ~unseen).nonzero()[0].tolist()
        patch = divmod(int(owners[row, column]) - first, grid_hw[1])
        what = f"the pixel at row {row}, column {column} is in its patch at row {patch[0]}, column {patch[1]}"
    raise moved_image(what)


def left_over(image_hw: tuple[int, int], grid_hw: tuple[int, int]) -> InputError:
    """Return the error for an image whose last pixels are in no patch."""
    return InputError(
        f"images of {image_hw[0]} x {image_hw[1]} pixels are cut into {grid_hw[0]} x {grid_hw[1]} patches, of which "
        "some pixels are left over: choose a size that the patch divides"
    )
