"""Asking a model about very many variants of a few images, from each of which patches were removed."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from vitreous.diagnostics.faithfulness.imputation import Filling
from vitreous.explanation.method import ExplainableModel
from vitreous.explanation.patch_maps import BASELINES, baseline_map, patch_maps
from vitreous.explanation.targets import DirectionTarget, FeatureNormTarget, PredictedClassTarget, Target
from vitreous.model.classifier import ImageClassifier
from vitreous.runtime import generator

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

    model: ExplainableModel
    inputs: Tensor
    """Prepared images (images, channels, height, width)."""
    target: DirectionTarget
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


@dataclass(frozen=True)
class Subject:
    """A batch of images that a model sees at one size."""

    numbers: Sequence[int]
    """Each image's number in the data: its random draws hang on that, and not on its place in the batch."""
    asked: Asked
    seed: int

    def maps(
        self, method: str, model: ExplainableModel | None = None, stage: str = "trained"
    ) -> tuple[np.ndarray, bool]:
        """A method's or a baseline's maps, float64 (images, patches), and whether they are signed.

        Of the model itself, or of a randomized copy and the stage that it is at.

        Raises:
            InputError: the method can't explain this model.
        """
        if method in BASELINES:
            drawn = [baseline_map(method, self.asked.grid_hw, self.seed, number, stage) for number in self.numbers]
            return np.stack(drawn), False
        # A vector without classes has no direction in common with that of a model with other weights.
        asks_anew = model is not None and not self.asked.has_classes
        target: Target = FeatureNormTarget() if asks_anew else self.asked.target
        return patch_maps(model or self.asked.model, self.asked.inputs, method, target, self.asked.grid_hw)

    def drawn(self, purpose: str, draw: Callable[[torch.Generator], Tensor]) -> Tensor:
        """Random numbers for a purpose, each image's own, on the device: (images, ...)."""
        return torch.stack([draw(generator(self.seed, purpose, number)) for number in self.numbers]).to(
            self.asked.inputs.device
        )


def subject(
    classifier: ImageClassifier,
    images: Sequence[np.ndarray],
    numbers: Sequence[int],
    labels: Sequence[int] | None = None,
    seed: int = 0,
) -> Subject:
    """Images (uint8 (height, width, 3), all alike) under examination for the predicted class, or for these labels.

    A model without classes is examined for its own vector's direction.
    """
    inputs = torch.stack([classifier.preprocess(image)[0] for image in images])
    with torch.no_grad():
        logits = classifier.model(inputs)
    if labels is not None:
        chosen = torch.tensor(list(labels), device=logits.device)[:, None]
        target: Target = DirectionTarget(torch.zeros_like(logits).scatter_(1, chosen, 1), "true class", is_class=True)
    else:
        target = (PredictedClassTarget() if classifier.class_names else FeatureNormTarget()).detached(logits)
    assert isinstance(target, DirectionTarget)
    patch = unit_side((inputs.shape[2], inputs.shape[3]), classifier.preprocessing.patch_size)
    return Subject(numbers, Asked(classifier.model, inputs, target, patch, bool(classifier.class_names)), seed)


def unit_side(size_hw: tuple[int, int], patch: int) -> int:
    """The side in pixels of what is removed at a time: a patch, or for a model without any about a 14th of a side.

    >>> unit_side((224, 336), 16), unit_side((224, 336), 1)
    (16, 16)
    """
    if patch > 1:
        return patch
    return max(side for side in range(1, max(2, min(size_hw) // 14 + 1)) if math.gcd(*size_hw) % side == 0)
