"""Predictions of a model for a set of labeled images, as the statistics of `vitreous.evaluation` take them."""

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
"""Maps images, uint8 (count, channels, height, width), and the index of the first of them in the whole set to as many
transformed images."""


@torch.no_grad()
def predict_all(
    classifier: ImageClassifier, images: ImageSet, precision: str = "fp32", transform: ImageTransform | None = None
) -> Predictions:
    """Predict a set of images in batches.

    Args:
        classifier: the model.
        images: images at the model's input size.
        precision: "fp32" or "bf16".
        transform: applied to each batch before normalization.

    Raises:
        InputError: the logits are not finite.
    """
    normalize, logits = Normalize(classifier.preprocessing.mean, classifier.preprocessing.std), []
    batch_size = inference_batch_size(images)
    for start in range(0, len(images), batch_size):
        batch = images.images_u8[start : start + batch_size]
        batch = (batch if transform is None else transform(batch, start)).to(classifier.device)
        with autocast(classifier.device, precision):
            logits.append(classifier.model(normalize(batch)).float())
    found = torch.cat(logits)
    if not found.isfinite().all():
        raise InputError(f"the model's logits are not finite (in {precision}): its weights are damaged")
    return to_predictions(found, images.labels)
