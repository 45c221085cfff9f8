"""Fingerprints that tell whether a video of a folder was written from the same file, by the same model and request."""

import hashlib
from functools import cached_property
from pathlib import Path

import torch

from vitreous.clips.legacy_fingerprint import legacy_fingerprint, legacy_model_fingerprint
from vitreous.clips.request import VideoRequest
from vitreous.model.classifier import ImageClassifier
from vitreous.model.vit import ViT


class ModelFingerprint:
    """The part of the fingerprints that belongs to the model; hashing takes 0.3 s per 100 million parameters."""

    def __init__(self, classifier: ImageClassifier) -> None:
        self._classifier = classifier

    @cached_property
    def current(self) -> str:
        """A hash of the model's name, configuration, preprocessing, class names and weights."""
        classifier = self._classifier
        config = classifier.model.config if isinstance(classifier.model, ViT) else None
        parts = (classifier.origin, config, classifier.preprocessing, classifier.class_names)
        digest = hashlib.sha256(repr(parts).encode())
        for name, weight in classifier.model.state_dict().items():
            digest.update(f"{name} {weight.dtype} {tuple(weight.shape)}".encode())
            digest.update(weight.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
        return digest.hexdigest()

    @cached_property
    def legacy(self) -> str:
        """The hash that version 0.1.0 computed."""
        return legacy_model_fingerprint(self._classifier)


class ClipFingerprint:
    """Identifies a video file (by size and modification time), a model, a request and the output's name."""

    def __init__(self, source: Path, output_name: str, request: VideoRequest, model: ModelFingerprint) -> None:
        stat = source.stat()
        self._file, self._request, self._output_name = (stat.st_size, stat.st_mtime_ns), request, output_name
        self._model = model

    @cached_property
    def current(self) -> str:
        """The fingerprint that new records hold."""
        parts = (*self._file, self._model.current, self._request, self._output_name)
        return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]

    def matches(self, record: dict[str, object]) -> bool:
        """Return whether a record was written for the same file, model, request and output name."""
        if "fingerprint" in record:
            return record["fingerprint"] == self.current
        if "request" not in record:
            return False
        legacy = legacy_fingerprint(*self._file, self._model.legacy, self._request, self._output_name)
        return record["request"] == legacy
