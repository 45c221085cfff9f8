"""Predictions of a model for many variants of a few images, with some patches removed from each."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from vitreous.diagnostics.faithfulness.imputation import Fill
from vitreous.explanation.method import ExplainableModel
from vitreous.explanation.patch_maps import BASELINES, baseline_map, patch_maps
from vitreous.model.classifier import ImageClassifier
from vitreous.model.output_scores import apply_function
from vitreous.runtime import generator
from vitreous.tasks.classification.targets import PredictedClassTarget
from vitreous.tasks.targets import DirectionTarget, FeatureNormTarget, Target

BATCH_PIXELS = {"cpu": 2**17, "cuda": 2**24}
"""Pixels per batch: 128 images of 32 × 32 on a CPU, where more bring no speed; 334 of 224 × 224 on a GPU."""


@dataclass(frozen=True)
class PerturbedOutputs:
    """Outputs for variants of images; each is float64 (images, variants)."""

    value: Tensor
    """Probability of the target class; for a model without classes, the score over that of the original image."""
    score: Tensor
    """The target's logit; for a model without classes, the projection of the features on those of the original."""
    is_predicted: Tensor
    """1 where the target is the most probable class, else 0; zeros for a model without classes."""


@dataclass
class PerturbedPredictor:
    """A model and a few images, of which it predicts variants."""

    model: ExplainableModel
    inputs: Tensor
    """Preprocessed images (images, channels, height, width)."""
    target: DirectionTarget
    """One direction per image, (images, classes): one at the target class."""
    patch_size: int
    """Side of a patch in pixels."""
    has_classes: bool = True
    function_to_apply: str = "softmax"
    """What turns outputs into scores."""
    batch_size: int = field(default=0)
    """Variants per forward pass; 0 for the default."""

    @property
    def grid_size(self) -> tuple[int, int]:
        """Rows and columns of patches."""
        return self.inputs.shape[2] // self.patch_size, self.inputs.shape[3] // self.patch_size

    @torch.no_grad()
    def original_score(self) -> Tensor:
        """Return the target's score on the original images: (images, 1)."""
        return self.target(self.model(self.inputs))[:, None]

    @torch.no_grad()
    def predict(self, kept: Tensor, fill: Fill) -> PerturbedOutputs:
        """Predict variants in which only some patches are kept.

        Args:
            kept: bool (images, variants, patches).
            fill: fills the removed pixels.
        """
        images, variants, patches = kept.shape
        assert images == len(self.inputs) and patches == self.grid_size[0] * self.grid_size[1], kept.shape
        indexes = torch.arange(images, device=kept.device).repeat_interleave(variants)
        logits = self._logits(indexes, kept.flatten(0, 1), fill)
        directions = self.target.directions[indexes].to(logits)
        score = (logits * directions).sum(1)
        if self.has_classes:
            value = (apply_function(logits, self.function_to_apply) * directions).sum(1)
            # A single output is predicted where it is more probable than not.
            predicted = value > 0.5 if logits.shape[1] == 1 else logits.argmax(1) == directions.argmax(1)
            is_predicted = predicted.to(score)
        else:
            value, is_predicted = score / self.original_score().flatten()[indexes], torch.zeros_like(score)
        return PerturbedOutputs(*(one.view(images, variants) for one in (value, score, is_predicted)))

    def _logits(self, indexes: Tensor, kept: Tensor, fill: Fill) -> Tensor:
        """Compute logits (rows, classes); if a batch doesn't fit into GPU memory, the batch size is halved for good."""
        height, width = self.inputs.shape[2:]
        self.batch_size = self.batch_size or max(1, BATCH_PIXELS[self.inputs.device.type] // (height * width))
        found: list[Tensor] = []
        done = 0
        while done < len(indexes):
            rows = slice(done, done + self.batch_size)
            try:
                found.append(self.model(fill(indexes[rows], self.to_pixels(kept[rows]))).double())
            except torch.OutOfMemoryError:
                if self.batch_size == 1:
                    raise
                self.batch_size = max(1, self.batch_size // 2)
                continue
            done += self.batch_size
        return torch.cat(found)

    def to_pixels(self, kept: Tensor) -> Tensor:
        """Expand a mask of patches, bool (rows, patches), to pixels: bool (rows, height, width)."""
        rows, columns = self.grid_size
        mask = kept.view(-1, rows, columns)
        return mask.repeat_interleave(self.patch_size, 1).repeat_interleave(self.patch_size, 2)


@dataclass(frozen=True)
class EvaluatedBatch:
    """A batch of images of one size whose maps are evaluated."""

    indexes: Sequence[int]
    """Index of each image in the data. Random numbers depend on it, so they don't depend on the batch."""
    predictor: PerturbedPredictor
    seed: int

    def patch_maps(
        self, method: str, model: ExplainableModel | None = None, stage: str = "trained"
    ) -> tuple[np.ndarray, bool]:
        """Compute the maps of a method or a baseline.

        Args:
            method: name of the method or baseline.
            model: a copy with randomized weights; the model itself by default.
            stage: which weights of the copy are randomized.

        Returns:
            float64 (images, patches), and whether the maps are signed.

        Raises:
            InputError: the method can't explain this model.
        """
        predictor = self.predictor
        if method in BASELINES:
            maps = [baseline_map(method, predictor.grid_size, self.seed, index, stage) for index in self.indexes]
            return np.stack(maps), False
        # Features of a model with other weights have nothing to do with a direction of the original features.
        is_undirected = model is not None and not predictor.has_classes
        target: Target = FeatureNormTarget() if is_undirected else predictor.target
        return patch_maps(model or predictor.model, predictor.inputs, method, target, predictor.grid_size)

    def random(self, purpose: str, draw: Callable[[torch.Generator], Tensor]) -> Tensor:
        """Draw random numbers for a purpose, of each image's own, on the device: (images, ...)."""
        drawn = [draw(generator(self.seed, purpose, index)) for index in self.indexes]
        return torch.stack(drawn).to(self.predictor.inputs.device)


def prepare_batch(
    classifier: ImageClassifier,
    images: Sequence[np.ndarray],
    indexes: Sequence[int],
    labels: Sequence[int] | None = None,
    seed: int = 0,
) -> EvaluatedBatch:
    """Preprocess images and fix the target of each.

    Args:
        classifier: the model. Without classes, the target is the direction of each image's features.
        images: uint8 (height, width, 3), all of one size.
        indexes: of the images in the data.
        labels: the target classes; the predicted ones by default.
        seed: of all random numbers.
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
    patch_size = cell_size((inputs.shape[2], inputs.shape[3]), classifier.preprocessing.patch_size)
    predictor = PerturbedPredictor(
        classifier.model, inputs, target, patch_size, has_probabilities(classifier), classifier.function_to_apply
    )
    return EvaluatedBatch(indexes, predictor, seed)


def has_probabilities(classifier: ImageClassifier) -> bool:
    """Return whether a model's scores are probabilities of classes, not features or the values of a regression."""
    return bool(classifier.class_names) and classifier.problem_type != "regression"


def cell_size(input_size: tuple[int, int], patch_size: int) -> int:
    """Return the side in pixels of the cells that are removed: a patch, or about 1/14 of a side without patches.

    >>> cell_size((224, 336), 16), cell_size((224, 336), 1)
    (16, 16)
    """
    if patch_size > 1:
        return patch_size
    largest = max(2, min(input_size) // 14 + 1)
    return max(side for side in range(1, largest) if math.gcd(*input_size) % side == 0)
