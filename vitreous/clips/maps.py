"""Maps of a batch of frames on the model's grid, with the model's predictions."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby

import numpy as np
import torch

from vitreous.clips.request import ATTENTION_LAYOUTS, VideoRequest
from vitreous.explanation.explain import ExplainTask, group_by_shape, run_task
from vitreous.explanation.methods.attention import fuse_heads
from vitreous.explanation.options import MethodOptions, resolve_index
from vitreous.explanation.regions import Region, locate_query
from vitreous.explanation.result import Explanation
from vitreous.explanation.streaming.attention_products import row_times_attention
from vitreous.explanation.streaming.light_trace import LightTrace
from vitreous.explanation.streaming.tokens import readout_row, to_grid
from vitreous.model.classifier import ImageClassifier
from vitreous.model.prediction import Prediction
from vitreous.render.upsample import PixelBox

VIEW_END_LABELS = {"colors": "", "similarity": "unlike / alike", "norms": "short / long"}


@dataclass(frozen=True)
class FrameMap:
    """One map of a frame on the model's grid."""

    patch_heatmap: np.ndarray = field(repr=False)
    """float32 (rows, columns), as `Explanation.patch_heatmap`: for attention, 1 is the mean over all patches."""
    title: str
    signed: bool = False
    end_labels: str = ""
    """What the lowest and the highest value of a signed map mean, such as "against / for"."""
    patch_colors: np.ndarray | None = field(default=None, repr=False)
    """float32 (rows, columns, 3) in [0, 1], where the map has colors of its own."""
    panel_title: str = ""
    """The title of its panel, if another one than `title`."""


@dataclass(frozen=True)
class FrameMaps:
    """All maps of a frame and the model's prediction for it."""

    maps: tuple[FrameMap, ...]
    box: PixelBox
    """(top, left, bottom, right) that the maps span, in pixels of the frame."""
    prediction: Prediction
    caption: str
    """What all maps show, such as "attention · layer 5"; "" where each panel has a caption of its own."""
    query: Region | None = None
    """The point (x, y) or box (x0, y0, x1, y1) that is explained, in pixels of the frame."""

    def without_maps(self, prediction: Prediction) -> "FrameMaps":
        """Return empty maps of the same shapes, for a frame in which the tracked patch is lost."""
        empty = [replace(one, patch_heatmap=np.zeros_like(one.patch_heatmap), patch_colors=None) for one in self.maps]
        return replace(self, maps=tuple(empty), prediction=prediction, query=None)


def map_frames(
    classifier: ImageClassifier,
    images: Sequence[np.ndarray],
    request: VideoRequest,
    tasks: Sequence[ExplainTask],
    queries: Sequence[Region | None],
) -> list[FrameMaps]:
    """Compute the maps of frames of one size.

    Args:
        classifier: the model.
        images: uint8 (height, width, 3).
        request: the layout, and the options of attention for the layouts "heads" and "layers".
        tasks: what to compute for all other layouts, as `VideoRequest.resolve` returns it.
        queries: a query per image in its pixels, x before y, or None.
    """
    results, first = [], 0
    for query, same in groupby(queries):
        count = len(list(same))
        part = images[first : first + count]
        if request.layout in ATTENTION_LAYOUTS:
            results += attention_maps(classifier, part, request, query)
        else:
            results += method_maps(classifier, part, tasks, query, tracked=request.track)
        first += count
    return results


def method_maps(
    classifier: ImageClassifier,
    images: Sequence[np.ndarray],
    tasks: Sequence[ExplainTask],
    query: Region | None,
    *,
    tracked: bool = False,
) -> list[FrameMaps]:
    """Compute the map of each method."""
    tasks = [replace(task, query=query) for task in tasks]
    columns = [run_task(classifier, images, task) for task in tasks]
    results = []
    for number in range(len(images)):
        row = [column[number] for column in columns]
        captions = [map_caption(one, task, tracked=tracked) for one, task in zip(row, tasks, strict=True)]
        maps = tuple(to_frame_map(one, caption) for one, caption in zip(row, captions, strict=True))
        caption = captions[0] if len(captions) == 1 else ""
        results.append(FrameMaps(maps, row[0].geometry.box, row[0].prediction, caption, query))
    return results


def to_frame_map(explanation: Explanation, caption: str) -> FrameMap:
    """Return the map of an explanation without the image."""
    signed, end_labels = explanation.scale_kind == "signed", ""
    if signed:
        is_view = explanation.method == "features"
        end_labels = VIEW_END_LABELS[explanation.options.view] if is_view else "against / for"
    heatmap, colors = explanation.patch_heatmap, explanation.patch_colors
    return FrameMap(heatmap, explanation.method, signed, end_labels, colors, caption)


def map_caption(explanation: Explanation, task: ExplainTask, *, tracked: bool) -> str:
    """Describe a map in words that stay the same while the tracked patch moves and the predicted class changes."""
    has_target = task.target_given or not explanation.prediction.scores
    target = f" · for {explanation.target}" if has_target and task.method.is_class_specific else ""
    if not tracked:
        return explanation.caption() + target
    without_query = replace(explanation, options=replace(explanation.options, query=None))
    return f"{without_query.caption()}{target} · from the tracked patch"


@torch.no_grad()
def attention_maps(
    classifier: ImageClassifier, images: Sequence[np.ndarray], request: VideoRequest, query: Region | None
) -> list[FrameMaps]:
    """Compute the attention of every head of a layer, or of every layer, from one forward pass."""
    prepared = [classifier.preprocess(image) for image in images]
    patches = None if query is None else locate_query(query, prepared[0][1], classifier.preprocessing.patch_size)
    options, results = replace(request.options, query=patches), []
    sizes = [inputs.shape[1] * inputs.shape[2] for inputs, _ in prepared]
    for chosen in group_by_shape([0] * len(prepared), sizes):
        inputs = torch.stack([prepared[i][0] for i in chosen])
        grids, titles, logits, caption = attention_panels(classifier, inputs, options, request.layout)
        for i, grid, prediction in zip(chosen, grids, classifier.postprocess(logits), strict=True):
            heatmaps = grid * np.float32(grid[0].size)
            maps = tuple(FrameMap(heatmap, title) for heatmap, title in zip(heatmaps, titles, strict=True))
            results.append(FrameMaps(maps, prepared[i][1].box, prediction, caption, query))
    return results


def attention_panels(
    classifier: ImageClassifier, inputs: torch.Tensor, options: MethodOptions, layout: str
) -> tuple[np.ndarray, list[str], torch.Tensor, str]:
    """Compute the panels of the layout "heads" or "layers".

    Returns: weights (batch, panels, rows, columns), the panels' titles, logits (batch, classes) and a caption.
    """
    last = -1 if options.layer is None else options.layer
    trace = LightTrace(only=last if layout == "heads" else None)
    logits = classifier.model(inputs, trace)
    row = readout_row(trace, options)
    if layout == "heads":
        layer = resolve_index("layer", last, trace.depth)
        weights = row_times_attention(row, trace.layers[0])
        titles, caption = [f"head {i}" for i in range(weights.shape[1])], f"attention · layer {layer}"
    else:
        weights = torch.stack([fuse_heads(row_times_attention(row, layer), options) for layer in trace.layers], 1)
        heads = f"head {options.head}" if options.head is not None else f"{options.head_fusion} over heads"
        titles, caption = [f"layer {i}" for i in range(weights.shape[1])], f"attention · {heads}"
    grids = to_grid(weights.flatten(0, 1), trace).unflatten(0, weights.shape[:2])
    return grids.float().cpu().numpy(), titles, logits, caption
