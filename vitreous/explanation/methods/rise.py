"""RISE (Petsiuk et al. 2018): the model is shown random parts of the image, and asked which of them helped."""

import torch
from torch import Tensor
from torch.nn import functional

from vitreous.errors import InputError
from vitreous.explanation.method import ExplainableModel, Maps
from vitreous.explanation.options import MethodOptions
from vitreous.explanation.perturbation import forward_unperturbed, perturbed_scores
from vitreous.explanation.streaming.attention_products import at_least_float32
from vitreous.explanation.targets import ClassTarget, Target
from vitreous.model.trace import Trace
from vitreous.runtime import generator

SAMPLES = 1000
"""RandomMasks, and so passes of the model for each image, where no number is asked for; the paper takes 4000 to 8000, in
which nothing falls out."""

CELLS = 7
"""Cells of a mask along the shorter side (Petsiuk et al. 2018, section 4)."""


def rise(model: ExplainableModel, images: Tensor, target: Target, settings: MethodOptions) -> Maps:
    """How much seeing each pixel raises the score: 2 (E[score · mask] - E[score] · ½), with random smooth masks.

    This is Petsiuk et al.'s equation 6 at p = ½ less the mean score, so that a pixel that makes no difference is at 0
    rather than at the mean, and one that hinders is below. The masks come in pairs that complete each other: each pixel
    is shown equally often, and what the pair has in common falls out, so far fewer masks are needed. A mask fades the
    image to the mean of the data. For a class the score is its probability, for other targets the target's own.

    Raises:
        InputError: fewer than 2 samples.
    """
    count = SAMPLES if settings.n_samples is None else settings.n_samples
    if count < 2 or count % 2:
        raise InputError(f"samples is {count}: give an even number, for masks come in pairs")
    asked = forward_unperturbed(model, images)
    fixed = _Certainty(target, asked.logits, asked.trace)
    masks = RandomMasks(count, (images.shape[2], images.shape[3]), settings.seed)

    def shown(start: int, stop: int) -> Tensor:
        return masks.drawn(start, stop).to(images)[:, None, None] * images

    total = torch.zeros_like(at_least_float32(images[:, 0]))
    for start, stop, found in perturbed_scores(asked, fixed, count, shown):
        total += torch.einsum("cb,chw->bhw", found.to(total), masks.drawn(start, stop).to(total) - 0.5)
    return Maps(total * (2 / count), asked.logits)


class RandomMasks:
    """Smooth random masks in [0, 1]: a coarse grid of zeros and ones, enlarged bilinearly and shifted at random.

    Mask 2k + 1 is what mask 2k leaves out.
    """

    def __init__(self, count: int, size_hw: tuple[int, int], seed: int) -> None:
        shorter = min(size_hw)
        self.size_hw = size_hw
        self.cell = max(1, -(-shorter // CELLS))
        self.grid_hw = tuple(-(-side // self.cell) + 1 for side in size_hw)
        random = generator(seed, "rise")
        self.coarse = torch.randint(0, 2, (count // 2, 1, *self.grid_hw), generator=random).float()
        self.shifts = torch.randint(0, self.cell, (count // 2, 2), generator=random).tolist()

    def drawn(self, start: int, stop: int) -> Tensor:
        """RandomMasks (stop - start, height, width), on the processor."""
        size = [side * self.cell for side in self.grid_hw]
        height, width = self.size_hw
        masks = []
        for number in range(start // 2, -(-stop // 2)):
            fine = functional.interpolate(self.coarse[number, None], size, mode="bilinear", align_corners=False)[0, 0]
            down, across = self.shifts[number]
            mask = fine[down : down + height, across : across + width]
            masks += [mask, 1 - mask]
        return torch.stack(masks[start % 2 : start % 2 + stop - start])


class _Certainty:
    """A target held fixed, read from probabilities where it is a class."""

    def __init__(self, target: Target, logits: Tensor, trace: Trace) -> None:
        self.fixed_target = target.detached(logits, trace)
        self.a_class = isinstance(target, ClassTarget) or getattr(self.fixed_target, "is_class", False)
        self.name = target.name

    def __call__(self, logits: Tensor, trace: Trace | None = None) -> Tensor:
        """Logits (batch, classes) to probabilities or perturbed_scores (batch)."""
        return self.fixed_target(logits.float().softmax(-1) if self.a_class else logits, trace)

    def detached(self, logits: Tensor, trace: Trace | None = None) -> Target:
        """Itself."""
        return self
