"""The doctor's findings for one image, and its outlier tokens, in the form that the page marks them."""

from dataclasses import asdict

import numpy as np

from vitreous.callbacks import Callback
from vitreous.diagnostics.doctor.checks_tokens import outliers_by_layer
from vitreous.diagnostics.doctor.measure import collect_statistics
from vitreous.diagnostics.doctor.run import diagnose
from vitreous.model.classifier import ImageClassifier
from vitreous.web.jobs import JobResult


def export_diagnosis(classifier: ImageClassifier, image_u8: np.ndarray, callback: Callback) -> JobResult:
    """Diagnose a model on one image (uint8, height, width, 3), as `doctor` does.

    Returns:
        The findings, faults first, and after each block the outlier tokens as numbers of patches, row by row; None for
        a wrapped model, which doesn't expose its tokens.

    Raises:
        InputError: the attention of the model can't be observed.
    """
    statistics = collect_statistics(classifier, [image_u8], callback)
    findings = [asdict(one) for one in diagnose(statistics)]
    for one in findings:
        del one["values"]  # the numbers behind the message, which the page doesn't use
    norms = statistics.images[0].norms
    outliers = [np.flatnonzero(layer).tolist() for layer in outliers_by_layer(norms)] if norms.size else None
    return JobResult({"findings": findings, "outliers": outliers})
