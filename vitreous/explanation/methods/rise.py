"""RISE (Petsiuk et al. 2018): the correlation between the score and which parts of the image are visible."""

import torch
from torch import Tensor
from torch.nn import functional

from vitreous.errors import InputError
from vitreous.explanation.method import ExplainableModel, Maps
from vitreous.explanation.options import MethodOptions
from vitreous.explanation.perturbation import forward_unperturbed, perturbed_scores
from vitreous.explanation.streaming.attention_products import at_least_float32
from vitreous.model.trace import Trace
from vitreous.runtime import generator
from vitreous.tasks.targets import Target

DEFAULT_MASKS = 1000
"""Number of masks, and so of forward passes for each image. The paper takes 4000 to 8000, without pairs of masks."""

MASK_CELLS = 7
"""Cells of a mask along the shorter side (Petsiuk et al. 2018, section 4)."""


def rise(model: ExplainableModel, images: Tensor, target: Target, options: MethodOptions) -> Maps:
    """Compute 2 (E[score · mask] - E[score] · ½) for each pixel, with random smooth masks.

    This is equation 6 of Petsiuk et al. at p = ½ less the mean score, so that a pixel that makes no difference is at 0
    rather than at the mean, and one that lowers the score is below. Masks come in pairs that add to 1: each pixel is
    visible equally often, and what both masks of a pair have in common cancels, so far fewer masks are needed. A mask
    fades the image to the mean color of the training data. For a class, the score is its probability.

    Args:
        model: any model; only its output is used.
        images: (batch, channels, height, width), normalized.
        target: the score that is explained.
        options: n_samples and seed.

    Raises:
        InputError: the number of samples is odd or below 2.
    """
    count = DEFAULT_MASKS if options.n_samples is None else options.n_samples
    if count < 2 or count % 2:
        raise InputError(f"n_samples is {count}: give an even number, because masks come in pairs")
    unperturbed = forward_unperturbed(model, images)
    probability = _ProbabilityTarget(target, unperturbed.logits, unperturbed.trace)
    masks = RandomMasks(count, (images.shape[2], images.shape[3]), options.seed)

    def masked(start: int, stop: int) -> Tensor:
        return masks.between(start, stop).to(images)[:, None, None] * images

    total = torch.zeros_like(at_least_float32(images[:, 0]))
    for start, stop, scores in perturbed_scores(unperturbed, probability, count, masked):
        total += torch.einsum("cb,chw->bhw", scores.to(total), masks.between(start, stop).to(total) - 0.5)
    return Maps(total * (2 / count), unperturbed.logits)


class RandomMasks:
    """Smooth random masks in [0, 1]: a coarse grid of zeros and ones, upsampled bilinearly and shifted at random.

    Mask 2k + 1 is 1 minus mask 2k.
    """

    def __init__(self, count: int, size_hw: tuple[int, int], seed: int) -> None:
        shorter = min(size_hw)
        self.size_hw = size_hw
        self.cell = max(1, -(-shorter // MASK_CELLS))
        self.grid_hw = tuple(-(-side // self.cell) + 1 for side in size_hw)
        random = generator(seed, "rise")
        self.coarse = torch.randint(0, 2, (count // 2, 1, *self.grid_hw), generator=random).float()
        self.shifts = torch.randint(0, self.cell, (count // 2, 2), generator=random).tolist()

    def between(self, start: int, stop: int) -> Tensor:
        """Return the masks from `start` to before `stop`: (stop - start, height, width), on the CPU."""
        size = [side * self.cell for side in self.grid_hw]
        height, width = self.size_hw
        masks = []
        for number in range(start // 2, -(-stop // 2)):
            fine = functional.interpolate(self.coarse[number, None], size, mode="bilinear", align_corners=False)[0, 0]
            down, across = self.shifts[number]
            mask = fine[down : down + height, across : across + width]
            masks += [mask, 1 - mask]
        return torch.stack(masks[start % 2 : start % 2 + stop - start])


class _ProbabilityTarget:
    """A detached target that reads probabilities instead of logits if it is a class."""

    def __init__(self, target: Target, logits: Tensor, trace: Trace) -> None:
        self.target = target.detached(logits, trace)
        self.is_class = getattr(self.target, "is_class", False)
        self.name = target.name

    def __call__(self, logits: Tensor, trace: Trace | None = None) -> Tensor:
        """Map logits (batch, classes) to probabilities or scores (batch)."""
        return self.target(logits.float().softmax(-1) if self.is_class else logits, trace)

    def detached(self, logits: Tensor, trace: Trace | None = None) -> Target:
        """Return itself."""
        return self
