"""Explain a video frame by frame, as an iterator of records."""

from collections.abc import Generator, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Unpack

import numpy as np
from PIL import Image

from vitreous.arguments import check_arguments
from vitreous.callbacks import Callback, Progress
from vitreous.clips.explain_stage import quantize_classifier, scale_query
from vitreous.clips.options import DrawOptions, FrameOptions, SpeedOptions, VideoPrecision
from vitreous.clips.request import VideoRequest
from vitreous.explanation.explain import ExplainTask, run_task
from vitreous.explanation.options import MethodKeywords, MethodOptions, merge_options
from vitreous.explanation.regions import PixelRegion, Region, validate_region
from vitreous.explanation.result import Explanation
from vitreous.explanation.target_parsing import note_unused_target
from vitreous.imaging.preprocessing import ResizeMode
from vitreous.model.classifier import ImageClassifier
from vitreous.model.prediction import Prediction
from vitreous.pretrained.load import load
from vitreous.render.temporal.scenes import SceneDetector
from vitreous.render.temporal.stabilize import MapStabilizer
from vitreous.runtime import autocast, choose_precision
from vitreous.tasks.targets import Target
from vitreous.video.decode import TruncatedVideoError, read_frames
from vitreous.video.info import Frame, read_info
from vitreous.video.trim import expected_frames


@dataclass(frozen=True)
class FrameExplanation:
    """One frame of a video with its explanation; a notebook shows the overlay.

    Attributes:
        index: The running number of the frame among those that are explained, from 0. It is not the frame's number in
            the source: with every=2 the frames 0, 2, 4 of the excerpt have the index 0, 1, 2.
        time_seconds: When the frame is shown, in seconds from the first frame of the excerpt, which is the one at or
            after `start`.
        explanation: The whole record, as `explain` returns it for the frame as an image.
    """

    index: int
    time_seconds: float
    explanation: Explanation = field(repr=False)

    @property
    def image(self) -> np.ndarray:
        """The frame: uint8 RGB (height, width, 3)."""
        return self.explanation.image_u8

    @property
    def heatmap(self) -> np.ndarray:
        """The map in the frame's pixels: float32 (height, width). It is computed on first use."""
        return self.explanation.heatmap

    @property
    def patch_map(self) -> np.ndarray:
        """The map on the model's grid: float32 (rows, columns)."""
        return self.explanation.patch_map

    @property
    def prediction(self) -> Prediction:
        """The model's prediction for the frame."""
        return self.explanation.prediction

    def overlay(self) -> Image.Image:
        """Return the frame with the map drawn on it."""
        return self.explanation.overlay()

    def _repr_png_(self) -> bytes | None:
        return self.overlay()._repr_png_()


