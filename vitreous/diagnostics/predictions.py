"""The outputs of a model for a set of images, and the predictions of a classifier."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from vitreous.callbacks import Callback, Progress
from vitreous.data.image_set import ImageSet
from vitreous.data.loader import Normalize, inference_batch_size
from vitreous.errors import InputError
from vitreous.evaluation.report import Predictions
from vitreous.model.classifier import ImageClassifier
from vitreous.runtime import autocast
from vitreous.tasks.classification.evaluation import predictions_of
from vitreous.tasks.classification.task import CLASSIFICATION
from vitreous.tasks.task import Outputs

ImageTransform = Callable[[Tensor, int], Tensor]
"""Maps images, uint8 (count, channels, height, width), and the index of the first of them in the whole set to as many
transformed images."""


@dataclass
class ImageCounter:
    """Counts the images that have gone through a model, and reports the progress after each batch."""

    total: int
    callback: Callback
    done: int = 0

    def advance(self, images: int) -> None:
        """Count the images of a batch."""
        self.done += images
        self.callback.on_progress(Progress(self.done, self.total, f"image {self.done:,} of {self.total:,}"))


@torch.no_grad()
def compute_outputs(
    classifier: ImageClassifier,
    images: ImageSet,
    precision: str = "fp32",
    transform: ImageTransform | None = None,
    counter: ImageCounter | None = None,
) -> Outputs:
    """Run a model on a set of images, in batches.

    Args:
        classifier: the model.
        images: images at the model's input size.
        precision: "fp32" or "bf16".
        transform: applied to each batch before normalization.
        counter: reports the progress.

    Raises:
        InputError: an output is not finite.
    """
    normalize, outputs = Normalize(classifier.preprocessing.mean, classifier.preprocessing.std), []
    batch_size = inference_batch_size(images)
    for start in range(0, len(images), batch_size):
        batch = images.images_u8[start : start + batch_size]
        batch = (batch if transform is None else transform(batch, start)).to(classifier.device)
        with autocast(classifier.device, precision):
            outputs.append(classifier.model(normalize(batch)).float())
        if counter is not None:
            counter.advance(len(batch))
    found = torch.cat(outputs)
    if not found.isfinite().all():
        raise InputError(f"the model's outputs are not finite (in {precision}): its weights are damaged")
    return Outputs(found.cpu(), images)


def predict_all(
    classifier: ImageClassifier,
    images: ImageSet,
    precision: str = "fp32",
    transform: ImageTransform | None = None,
    counter: ImageCounter | None = None,
) -> Predictions:
    """Classify a set of images, with the arguments of `compute_outputs`.

    Raises:
        InputError: an output is not finite, the model is no classifier, or its classes don't exclude each other.
    """
    check_classifier(classifier)
    CLASSIFICATION.check_model(classifier)
    return predictions_of(classifier, compute_outputs(classifier, images, precision, transform, counter))


def check_classifier(classifier: ImageClassifier) -> None:
    """Refuse a model of another task than classification.

    Raises:
        InputError: it is one.
    """
    if classifier.task != CLASSIFICATION.name:
        raise InputError(f"this measures classifiers, and the model's task is {classifier.task}: choose another model")
