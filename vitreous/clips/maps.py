"""What a model sees in a batch of frames: the maps of each, at their own resolution, and its answer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby

import numpy as np
import torch

from vitreous.clips.request import OF_ATTENTION, VideoRequest
from vitreous.data.textures import natural_textures
from vitreous.explanation.explain import Asked, explain_batch, group_by_shape, locate_query
from vitreous.explanation.method import AttributeFunction
from vitreous.explanation.methods.attention import fuse_heads
from vitreous.explanation.options import MethodOptions, resolve_index
from vitreous.explanation.registry import METHODS
from vitreous.explanation.result import Explanation
from vitreous.explanation.streaming.attention_products import row_times_attention
from vitreous.explanation.streaming.light_trace import LightTrace
from vitreous.explanation.streaming.tokens import readout_row, to_grid
from vitreous.model.classifier import ImageClassifier, Prediction
from vitreous.model.quantization import check_quantizable, quantize

Box = tuple[float, float, float, float]
Place = Asked | None
"""Down and across, in pixels of the frame; or a box, top, left, bottom, right."""
Memories = Mapping[str, AttributeFunction]
NO_MEMORIES: Memories = {}
ENDS_OF_VIEWS = {"colors": "", "similarity": "unlike / alike", "norms": "short / long"}


@dataclass(frozen=True)
class SeenMap:
    """One map of a frame: float32 (rows, columns); attention is 1 where a patch gets what all get on average."""

    heat: np.ndarray = field(repr=False)
    title: str
    signed: bool = False
    ends: str = ""
    colors: np.ndarray | None = field(default=None, repr=False)
    label: str = ""
    """What is written on its panel, if not the title."""


@dataclass(frozen=True)
class Seen:
    """What the model saw in a frame: its maps over `box` (pixels of the frame), its answer, words about the maps."""

    maps: tuple[SeenMap, ...]
    box: Box
    prediction: Prediction
    words: str
    place: Place = None
    """The place that is followed."""

    def empty(self, prediction: Prediction) -> "Seen":
        """The same with nothing in its maps, for a frame in which there is nothing to follow."""
        maps = tuple(replace(one, heat=np.zeros_like(one.heat), colors=None) for one in self.maps)
        return replace(self, maps=maps, prediction=prediction, place=None)


def see(
    classifier: ImageClassifier,
    images: Sequence[np.ndarray],
    request: VideoRequest,
    places: Sequence[Place],
    memories: Memories = NO_MEMORIES,
) -> list[Seen]:
    """What the model sees in frames of one size, uint8 (height, width, 3), each asked about its own place, if any.

    Methods that `memories` names are asked through what stands there, which may know earlier frames.
    """
    results, first = [], 0
    for place, same in groupby(places):
        count = len(list(same))
        part = images[first : first + count]
        if request.layout in OF_ATTENTION:
            results += attention_panels(classifier, part, request, place)
        else:
            results += method_panels(classifier, part, request, place, memories)
        first += count
    return results


def with_eight_bits(classifier: ImageClassifier) -> ImageClassifier:
    """The same model with 8-bit products in its blocks, in steps that don't depend on what it is shown later.

    Raises:
        InputError: the model or the machine has no such products.
    """
    check_quantizable(classifier.model)
    height, width = classifier.preprocessing.input_size
    images = natural_textures((2 * height, 2 * width))  # shrunk again, they have no harder edges than photos
    vit = quantize(classifier.model, torch.stack([classifier.preprocess(image)[0] for image in images]))
    coarse = ImageClassifier(vit, classifier.preprocessing, classifier.class_names)
    coarse.origin = classifier.origin
    return coarse


def method_panels(
    classifier: ImageClassifier,
    images: Sequence[np.ndarray],
    request: VideoRequest,
    place: Place,
    memories: Memories = NO_MEMORIES,
) -> list[Seen]:
    """The map of each method."""
    columns = []
    for method in request.methods:
        settings, by = request.settings_of(method), memories.get(method)
        columns.append(explain_batch(classifier, images, method, settings, request.explained, place, by=by))
    results = []
    for row in zip(*columns, strict=True):
        maps = tuple(
            SeenMap(
                one.grid_heat, one.method, one.kind == "signed", ends_of(one), one.grid_colors, words_of(one, request)
            )
            for one in row
        )
        words = words_of(row[0], request) if len(row) == 1 else ""
        results.append(Seen(maps, row[0].geometry.box, row[0].prediction, words, place))
    return results


def ends_of(explanation: Explanation) -> str:
    """What the least and the greatest of a signed map mean."""
    if explanation.scale_kind != "signed":
        return ""
    return ENDS_OF_VIEWS[explanation.options.view] if explanation.method == "features" else "against / for"


def words_of(explanation: Explanation, request: VideoRequest) -> str:
    """The words about a map, which stay the same while its patch wanders and the predicted class changes."""
    told = request.explained is not None or not explanation.prediction.scores
    target = f" · for {explanation.target}" if told and METHODS[explanation.method].is_class_specific else ""
    if not request.track:
        return explanation.caption() + target
    unplaced = replace(explanation, options=replace(explanation.options, query=None))
    return f"{unplaced.caption()}{target} · from the tracked patch"


@torch.no_grad()
def attention_panels(
    classifier: ImageClassifier, images: Sequence[np.ndarray], request: VideoRequest, place: Place
) -> list[Seen]:
    """The attention of every head of a layer, or of every layer, all from one pass of the model."""
    prepared = [classifier.preprocess(image) for image in images]
    patch = None if place is None else locate_query(classifier, place, prepared[0][1])
    settings, results = replace(request.settings, query=patch), []
    sizes = [inputs.shape[1] * inputs.shape[2] for inputs, _ in prepared]
    for chosen in group_by_shape([0] * len(prepared), sizes):
        inputs = torch.stack([prepared[i][0] for i in chosen])
        grids, titles, logits, words = panels_of(classifier, inputs, settings, request.layout)
        for i, grid, prediction in zip(chosen, grids, classifier.postprocess(logits), strict=True):
            heats = grid * np.float32(grid[0].size)
            maps = tuple(SeenMap(heat, title) for heat, title in zip(heats, titles, strict=True))
            results.append(Seen(maps, prepared[i][1].box, prediction, words, place))
    return results


def panels_of(
    classifier: ImageClassifier, inputs: torch.Tensor, settings: MethodOptions, layout: str
) -> tuple[np.ndarray, list[str], torch.Tensor, str]:
    """Shares (batch, panels, rows, columns), the panels' titles, logits (batch, classes) and words about all."""
    last = -1 if settings.layer is None else settings.layer
    trace = LightTrace(only=last if layout == "heads" else None)
    logits = classifier.model(inputs, trace)
    row = readout_row(trace, settings)
    if layout == "heads":
        layer = resolve_index("layer", last, trace.depth)
        weights = row_times_attention(row, trace.layers[0])
        titles, words = [f"head {i}" for i in range(weights.shape[1])], f"attention · layer {layer}"
    else:
        weights = torch.stack([fuse_heads(row_times_attention(row, layer), settings) for layer in trace.layers], 1)
        shown = f"head {settings.head}" if settings.head is not None else f"{settings.head_fusion} over heads"
        titles, words = [f"layer {i}" for i in range(weights.shape[1])], f"attention · {shown}"
    grids = to_grid(weights.flatten(0, 1), trace).unflatten(0, weights.shape[:2])
    return grids.float().cpu().numpy(), titles, logits, words
