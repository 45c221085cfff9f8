"""Images under examination: what is asked of the model about them, and the maps that are to be judged."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vitreous.explanation.faithfulness.asking import Asked
from vitreous.explanation.faithfulness.patch_maps import BASELINES, baseline_map, patch_maps
from vitreous.explanation.method import Model
from vitreous.explanation.targets import Along, Feature, Predicted, Target
from vitreous.runtime import generator
from vitreous.tasks.classification import Classifier


@dataclass(frozen=True)
class Subject:
    """A batch of images that a model sees at one size."""

    numbers: Sequence[int]
    """Each image's number in the data: its random draws hang on that, and not on its place in the batch."""
    asked: Asked
    seed: int

    def maps(self, method: str, model: Model | None = None, stage: str = "trained") -> tuple[np.ndarray, bool]:
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
        target: Target = Feature() if asks_anew else self.asked.target
        return patch_maps(model or self.asked.model, self.asked.inputs, method, target, self.asked.grid_hw)

    def drawn(self, purpose: str, draw: Callable[[torch.Generator], Tensor]) -> Tensor:
        """Random numbers for a purpose, each image's own, on the device: (images, ...)."""
        return torch.stack([draw(generator(self.seed, purpose, number)) for number in self.numbers]).to(
            self.asked.inputs.device
        )


def subject(
    classifier: Classifier,
    images: Sequence[np.ndarray],
    numbers: Sequence[int],
    labels: Sequence[int] | None = None,
    seed: int = 0,
) -> Subject:
    """Images (uint8 (height, width, 3), all alike) under examination for the predicted class, or for these labels.

    A model without classes is examined for its own vector's direction.
    """
    inputs = torch.stack([classifier.prepare(image)[0] for image in images])
    with torch.no_grad():
        logits = classifier.vit(inputs)
    if labels is not None:
        chosen = torch.tensor(list(labels), device=logits.device)[:, None]
        target: Target = Along(torch.zeros_like(logits).scatter_(1, chosen, 1), "true class", is_class=True)
    else:
        target = (Predicted() if classifier.class_names else Feature()).fixed(logits)
    assert isinstance(target, Along)
    patch = unit_side((inputs.shape[2], inputs.shape[3]), classifier.preprocessing.multiple)
    return Subject(numbers, Asked(classifier.vit, inputs, target, patch, bool(classifier.class_names)), seed)


def unit_side(size_hw: tuple[int, int], patch: int) -> int:
    """The side in pixels of what is removed at a time: a patch, or for a model without any about a 14th of a side.

    >>> unit_side((224, 336), 16), unit_side((224, 336), 1)
    (16, 16)
    """
    if patch > 1:
        return patch
    return max(side for side in range(1, max(2, min(size_hw) // 14 + 1)) if math.gcd(*size_hw) % side == 0)
