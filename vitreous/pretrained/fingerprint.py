"""The fingerprint that tells whether a file was made with the same model."""

import hashlib
import json
from dataclasses import astuple

import torch

from vitreous.model.classifier import ImageClassifier


def weights_fingerprint(classifier: ImageClassifier) -> str:
    """Return 16 hexadecimal digits that identify a model's weights, whatever their names, and its preprocessing."""
    digests = [
        hashlib.sha256(weight.detach().cpu().flatten().view(torch.uint8).numpy().tobytes()).hexdigest()
        for weight in classifier.model.state_dict().values()
    ]
    text = json.dumps([astuple(classifier.preprocessing), *sorted(digests)])
    return hashlib.sha256(text.encode()).hexdigest()[:16]
