"""The axes of images, heads and tokens in a model's attention tensors, and the conversion to our order and back."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from vitreous.errors import InputError
from vitreous.explanation.perturbation import ATTENTION_FREE_METHODS

AxisOrder = Literal["images", "heads"]
"""What comes first where images and heads share one axis, or have axes of equal length."""


@dataclass(frozen=True)
class HeadAxes:
    """Converts tensors (..., rows, columns) to (batch, heads, rows, columns); `pack` reverses every step of `unpack`.

    A packed tensor is a view of the unpacked one, so that gradients of one pass through the other.
    """

    lead: tuple[int, ...]
    """The axes before the last two."""
    batch: int
    axis_order: AxisOrder = "images"
    trailing: int = 0
    """Number of prefix tokens behind the patches, which are moved before them."""

    @property
    def heads_first(self) -> bool:
        """Whether the heads' axis comes before the images'."""
        ambiguous = self.lead == (self.batch, self.batch)
        return len(self.lead) == 2 and (self.axis_order == "heads" if ambiguous else self.lead[0] != self.batch)

    def unpack(self, tensor: Tensor, tokens: tuple[int, ...] = (2,)) -> Tensor:
        """Convert to (batch, heads, rows, columns); `tokens` are the axes of tokens."""
        if len(self.lead) == 0:
            tensor = tensor[None, None]
        elif len(self.lead) == 1:
            heads = self.lead[0] // self.batch
            sizes = (self.batch, heads) if self.axis_order == "images" else (heads, self.batch)
            tensor = tensor.unflatten(0, sizes)
        if self.heads_first or (len(self.lead) == 1 and self.axis_order == "heads"):
            tensor = tensor.transpose(0, 1)
        return torch.roll(tensor, (self.trailing,) * len(tokens), tokens) if self.trailing and tokens else tensor

    def pack(self, tensor: Tensor, tokens: tuple[int, ...] = (2,)) -> Tensor:
        """Convert back to the model's own axes."""
        if self.trailing and tokens:
            tensor = torch.roll(tensor, (-self.trailing,) * len(tokens), tokens)
        if self.heads_first or (len(self.lead) == 1 and self.axis_order == "heads"):
            tensor = tensor.transpose(0, 1)
        return tensor.flatten(0, 1) if len(self.lead) == 1 else tensor[0, 0] if len(self.lead) == 0 else tensor


def find_heads(lead: tuple[int, ...], batch: int, axis_order: AxisOrder | None, trailing: int) -> HeadAxes:
    """Find the axes of images and heads in attention whose axes before (tokens, tokens) are `lead`.

    `axis_order` says what comes first where the sizes don't show it. If it is None (unknown), two axes of equal size
    are taken for images and heads in this order.

    Raises:
        InputError: the attention works in windows, or the axes are ambiguous.
    """
    shape = f"{lead} before its last two axes, for a batch of {batch}"
    if len(lead) > 2 or (len(lead) == 2 and batch not in lead) or (len(lead) == 1 and lead[0] % batch):
        raise InputError(
            f"the observed attention has axes {shape}: it works in windows (as in Swin) or over something else than "
            f"one sequence of tokens per image, which can't be explained; choose {ATTENTION_FREE_METHODS}"
        )
    if len(lead) == 0 and batch != 1:
        raise InputError(f"the observed attention has no axis for the {batch} images: give one image at a time")
    if len(lead) == 1 and axis_order is None and batch != 1 and lead[0] != batch:
        raise InputError(
            f"the observed attention has axes {shape}, and it isn't known whether images or heads come first: "
            "give one image at a time"
        )
    return HeadAxes(lead, batch, axis_order or "images", trailing)
