"""Products of two tensors (matmul, @, bmm, einsum) in einsum's notation."""

import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

MATRIX_PRODUCTS = frozenset({"matmul", "__matmul__", "bmm"})
"""Names of the torch functions that multiply the last two axes as matrices."""
PRODUCTS = MATRIX_PRODUCTS | {"einsum"}
"""Names of all torch functions that `product` understands."""


@dataclass(frozen=True)
class EinsumSpec:
    """A product of two tensors, with a letter for each axis of both and of the result."""

    left: Tensor
    right: Tensor
    left_axes: str
    right_axes: str
    result_axes: str

    @property
    def summed(self) -> str:
        """The axes that are summed over."""
        return "".join(axis for axis in self.left_axes if axis in self.right_axes and axis not in self.result_axes)

    def only_in(self, side: str) -> str:
        """Return the axes that only the "left" or only the "right" tensor has, in the result's order."""
        mine, other = (self.left_axes, self.right_axes)[:: 1 if side == "left" else -1]
        return "".join(axis for axis in self.result_axes if axis in mine and axis not in other)

    @property
    def shared(self) -> str:
        """The axes that both tensors and the result have, in the result's order."""
        return "".join(axis for axis in self.result_axes if axis in self.left_axes and axis in self.right_axes)

    @property
    def is_matrix_product(self) -> bool:
        """Whether it is a batch of products of two matrices: nothing else is summed or broadcast."""
        lengths = (len(self.only_in("left")), len(self.summed), len(self.only_in("right")))
        unique = all(len(set(axes)) == len(axes) for axes in (self.left_axes, self.right_axes, self.result_axes))
        whole = len(self.shared) + 2 == len(self.left_axes) == len(self.right_axes) == len(self.result_axes)
        return lengths == (1, 1, 1) and unique and whole and self._same_sizes()

    @property
    def swapped(self) -> "EinsumSpec":
        """The same product with left and right exchanged."""
        return EinsumSpec(self.right, self.left, self.right_axes, self.left_axes, self.result_axes)

    @property
    def orders(self) -> tuple[list[int], list[int], list[int]]:
        """The permutations of left, right and result to (shared, row, inner), (shared, inner, column) and (shared, row,
        column); the shared axes keep the left tensor's order.
        """
        shared = "".join(axis for axis in self.left_axes if axis in self.shared)
        row, inner, column = self.only_in("left"), self.summed, self.only_in("right")
        wanted = (shared + row + inner, shared + inner + column, shared + row + column)
        left, right, result = (
            [axes.index(axis) for axis in order]
            for axes, order in zip((self.left_axes, self.right_axes, self.result_axes), wanted, strict=True)
        )
        return left, right, result

    def contracts(self, axis: int) -> bool:
        """Return whether it is a product of two matrices that sums over this axis of the left tensor."""
        return self.is_matrix_product and self.summed == self.left_axes[axis]

    def _same_sizes(self) -> bool:
        """Return whether an axis has the same size on both sides: torch would broadcast an axis of size 1."""
        left = dict(zip(self.left_axes, self.left.shape, strict=True))
        right = dict(zip(self.right_axes, self.right.shape, strict=True))
        return all(left[axis] == right[axis] for axis in self.shared + self.summed)


def parse_product(name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> EinsumSpec | None:
    """Parse a call of the torch function `name`; None if it is not a product of exactly two tensors."""
    if name not in PRODUCTS or kwargs.get("out") is not None:
        return None
    if name == "einsum":
        return _parse_einsum(args)
    operands = [*args, *(kwargs[key] for key in ("other", "mat2") if key in kwargs)]
    if len(operands) != 2 or not all(isinstance(one, Tensor) for one in operands):
        return None
    left, right = operands
    if left.ndim != right.ndim or left.ndim < 2:
        return None
    lead = string.ascii_letters[: left.ndim - 2]
    return EinsumSpec(left, right, lead + "YX", lead + "XZ", lead + "YZ") if left.ndim < 20 else None


def _parse_einsum(args: Sequence[Any]) -> EinsumSpec | None:
    equation, *operands = args
    if len(operands) == 1 and isinstance(operands[0], (list, tuple)):
        operands = list(operands[0])
    if not isinstance(equation, str) or equation.count("->") != 1 or len(operands) != 2:
        return None
    terms, result = equation.replace(" ", "").split("->")
    if terms.count(",") != 1:
        return None
    broadcast = [axis for axis in string.ascii_letters if axis not in equation]
    axes = [_expand_dots(term, one.ndim, broadcast) for term, one in zip(terms.split(","), operands, strict=True)]
    most = max(one.ndim - len(term.replace("...", "")) for term, one in zip(terms.split(","), operands, strict=True))
    return EinsumSpec(
        operands[0], operands[1], axes[0], axes[1], result.replace("...", "".join(broadcast[:most][::-1]))
    )


def _expand_dots(term: str, axes: int, broadcast: Sequence[str]) -> str:
    """Replace the dots of an einsum term by letters, counted from the right."""
    return term.replace("...", "".join(broadcast[: axes - len(term.replace("...", ""))][::-1]))
