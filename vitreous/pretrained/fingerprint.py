"""The fingerprints that tell whether a file was made with the same model."""

import hashlib
import json
from dataclasses import astuple

import torch
from torch import nn

from vitreous.model.classifier import ImageClassifier
from vitreous.model.vit import ViT
from vitreous.records import to_dict


def weights_fingerprint(classifier: ImageClassifier) -> str:
    """Return 16 hexadecimal digits that identify a model's weights, whatever their names, and its preprocessing."""
    return _fingerprint(classifier.model, [astuple(classifier.preprocessing)])


def features_fingerprint(classifier: ImageClassifier) -> str:
    """Return 16 hexadecimal digits that identify a model's weights, its preprocessing and how it computes features.

    Of wrapped modules only the weights are known.
    """
    config = [to_dict(classifier.vit.config)] if isinstance(classifier.model, ViT) else []
    return _fingerprint(classifier.model, [astuple(classifier.preprocessing), *config])


def parameters_fingerprint(model: nn.Module) -> str:
    """Return 16 hexadecimal digits that identify a model's weights, whatever their names."""
    return _fingerprint(model, [])


def _fingerprint(model: nn.Module, others: list[object]) -> str:
    digests = [
        hashlib.sha256(weight.detach().cpu().flatten().view(torch.uint8).numpy().tobytes()).hexdigest()
        for weight in model.state_dict().values()
    ]
    text = json.dumps([*others, *sorted(digests)])
    return hashlib.sha256(text.encode()).hexdigest()[:16]
