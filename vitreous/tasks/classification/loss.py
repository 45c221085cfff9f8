"""The loss of classification: cross-entropy, with soft labels, class weights and a teacher."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from vitreous.data.batch import Batch
from vitreous.data.class_weights import class_weights
from vitreous.data.image_set import ImageSet
from vitreous.tasks.task import LossSettings


def classification_loss(
    logits: Tensor, labels: Tensor, label_smoothing: float = 0.0, weights: Tensor | None = None
) -> Tensor:
    """Compute the mean cross-entropy in nats, in float32.

    Args:
        logits: (batch, classes).
        labels: int64 (batch), or the probability of each class (batch, classes).
        label_smoothing: s makes the target 1 − s for the label plus s / classes for each class (Szegedy et al. 2016,
            section 7).
        weights: (classes): makes a weighted mean, divided by the sum of the labels' weights.
    """
    if labels.is_floating_point() and weights is not None:  # torch would divide by the number of images
        total = functional.cross_entropy(
            logits.float(), labels, weights, label_smoothing=label_smoothing, reduction="sum"
        )
        return total / label_weights(labels, weights).sum()
    return functional.cross_entropy(logits.float(), labels, weights, label_smoothing=label_smoothing)


def label_weights(labels: Tensor, weights: Tensor) -> Tensor:
    """Return the weight of each image (batch) in a weighted mean, from the weights of the classes (classes).

    Args:
        labels: int64 (batch), or the probability of each class (batch, classes).
        weights: (classes).
    """
    return labels @ weights if labels.is_floating_point() else weights[labels]


def distillation_loss(
    logits: Tensor, teacher_logits: Tensor, temperature: float, weights: Tensor | None = None
) -> Tensor:
    """Compute the mean cross-entropy in nats between a model's softened logits and its teacher's, (batch, classes)
    each.

    It is multiplied by the temperature squared, so that its gradients don't shrink with the temperature (Hinton et al.
    2015, "Distilling the Knowledge in a Neural Network", section 2). With `weights` (batch), the mean is weighted.
    """
    targets = (teacher_logits.detach().float() / temperature).softmax(1)
    terms = functional.cross_entropy(logits.float() / temperature, targets, reduction="none") * temperature**2
    return terms.mean() if weights is None else (terms * weights).sum() / weights.sum()


@dataclass(frozen=True)
class ClassificationLoss:
    """The loss of a run.

    Attributes:
        label_smoothing: between 0 and 1.
        weights: of the classes (classes), on the device of the labels; None for equal ones.
    """

    label_smoothing: float = 0.0
    weights: Tensor | None = None

    def __call__(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Compute the (weighted) mean cross-entropy of a batch in nats from logits (batch, classes)."""
        return classification_loss(outputs, batch.labels, self.label_smoothing, self.weights)

    def weight(self, batch: Batch) -> float | Tensor:
        """Return the number of images of a batch, or the sum of their weights."""
        return len(batch) if self.weights is None else label_weights(batch.labels, self.weights).sum()

    def score(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Count the images that are classified correctly; of mixed ones, as the class that has the larger part."""
        classes = batch.labels.argmax(1) if batch.labels.is_floating_point() else batch.labels
        return (outputs.argmax(1) == classes).sum()

    def distill(
        self, outputs: Tensor, teacher_outputs: Tensor, batch: Batch, temperature: float
    ) -> tuple[Tensor, Tensor]:
        """Compute the mean distillation loss of a batch, and the teacher's cross-entropy, from both logits."""
        weights = None if self.weights is None else label_weights(batch.labels, self.weights)
        distilled = distillation_loss(outputs, teacher_outputs, temperature, weights)
        return distilled, classification_loss(teacher_outputs, batch.labels, weights=self.weights)


def make_loss(images: ImageSet, settings: LossSettings, device: torch.device) -> ClassificationLoss:
    """Make the loss for batches on a device; the numbers of training images decide the weights of balanced classes."""
    if settings.class_weights == "none":
        return ClassificationLoss(settings.label_smoothing)
    weights = class_weights(images.labels.bincount(minlength=len(images.class_names)))
    return ClassificationLoss(settings.label_smoothing, weights.to(device))
