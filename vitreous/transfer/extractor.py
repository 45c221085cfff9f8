"""Compute feature vectors of a model's inputs: its pooled vector, or class token and patch mean of chosen layers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from vitreous.errors import InputError, unknown
from vitreous.explanation.observation.wrapped_model import WrappedModel
from vitreous.model.classifier import ImageClassifier
from vitreous.model.vit import ViT
from vitreous.runtime import autocast

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
            vectors = self._pooled(inputs) if self.features == ("pooled",) else self._of_layers(inputs)
        vectors = vectors.float().cpu()
        if not vectors.isfinite().all():
            raise InputError(f"the features are NaN or infinite (in {self.precision}): the model's weights are damaged")
        return vectors

    def _pooled(self, inputs: Tensor) -> Tensor:
        return self.classifier._features(inputs)  # what `ImageClassifier.embed` gives, of a batch of inputs

    def _of_layers(self, inputs: Tensor) -> Tensor:
        """Concatenate the features of each layer, in the order of `layers` and `features`."""
        model, found = self.classifier.model, _tokens(self.classifier.model, inputs, sorted(set(self.layers)))
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
    depth = _depth(classifier.model)
    numbers = [depth - 1] if layers is None else list(layers)
    if not numbers or any(not -depth <= layer < depth for layer in numbers):
        raise InputError(f"there are no layers {numbers}: the model has {depth}, counted from 0")
    numbers = [layer % depth for layer in numbers]
    if len(set(numbers)) < len(numbers):
        raise InputError(f"layers {numbers} name one twice: give each once")
    if "class-token" in features and not _has_class_token(classifier.model):
        raise InputError("this model has no class token: choose the features patch-mean or pooled")
    return FeatureExtractor(classifier, tuple(features), tuple(numbers), precision)


def _module(model: nn.Module) -> nn.Module:
    """Return the module that has the tokens; of transformers, the one without head."""
    module = model.module if isinstance(model, WrappedModel) else model
    prefix = getattr(module, "base_model_prefix", None)
    return getattr(module, prefix, module) if isinstance(prefix, str) and prefix else module


def _depth(model: nn.Module) -> int:
    """Return the number of layers of a model that shows its tokens.

    Raises:
        InputError: it doesn't.
    """
    module = _module(model)
    blocks = getattr(module, "blocks", None)
    if callable(getattr(module, "forward_intermediates", None)) and isinstance(blocks, nn.ModuleList | nn.Sequential):
        return len(blocks)
    depth = getattr(getattr(module, "config", None), "num_hidden_layers", None)
    if isinstance(depth, int):
        return depth
    raise InputError(
        f"{type(module).__name__} shows no tokens: it has neither timm's forward_intermediates nor transformers' "
        "last_hidden_state; choose the features 'pooled', or load it as a model of Vitreous"
    )


def _has_class_token(model: nn.Module) -> bool:
    if isinstance(model, ViT):
        return model.config.has_class_token
    module = _module(model)
    return getattr(getattr(module, "embeddings", module), "cls_token", None) is not None


def _tokens(model: nn.Module, inputs: Tensor, layers: list[int]) -> dict[int, tuple[Tensor, Tensor]]:
    """Compute the normalized patch tokens (batch, patches, width) and prefix tokens of layers in ascending order.

    Raises:
        InputError: a module of transformers is asked for another layer than the last, whose tokens aren't normalized.
    """
    module = _module(model)
    if callable(forward := getattr(module, "forward_intermediates", None)):
        pairs = forward(
            inputs, indices=layers, return_prefix_tokens=True, norm=True, output_fmt="NLC", intermediates_only=True
        )
        return dict(zip(layers, pairs, strict=True))
    assert isinstance(model, WrappedModel)
    if layers != [_depth(model) - 1]:
        raise InputError(
            f"of {type(module).__name__}, only the last layer's tokens are normalized: leave out the layers, or load "
            "it as a model of Vitreous (a folder or hf:OWNER/NAME)"
        )
    prefix = model.structure(inputs[:1]).layout.num_prefix_tokens
    tokens = module(inputs).last_hidden_state
    return {layers[0]: (tokens[:, prefix:], tokens[:, :prefix])}
