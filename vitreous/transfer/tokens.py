"""The tokens of a model's layers after its final normalization, as timm's and transformers' modules give them."""

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vitreous.errors import InputError
from vitreous.explanation.observation.wrapped_model import WrappedModel
from vitreous.model.vit import ViT

LayerTokens = dict[int, tuple[Tensor, Tensor]]
"""For each layer its patch tokens (batch, patches, width) and its prefix tokens (batch, prefix, width)."""
MANY_LAYERS = (
    "ViT, DeiT, DINOv2, DINOv3, BEiT and SigLIP of transformers, or a module with timm's forward_intermediates"
)
"""Wrapped models that show the tokens of every layer."""


def find_module(model: nn.Module) -> nn.Module:
    """Return the module that has the tokens; of transformers, the one without head."""
    module = model.module if isinstance(model, WrappedModel) else model
    prefix = getattr(module, "base_model_prefix", None)
    is_trunk = hasattr(module, "embeddings")  # DINOv3's has a part of that name itself
    return module if is_trunk or not isinstance(prefix, str) or not prefix else getattr(module, prefix, module)


def has_class_token(model: nn.Module) -> bool:
    """Whether a model has a class token, which is the first of its prefix tokens."""
    if isinstance(model, ViT):
        return model.config.has_class_token
    module = find_module(model)
    names = ("cls_token", "class_embedding")  # the latter in CLIP
    return any(getattr(getattr(module, "embeddings", module), name, None) is not None for name in names)


def count_layers(model: nn.Module) -> int:
    """Return the number of layers of a model that shows its tokens.

    Raises:
        InputError: it doesn't.
    """
    module = find_module(model)
    if _has_intermediates(module):
        return len(module.blocks)  # ty: ignore[invalid-argument-type]
    depth = getattr(getattr(module, "config", None), "num_hidden_layers", None)
    if isinstance(depth, int) and isinstance(model, WrappedModel):
        return depth
    raise InputError(
        f"{type(module).__name__} shows no tokens: it has neither timm's forward_intermediates nor transformers' "
        "last_hidden_state; choose the features 'pooled', or load it as a model of Vitreous"
    )


def _has_intermediates(module: nn.Module) -> bool:
    is_timm = callable(getattr(module, "forward_intermediates", None))
    return is_timm and isinstance(getattr(module, "blocks", None), nn.ModuleList | nn.Sequential)


def normalized_tokens(model: nn.Module, inputs: Tensor, layers: Sequence[int]) -> LayerTokens:
    """Compute the tokens of layers, in ascending order, after the model's final normalization.

    Raises:
        InputError: a module of transformers doesn't show those of one of the layers.
    """
    module = find_module(model)
    if _has_intermediates(module):
        pairs = module.forward_intermediates(  # ty: ignore[not-callable]
            inputs, indices=list(layers), return_prefix_tokens=True, norm=True, output_fmt="NLC",
            intermediates_only=True,
        )  # fmt: skip
        return dict(zip(layers, pairs, strict=True))
    assert isinstance(model, WrappedModel)
    structure = model.structure(inputs[:1])
    first = structure.layout.num_prefix_tokens - structure.trailing
    found: LayerTokens = {}
    for layer, tokens in _hidden_states(module, inputs, layers, count_layers(model)).items():
        end = tokens.shape[1] - structure.trailing
        found[layer] = tokens[:, first:end], torch.cat([tokens[:, :first], tokens[:, end:]], 1)
    return found


def _hidden_states(module: nn.Module, inputs: Tensor, layers: Sequence[int], depth: int) -> dict[int, Tensor]:
    """Compute the normalized tokens (batch, tokens, width) of a module of transformers.

    Raises:
        InputError: it doesn't give its hidden states, or what makes its last ones of the last layer's isn't known.
    """
    if list(layers) == [depth - 1]:
        return {depth - 1: module(inputs).last_hidden_state}
    with _record_calls(module) as calls:
        try:
            outputs = module(inputs, output_hidden_states=True)
        except TypeError:  # it has no such argument
            raise _no_layers(module) from None
    last, states = outputs.last_hidden_state, outputs.get("hidden_states")
    maker = next((call.module for call in calls if call.output is last), None)
    if states is None or len(states) != depth + 1 or any(one.shape != last.shape for one in states) or maker is None:
        raise _no_layers(module)
    if not _is_norm(maker):  # a layer: nothing normalizes the tokens, as in CLIP
        return {layer: states[layer + 1] for layer in layers}
    return {layer: last if layer == depth - 1 else maker(states[layer + 1]) for layer in layers}


@dataclass(frozen=True)
class _Call:
    """A submodule that ran, and its first output."""

    module: nn.Module
    output: object


@contextmanager
def _record_calls(module: nn.Module) -> Generator[list[_Call]]:
    """Record which submodules, the innermost first, give the output of the module: its layers and normalizations."""
    calls: list[_Call] = []

    def record(submodule: nn.Module, _: object, output: object) -> None:
        calls.append(_Call(submodule, output[0] if isinstance(output, tuple) else output))

    layers = [one for parts in module.modules() if isinstance(parts, nn.ModuleList) for one in parts]
    watched = [one for one in module.modules() if one is not module and (_is_norm(one) or one in layers)]
    handles = [one.register_forward_hook(record) for one in watched]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()


def _is_norm(module: nn.Module) -> bool:
    """Whether a module normalizes tokens: torch's and others' LayerNorm and RMSNorm have it in their names."""
    return type(module).__name__.lower().endswith("norm")


def _no_layers(module: nn.Module) -> InputError:
    return InputError(
        f"{type(module).__name__} shows the tokens of its last layer only: leave out the layers, take a model that "
        f"shows more ({MANY_LAYERS}), or load it as a model of Vitreous (a folder or hf:OWNER/NAME)"
    )
