"""What a model says of labeled images, for the statistics of `evaluation`."""

from collections.abc import Callable

import torch
from torch import Tensor

from vitreous.data.image_set import ImageSet
from vitreous.data.loader import Normalize, inference_batch_size
from vitreous.errors import InputError
from vitreous.evaluation.report import Predictions, to_predictions
from vitreous.model.classifier import ImageClassifier
from vitreous.runtime import autocast

ImageTransform = Callable[[Tensor, int], Tensor]
"""Other images in the place of some, uint8 (count, channels, height, width), given the place of the first one."""


@torch.no_grad()
def predict_all(
    classifier: ImageClassifier,
    images: ImageSet,
    precision: str = "fp32",
    change: ImageTransform = lambda images_u8, first: images_u8,
) -> Predictions:
    """The answers of a model for images already at its size, changed on the way if `change` is given.

    Raises:
        InputError: the model answers with numbers that aren't finite.
    """
    normalize, logits = Normalize(classifier.preprocessing.mean, classifier.preprocessing.std), []
    step = inference_batch_size(images)
    for first in range(0, len(images), step):
        shown = change(images.images_u8[first : first + step], first).to(classifier.device)
        with autocast(classifier.device, precision):
            logits.append(classifier.model(normalize(shown)).float())
    answered = torch.cat(logits)
    if not answered.isfinite().all():
        raise InputError(f"the model answers with numbers that aren't finite (in {precision}): its weights are broken")
    return to_predictions(answered, images.labels)
