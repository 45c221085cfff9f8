"""Layouts whose patch embedding has no bias: ours is added to the position of every patch, which is the same."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from vitreous.model.pretrained.entries import Shapes, Tokens

BIAS, TABLE = "stem.linear.bias", "positions.table"


@dataclass(frozen=True)
class TokensAndBias(Tokens):
    """Prefix tokens and positions of a layout without a bias of the patch embedding.

    Read, the bias is zero; in writing it is added to the positions. Bicubic weights sum to one, so resampled
    positions carry it too.
    """

    @property
    def ours_names(self) -> tuple[str, ...]:
        """Our tensors that it fills."""
        return (*super().ours_names, BIAS)

    def to_ours(self, tensors: Mapping[str, Tensor], shapes: Shapes) -> dict[str, Tensor]:
        """Our tensors by name, from theirs."""
        ours = super().to_ours(tensors, shapes)
        return ours | {BIAS: ours[TABLE].new_zeros(shapes[BIAS])}

    def to_theirs(self, tensors: Mapping[str, Tensor], shapes: Shapes) -> dict[str, Tensor]:
        """Their tensors by name, from ours."""
        return super().to_theirs({**tensors, TABLE: tensors[TABLE] + tensors[BIAS]}, shapes)
