"""Where a foreign tensor of attention keeps its images, heads and tokens, and the way to our order and back."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from vitreous.errors import InputError
from vitreous.explanation.perturbation import ATTENTION_FREE_METHODS

Fold = Literal["images", "heads"]
"""Which of the two comes first, where images and heads share one axis or have axes of equal length."""


@dataclass(frozen=True)
class HeadAxes:
    """How tensors (..., rows, columns) become (batch, heads, rows, columns); every step is undone by `close`.

    What is closed again is a view of what was opened, so a gradient through the one is a gradient through the other.
    """

    lead: tuple[int, ...]
    """The axes before the last two."""
    batch: int
    fold: Fold = "images"
    last: int = 0
    """How many prefix tokens stand behind the patches: they are brought before them."""

    @property
    def heads_first(self) -> bool:
        """Whether the heads' axis stands before the images'."""
        alike = self.lead == (self.batch, self.batch)
        return len(self.lead) == 2 and (self.fold == "heads" if alike else self.lead[0] != self.batch)

    def open(self, tensor: Tensor, tokens: tuple[int, ...] = (2,)) -> Tensor:
        """To (batch, heads, rows, columns); `tokens` are the axes along which tokens stand."""
        if len(self.lead) == 0:
            tensor = tensor[None, None]
        elif len(self.lead) == 1:
            heads = self.lead[0] // self.batch
            sizes = (self.batch, heads) if self.fold == "images" else (heads, self.batch)
            tensor = tensor.unflatten(0, sizes)
        if self.heads_first or (len(self.lead) == 1 and self.fold == "heads"):
            tensor = tensor.transpose(0, 1)
        return torch.roll(tensor, (self.last,) * len(tokens), tokens) if self.last and tokens else tensor

    def close(self, tensor: Tensor, tokens: tuple[int, ...] = (2,)) -> Tensor:
        """Back to what it was."""
        if self.last and tokens:
            tensor = torch.roll(tensor, (-self.last,) * len(tokens), tokens)
        if self.heads_first or (len(self.lead) == 1 and self.fold == "heads"):
            tensor = tensor.transpose(0, 1)
        return tensor.flatten(0, 1) if len(self.lead) == 1 else tensor[0, 0] if len(self.lead) == 0 else tensor


def find_heads(lead: tuple[int, ...], batch: int, fold: Fold | None, last: int) -> HeadAxes:
    """How attention whose axes before (tokens, tokens) are `lead` belongs to `batch` images.

    `fold` says what comes first where the lengths don't tell; None where that isn't known, and two axes of equal
    length are then taken for images and heads.

    Raises:
        InputError: the axes are those of windows, or can't be told.
    """
    shape = f"{lead} before its last two axes, for a batch of {batch}"
    if len(lead) > 2 or (len(lead) == 2 and batch not in lead) or (len(lead) == 1 and lead[0] % batch):
        raise InputError(
            f"the attention seen has axes {shape}: it works in windows or over something else than one sequence of "
            f"tokens an image (as Swin does), which can't be explained here; choose {ATTENTION_FREE_METHODS}"
        )
    if len(lead) == 0 and batch != 1:
        raise InputError(f"the attention seen has no axis for the {batch} images: give one image at a time")
    if len(lead) == 1 and fold is None and batch != 1 and lead[0] != batch:
        raise InputError(
            f"the attention seen has axes {shape}, and it isn't known whether images or heads come first: "
            "give one image at a time"
        )
    return HeadAxes(lead, batch, fold or "images", last)
