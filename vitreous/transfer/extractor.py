"""Compute feature vectors of a model's inputs: its pooled vector, or class token and patch mean of chosen layers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from vitreous.errors import InputError, unknown
from vitreous.model.classifier import ImageClassifier
from vitreous.model.vit import ViT
from vitreous.runtime import autocast
from vitreous.transfer.tokens import count_layers, has_class_token, normalized_tokens

Feature = Literal["pooled", "class-token", "patch-mean"]
"""pooled: the vector that the head reads, as `ImageClassifier.embed` gives it; class-token, patch-mean: of a layer."""
FEATURES: tuple[str, ...] = get_args(Feature)


@dataclass(frozen=True)
class FeatureExtractor:
    """Maps a model's inputs to feature vectors.

    Attributes:
        classifier: the model.
        features: names in FEATURES; "pooled" stands alone.
        layers: counted from 0, in the order of the vector; empty for "pooled".
        precision: "fp32" or "bf16".
    """

    classifier: ImageClassifier
    features: tuple[str, ...]
    layers: tuple[int, ...]
    precision: str

    @torch.no_grad()
    def __call__(self, inputs: Tensor) -> Tensor:
        """Map inputs (batch, channels, height, width) on any device to float32 (batch, width) on the CPU."""
        weight = next(self.classifier.model.parameters())
        inputs = inputs.to(weight.device, weight.dtype)
        with autocast(weight.device, self.precision):
            is_pooled = self.features == ("pooled",)
            vectors = self.classifier.embed_inputs(inputs) if is_pooled else self._of_layers(inputs)
        vectors = vectors.float().cpu()
        if not vectors.isfinite().all():
            raise InputError(f"the features are NaN or infinite (in {self.precision}): the model's weights are damaged")
        return vectors

    def _of_layers(self, inputs: Tensor) -> Tensor:
        """Concatenate the features of each layer, in the order of `layers` and `features`."""
        model = self.classifier.model
        found = normalized_tokens(model, inputs, sorted(self.layers))
        fc_norm = model.fc_norm if isinstance(model, ViT) else nn.Identity()
        parts = []
        for layer in self.layers:
            patches, prefix = found[layer]
            vectors = {"class-token": lambda p=prefix: p[:, 0], "patch-mean": lambda p=patches: p.mean(1)}
            parts += [fc_norm(vectors[name]()) for name in self.features]
        return torch.cat(parts, -1)


def build_extractor(
    classifier: ImageClassifier, features: Sequence[str], layers: Sequence[int] | None, precision: str
) -> FeatureExtractor:
    """Check that a model has the features of these layers.

    Args:
        classifier: the model.
        features: names in FEATURES.
        layers: counted from 0, negative ones from the end; None for the last one.
        precision: "fp32" or "bf16".

    Raises:
        InputError: there is no such feature or layer, or the model doesn't show its tokens.
    """
    for name in features:
        if name not in FEATURES:
            raise unknown("feature", name, FEATURES)
    if not features or len(set(features)) < len(features):
        raise InputError(f"features '{','.join(features)}' are invalid: give each name once, of {', '.join(FEATURES)}")
    if "pooled" in features:
        if len(features) > 1 or layers is not None:
            raise InputError("'pooled' is the vector that the head reads: give it alone, or class-token, patch-mean")
        return FeatureExtractor(classifier, ("pooled",), (), precision)
    depth = count_layers(classifier.model)
    numbers = [depth - 1] if layers is None else list(layers)
    if not numbers or any(not -depth <= layer < depth for layer in numbers):
        raise InputError(f"there are no layers {numbers}: the model has {depth}, counted from 0")
    numbers = [layer % depth for layer in numbers]
    if len(set(numbers)) < len(numbers):
        raise InputError(f"layers {numbers} name one twice: give each once")
    if "class-token" in features and not has_class_token(classifier.model):
        raise InputError("this model has no class token: choose the features patch-mean or pooled")
    return FeatureExtractor(classifier, tuple(features), tuple(numbers), precision)
