"""Asking a model about very many variants of a few images, from each of which patches were removed."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from vitreous.explanation.faithfulness.filling import Filling
from vitreous.explanation.method import Model
from vitreous.explanation.targets import Along

PIXELS_AT_ONCE = {"cpu": 2**17, "cuda": 2**24}
"""Pixels of one batch: 128 images of 32 × 32 on a processor, where more gain nothing; 334 of 224 × 224 on a GPU."""


@dataclass(frozen=True)
class Answers:
    """What a model says of variants of images; each is (images, variants)."""

    amount: Tensor
    """How much of the target there is: a class's probability; for a model without classes, the score over that of the
    whole image."""
    score: Tensor
    """The target's own score: a class's logit, or how far the model's vector reaches in the image's direction."""
    same: Tensor
    """1 where the target is the most probable class, else 0; zeros for a model without classes."""


@dataclass
class Asked:
    """Some images and the model that is asked about them."""

    model: Model
    inputs: Tensor
    """Prepared images (images, channels, height, width)."""
    target: Along
    """What each image is asked for: a direction (images, classes), one at the class."""
    patch: int
    """Side of a patch in pixels."""
    has_classes: bool = True
    at_once: int = field(default=0)
    """Variants in one pass of the model; 0 for as many as fit."""

    @property
    def grid_hw(self) -> tuple[int, int]:
        """Patches down and across."""
        return self.inputs.shape[2] // self.patch, self.inputs.shape[3] // self.patch

    @torch.no_grad()
    def whole(self) -> Tensor:
        """The target's score (images, 1) on the images as they are."""
        return self.target(self.model(self.inputs))[:, None]

    @torch.no_grad()
    def about(self, kept: Tensor, filling: Filling) -> Answers:
        """The model's answers where only some patches are kept: bool (images, variants, patches)."""
        images, variants, patches = kept.shape
        assert images == len(self.inputs) and patches == self.grid_hw[0] * self.grid_hw[1], kept.shape
        places = torch.arange(images, device=kept.device).repeat_interleave(variants)
        logits = self._logits(places, kept.flatten(0, 1), filling)
        directions = self.target.directions[places].to(logits)
        score = (logits * directions).sum(1)
        if self.has_classes:
            amount = (torch.softmax(logits, 1) * directions).sum(1)
            same = (logits.argmax(1) == directions.argmax(1)).to(score)
        else:
            amount, same = score / self.whole().flatten()[places], torch.zeros_like(score)
        return Answers(*(values.view(images, variants) for values in (amount, score, same)))

    def _logits(self, places: Tensor, kept: Tensor, filling: Filling) -> Tensor:
        """Logits (rows, classes), in batches that are halved for good if the GPU's memory can't hold them."""
        height, width = self.inputs.shape[2:]
        self.at_once = self.at_once or max(1, PIXELS_AT_ONCE[self.inputs.device.type] // (height * width))
        found: list[Tensor] = []
        done = 0
        while done < len(places):
            rows = slice(done, done + self.at_once)
            try:
                found.append(self.model(filling(places[rows], self.pixels(kept[rows]))).double())
            except torch.OutOfMemoryError:
                if self.at_once == 1:
                    raise
                self.at_once = max(1, self.at_once // 2)
                continue
            done += self.at_once
        return torch.cat(found)

    def pixels(self, kept: Tensor) -> Tensor:
        """Which pixels are kept, from which patches are: bool (rows, patches) to (rows, height, width)."""
        rows, columns = self.grid_hw
        return kept.view(-1, rows, columns).repeat_interleave(self.patch, 1).repeat_interleave(self.patch, 2)
