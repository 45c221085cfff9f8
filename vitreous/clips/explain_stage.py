"""The stage of the video pipeline that runs the model: frames to maps and predictions."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import torch

from vitreous.clips.maps import FrameMaps, map_frames
from vitreous.clips.request import VideoRequest
from vitreous.clips.tracker import PatchTracker
from vitreous.data.textures import natural_textures
from vitreous.errors import InputError
from vitreous.explanation.explain import ExplainTask
from vitreous.explanation.methods.features import SharedPCA
from vitreous.explanation.regions import Region, center_of_region, format_pixels
from vitreous.model.classifier import ImageClassifier
from vitreous.model.quantization import check_quantizable, quantize
from vitreous.render.temporal.scenes import SceneDetector
from vitreous.video.info import Frame


class ExplainStage:
    """Computes the maps of a video's frames, batch by batch, and remembers what later batches depend on."""

    def __init__(
        self, classifier: ImageClassifier, request: VideoRequest, tasks: Sequence[ExplainTask], query: Region | None
    ) -> None:
        """Prepare the model.

        Args:
            classifier: the model.
            request: how the video is explained.
            tasks: what `request.resolve` returned for the model.
            query: the query in pixels of the frames, x before y (see `scale_query`).
        """
        if request.speed.precision == "int8":
            classifier = quantize_classifier(classifier)
        self._classifier, self._request, self._query = classifier, request, query
        self._tracker = (
            PatchTracker(classifier, center_of_region(query)) if request.track and query is not None else None
        )
        self._last: FrameMaps | None = None
        self._colors, self._scenes = SharedPCA(), SceneDetector()
        self._tasks = [self._share_colors(task) for task in tasks]

    def explain(self, frames: list[Frame]) -> list[FrameMaps]:
        """Compute the maps of the next frames, in batches of the request's size."""
        size = self._request.speed.batch_size
        return [found for first in range(0, len(frames), size) for found in self._explain(frames[first : first + size])]

    def _explain(self, frames: list[Frame]) -> list[FrameMaps]:
        """Compute the maps of one batch."""
        images = [frame.image_u8 for frame in frames]
        if self._tracker is None:
            return self._map(images, [self._query] * len(images))
        points = self._tracker.update(frames)
        tracked = [i for i, point in enumerate(points) if point is not None]
        maps = self._map([images[i] for i in tracked], [points[i] for i in tracked])
        lost = [i for i, point in enumerate(points) if point is None]
        last = maps[-1] if maps else self._last
        assert last is not None, "the tracked patch is never lost in the first frame"
        self._last = last
        predictions = self._classifier.predict_batch([images[i] for i in lost]) if lost else []
        found = dict(zip(tracked, maps, strict=True))
        found |= {i: last.without_maps(prediction) for i, prediction in zip(lost, predictions, strict=True)}
        return [found[i] for i in range(len(frames))]

    def _map(self, images: list[np.ndarray], queries: list[Region | None]) -> list[FrameMaps]:
        """Compute maps; within a scene, the method "features" gives the same parts the same colors."""
        if "features" not in self._request.methods:
            return map_frames(self._classifier, images, self._request, self._tasks, queries)
        cuts = [i for i, image in enumerate(images) if self._scenes.update(image).cut]
        found: list[FrameMaps] = []
        for first, end in pairwise([0, *cuts, len(images)]):
            if first in cuts:
                self._colors.reset()
            part = slice(first, end)
            found += map_frames(self._classifier, images[part], self._request, self._tasks, queries[part])
        return found

    def _share_colors(self, task: ExplainTask) -> ExplainTask:
        """Let the method "features" use the principal components of the scene, not of each batch."""
        if task.method_name != "features":
            return task
        return replace(task, method=replace(task.method, attribute=self._colors))

    def notes(self) -> list[str]:
        """Return what the user should know about the tracking."""
        tracker = self._tracker
        if tracker is None or tracker.lost_seconds is None:
            return []
        if tracker.ended_seconds == tracker.lost_seconds:
            return [f"tracking ended at a cut at {tracker.ended_seconds:.2f} s: the maps after it are empty"]
        ended = "" if tracker.ended_seconds is None else f", and ended at a cut at {tracker.ended_seconds:.2f} s"
        return [f"the tracked patch was first lost at {tracker.lost_seconds:.2f} s{ended}: maps without it are empty"]


def scale_query(query: Region | None, source_hw: tuple[int, int], frame_hw: tuple[int, int]) -> Region | None:
    """Scale a query in pixels of the source to pixels of frames of another size.

    >>> scale_query((64, 18), (72, 128), (144, 256))
    (128.0, 36.0)

    Args:
        query: a point (x, y) or a box (x0, y0, x1, y1), or None.
        source_hw: (height, width) of the source.
        frame_hw: (height, width) of the frames.

    Raises:
        InputError: the query's center is not on the source.
    """
    if query is None:
        return None
    (x, y), (height, width) = center_of_region(query), source_hw
    if not (0 <= x < width and 0 <= y < height):
        point = format_pixels(x, y)
        raise InputError(f"the point {point} (x, y) is not on the image, which is {width} × {height} pixels")
    scale_y, scale_x = frame_hw[0] / height, frame_hw[1] / width
    if len(query) == 2:
        return query[0] * scale_x, query[1] * scale_y
    return query[0] * scale_x, query[1] * scale_y, query[2] * scale_x, query[3] * scale_y


def quantize_classifier(classifier: ImageClassifier) -> ImageClassifier:
    """Return the same model with int8 products in its blocks, calibrated on drawn images and not on the video.

    Raises:
        InputError: the model or the CPU does not support int8.
    """
    check_quantizable(classifier.model)
    height, width = classifier.preprocessing.input_size
    images = natural_textures((2 * height, 2 * width))  # Downsampled again, their edges are no harder than a photo's.
    model = quantize(classifier.model, torch.stack([classifier.preprocess(image)[0] for image in images]))
    return classifier.replace(model=model)