@check_arguments
def explain_frames(
    model: str | Path | ImageClassifier,
    video: str | Path,
    *,
    method: str = "attention",
    target: str | int | Target | PixelRegion | None = None,
    query: Region | PixelRegion | None = None,
    options: MethodOptions | None = None,
    smooth: float = 0.0,
    start: float = 0.0,
    end: float | None = None,
    every: int = 1,
    batch_size: int = 16,
    precision: VideoPrecision = "fp32",
    input_size: int | Sequence[int] | None = None,
    resize_mode: ResizeMode | None = None,
    callback: Callback | None = None,
    **keywords: Unpack[MethodKeywords],
) -> Generator[FrameExplanation]:
    """Iterate over the frames of a video with their explanations, decoding them as they are needed.

    A frame's map is the one that `explain` gives for it as an image. Breaking off the loop, or dropping the iterator,
    closes the file.

    Example:
        for frame in explain_frames("vitreous:cifar10", "dog.mp4", method="rollout", end=2):
            print(frame.time_seconds, frame.prediction.label, frame.heatmap.max())

    Args:
        model: whatever `load` takes, or a loaded model.
        video: the video to read.
        method: a name in the table of methods.
        target: what the maps explain, as in `explain`; each frame's predicted class by default.
        query: a point (x, y) or a box (x0, y0, x1, y1) in the video's pixels. The patch there, or the mean over the
            patches in the box, is followed instead of the model's readout.
        options: options of the method as one record.
        smooth: half-life in seconds of the smoothing over time; 0 turns it off.
        start, end, every: which frames are used, see `FrameOptions`; times are in seconds.
        batch_size, precision: see `SpeedOptions`.
        input_size: side, or (height, width), in pixels of the model's input, as in `load`.
        resize_mode: how frames are brought to the model's input size, as in `load`.
        callback: receives the progress in frames and notes about the model; if it stops the work, the iterator ends
            after the batch at hand.
        **keywords: single options of the method, which take precedence: layer, head, head_fusion, discard_ratio,
            n_steps, n_samples, noise_level, patch_window, view, seed; see `MethodKeywords`.

    Returns:
        An iterator of `FrameExplanation`: for each frame its image, uint8 (height, width, 3), its heatmap, float32
        (height, width), its map on the patch grid, float32 (rows, columns), its prediction and its time in seconds.

    Raises:
        InputError: a value has the wrong type or is out of range, the video can't be read, or there is no such method,
            layer, head, class or option. It is raised at once, before the first frame is asked for.
        TruncatedVideoError: after the last good frame, where the rest of the file can't be decoded.
    """
    request = VideoRequest(
        methods=(method,),
        options=merge_options(options, keywords),
        target=target,
        query=None if query is None else validate_region(query),
        draw=DrawOptions(smooth=smooth),
        frames=FrameOptions(start, end, every),
        speed=SpeedOptions(batch_size, precision),
    )
    classifier = load(model, input_size=input_size, resize_mode=resize_mode, callback=callback)
    (task,) = request.resolve(classifier)
    note_unused_target(request.methods, target, callback)
    info = read_info(video)
    task = replace(task, query=scale_query(request.query, info.size_hw, info.size_hw))
    if precision == "int8":
        classifier = quantize_classifier(classifier)
    total = None if callback is None else expected_frames(info, request.video_options)
    return _iterate(classifier, Path(video), request, task, total, callback or Callback())


def _iterate(
    classifier: ImageClassifier,
    video: Path,
    request: VideoRequest,
    task: ExplainTask,
    total: int | None,
    callback: Callback,
) -> Generator[FrameExplanation]:
    """Read, explain and smooth the frames, one batch at a time, of `total` frames if their number is known."""
    smoothing, index, speed = Smoothing(request.draw.smooth), 0, request.speed
    precision = choose_precision(speed.float_precision, classifier.device)
    with closing(read_frames(video, request.video_options)) as reader:
        for batch in _batches(reader, speed.frames_per_step if request.draw.smooth else speed.batch_size):
            if callback.should_stop():
                return
            explanations: list[Explanation] = []
            for first in range(0, len(batch), speed.batch_size):
                images = [frame.image_u8 for frame in batch[first : first + speed.batch_size]]
                with autocast(classifier.device, precision):
                    explanations += run_task(classifier, images, task)
            callback.on_progress(Progress(index + len(batch), total))
            for frame, explanation in zip(batch, smoothing.update(batch, explanations), strict=True):
                yield FrameExplanation(index, float(frame.time_seconds), explanation)
                index += 1


def _batches(reader: Iterable[Frame], size: int) -> Generator[list[Frame]]:
    """Group frames into batches; those before an error in the file come before the error."""
    batch: list[Frame] = []
    try:
        for frame in reader:
            batch.append(frame)
            if len(batch) == size:
                yield batch
                batch = []
    except TruncatedVideoError:
        if batch:
            yield batch
        raise
    if batch:
        yield batch


class Smoothing:
    """Smooths the maps of a video over time, each scene by itself."""

    def __init__(self, half_life_seconds: float) -> None:
        self._half_life, self._scenes = half_life_seconds, SceneDetector()
        self._map: MapStabilizer | None = None

    def update(self, frames: Sequence[Frame], explanations: Sequence[Explanation]) -> list[Explanation]:
        """Return the explanations of the next frames with smoothed maps; unchanged for a half-life of 0."""
        if not self._half_life:
            return list(explanations)
        if self._map is None:
            self._map = MapStabilizer(self._half_life, signed=explanations[0].scale_kind == "signed")
        times = [float(frame.time_seconds) for frame in frames]
        changes = [self._scenes.update(frame.image_u8) for frame in frames]
        smoothed = self._map.update([one.patch_heatmap for one in explanations], times, changes)
        return [one.with_patch_heatmap(new.heatmap) for one, new in zip(explanations, smoothed, strict=True)]
