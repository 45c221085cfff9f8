"""What compares the patches of two images: their tokens for the page, and principal components that both share."""

from dataclasses import replace

import numpy as np
import torch
from torch.nn import functional

from vitreous.errors import InputError
from vitreous.explanation.attribute import as_observable
from vitreous.explanation.explain import ExplainTask
from vitreous.explanation.methods.features import JointPCA, patch_features
from vitreous.model.classifier import ImageClassifier
from vitreous.web.jobs.queue import JobResult


def export_tokens(classifier: ImageClassifier, image_u8: np.ndarray, layer: int) -> JobResult:
    """Run the model and return the patch tokens of a block as vectors of length 1: their products are cosines.

    The data are float16 (rows, columns, width); a product of two differs from the cosine by less than 1e-3.

    Args:
        classifier: the model.
        image_u8: uint8 (height, width, 3).
        layer: the block, counted from 0, or from the end if it is negative.

    Raises:
        InputError: there is no such layer, or the tokens can't be observed.
    """
    observable = as_observable(classifier)
    pixels, _ = classifier.preprocess(image_u8)
    with torch.inference_mode(False), torch.no_grad():
        tokens = functional.normalize(patch_features(observable, pixels[None], layer)[0], dim=-1)
    rows, columns, width = tokens.shape
    data = tokens.half().cpu().numpy().tobytes()
    return JobResult({"rows": rows, "columns": columns, "width": width, "layer": layer}, data)


def share_components(task: ExplainTask, classifier: ImageClassifier, other_u8: np.ndarray) -> ExplainTask:
    """Return the task with principal components that are fitted to its image together with another one.

    Args:
        task: of the method `features` with the view "colors".
        classifier: the model.
        other_u8: the other image, uint8 (height, width, 3).

    Raises:
        InputError: the task is another one.
    """
    if task.method_name != "features" or task.options.view != "colors":
        raise InputError("two images share principal components only: choose method 'features' with view 'colors'")
    pixels, _ = classifier.preprocess(other_u8)
    return replace(task, method=replace(task.method, attribute=JointPCA(pixels[None])))
