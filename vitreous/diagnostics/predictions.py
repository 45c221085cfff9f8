"""What a model says of labeled images, for the statistics of `evaluation`."""

from collections.abc import Callable

import torch
from torch import Tensor

from vitreous.data.image_set import ImageSet
from vitreous.data.loader import Normalize, at_once
from vitreous.errors import InputError
from vitreous.evaluation.report import Answers, answers
from vitreous.model.classifier import Classifier
from vitreous.runtime import autocast

Change = Callable[[Tensor, int], Tensor]
"""Other images in the place of some, uint8 (count, channels, height, width), given the place of the first one."""


@torch.no_grad()
def answers_for(
    classifier: Classifier,
    images: ImageSet,
    precision: str = "fp32",
    change: Change = lambda images_u8, first: images_u8,
) -> Answers:
    """The answers of a model for images already at its size, changed on the way if `change` is given.

    Raises:
        InputError: the model answers with numbers that aren't finite.
    """
    normalize, logits = Normalize(classifier.preprocessing.mean, classifier.preprocessing.std), []
    step = at_once(images)
    for first in range(0, len(images), step):
        shown = change(images.images_u8[first : first + step], first).to(classifier.device)
        with autocast(classifier.device, precision):
            logits.append(classifier.vit(normalize(shown)).float())
    answered = torch.cat(logits)
    if not answered.isfinite().all():
        raise InputError(f"the model answers with numbers that aren't finite (in {precision}): its weights are broken")
    return answers(answered, images.labels)
