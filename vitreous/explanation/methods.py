"""The table of methods, and the way from pictures to explanations that they share."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vitreous.data.images import as_image_u8
from vitreous.data.preprocessing import Geometry
from vitreous.errors import InputError, unknown
from vitreous.explanation.attention import attention
from vitreous.explanation.result import Explanation
from vitreous.explanation.rollout import rollout
from vitreous.explanation.rows import row_times_attention
from vitreous.explanation.settings import Settings, index
from vitreous.model.trace import TokenLayout, Trace
from vitreous.tasks.classification import Classifier, Picture, Prediction


@dataclass(frozen=True)
class Method:
    """One way to explain: a function of the trace that gives each token a weight (batch, tokens)."""

    weights: Callable[[Trace, Settings], Tensor]
    one_layer: bool
    """Whether it shows one layer, and so takes the settings `layer` and `head`."""


AT_ONCE = 32
"""Pictures in one pass of the model, whose trace is kept until they are explained."""

METHODS = {"attention": Method(attention, one_layer=True), "rollout": Method(rollout, one_layer=False)}
"""Every method by name: a new one is one file and one line here."""


def explain_batch(
    classifier: Classifier,
    pictures: Sequence[Picture],
    method: str = "rollout",
    settings: Settings | None = None,
    target: str | None = None,
) -> list[Explanation]:
    """Explanations of pictures, which may differ in size; those that the model sees at one size run as one batch.

    Raises:
        InputError: unknown method, layer, head or class, or a setting that the method has no use for.
    """
    chosen = find_method(method, settings)
    if target is not None:
        classifier.class_index(target)
    shown = shown_part(classifier, chosen, settings)
    images = [as_image_u8(picture) for picture in pictures]
    prepared = [classifier.prepare(image) for image in images]
    results: list[Explanation | None] = [None] * len(images)
    for places in same_shape([inputs for inputs, _ in prepared]):
        grids, predictions = look(classifier, torch.stack([prepared[i][0] for i in places]), chosen, settings)
        for i, grid, prediction in zip(places, grids, predictions, strict=True):
            heat = to_source(grid, prepared[i][1])
            score = None if target is None else dict(prediction.ranking)[target]
            results[i] = Explanation(heat, grid, images[i], method, prediction, *shown, target, score)
    return [result for result in results if result is not None]


def find_method(name: str, settings: Settings | None) -> Method:
    """The method called so, if it can do with these settings."""
    if name not in METHODS:
        raise unknown("method", name, METHODS)
    if not METHODS[name].one_layer and settings not in (None, Settings()):
        able = ", ".join(key for key, method in METHODS.items() if method.one_layer)
        raise InputError(
            f"method '{name}' takes all layers and heads: leave out layer and head, or use --method {able}"
        )
    return METHODS[name]


@torch.no_grad()
def every_head(classifier: Classifier, picture: Picture) -> list[list[np.ndarray]]:
    """Attention of each layer (outer list) and head (inner list) as heat on the picture, all from one pass."""
    inputs, geometry = classifier.prepare(picture)
    _, trace = classifier.observe(inputs[None])
    assert trace.layout is not None and trace.readout is not None
    layers = []
    for record in trace.records:
        heads = row_times_attention(trace.readout, record)[0]
        layers.append([to_source(grid, geometry) for grid in patch_grids(heads, trace.layout)])
    return layers


@torch.no_grad()
def look(
    classifier: Classifier, inputs: Tensor, method: Method, settings: Settings | None
) -> tuple[list[np.ndarray], list[Prediction]]:
    """One observed pass over prepared pictures: a grid of weights and a prediction for each."""
    logits, trace = classifier.observe(inputs)
    assert trace.layout is not None
    weights = method.weights(trace, settings or Settings())
    return patch_grids(weights, trace.layout), classifier.read(logits)


def patch_grids(weights: Tensor, layout: TokenLayout) -> list[np.ndarray]:
    """Weights of tokens (batch, tokens) as one float32 grid (grid height, grid width) a picture, prefix left out."""
    assert weights.shape[1] == layout.tokens, f"{weights.shape[1]} weights for {layout.tokens} tokens"
    patches = weights[:, layout.prefix :].float().cpu()
    return list(patches.reshape(-1, layout.grid_height, layout.grid_width).numpy())


def to_source(grid: np.ndarray, geometry: Geometry) -> np.ndarray:
    """A grid of shares as heat in source pixels, where 1 is the share that each patch would get if all got the same."""
    return geometry.to_source(grid * grid.size)


def shown_part(classifier: Classifier, method: Method, settings: Settings | None) -> tuple[int | None, int | None]:
    """The layer and head that a map shows, counted from 0; None for all layers, and for the mean over heads."""
    if not method.one_layer:
        return None, None
    wanted, config = settings or Settings(), classifier.vit.config
    head = None if wanted.head is None else index("head", wanted.head, config.heads)
    return index("layer", wanted.layer, config.depth), head


def same_shape(inputs: Sequence[Tensor]) -> list[list[int]]:
    """The places of tensors, grouped by shape, in groups that a model takes at once."""
    groups: dict[torch.Size, list[int]] = {}
    for place, tensor in enumerate(inputs):
        groups.setdefault(tensor.shape, []).append(place)
    return [places[i : i + AT_ONCE] for places in groups.values() for i in range(0, len(places), AT_ONCE)]
