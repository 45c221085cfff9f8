"""Lay over a clip what a model looks at, frame by frame, and say what the clip shows."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from vitreous.clips.drawing import ClipDrawing
from vitreous.clips.maps import Place, Seen, see, with_eight_bits
from vitreous.clips.predictions import Pooled
from vitreous.clips.records import ClipTable
from vitreous.clips.request import VideoRequest, request_from
from vitreous.clips.tracker import Tracker
from vitreous.errors import InputError
from vitreous.explanation.coordinates import center_of_region, swapped
from vitreous.explanation.explain import find_target
from vitreous.explanation.methods.features import SharedPCA
from vitreous.model.classifier import ImageClassifier
from vitreous.model.quantization import check_quantizable
from vitreous.pretrained.load import load
from vitreous.render.plots.timeline import Segment, timeline
from vitreous.render.temporal.flicker import FlickerFound
from vitreous.render.temporal.scenes import SceneWatch
from vitreous.render.temporal.stabilize import WINDOW
from vitreous.runtime import autocast, choose_precision
from vitreous.video.info import Frame, VideoInfo, read_info
from vitreous.video.options import VideoOptions
from vitreous.video.output import check_target, with_square_pixels
from vitreous.video.stream import VideoResult, transform_video

Progress = Callable[[int, int | None], None]


@dataclass(frozen=True)
class ExplainedVideo:
    """A clip that was explained and written, and what was found on the way.

    Attributes:
        video: what was written.
        answers: what the whole clip shows, by each rule; none for a model without classes.
        segments: what it shows when, in seconds of the written clip.
        flicker: of the maps as they came and as they are drawn, on the same scale: see `Flicker`.
        files: what was written beside the clip.
        notes: lines for the user.
    """

    video: VideoResult
    answers: tuple[Pooled, ...]
    segments: tuple[Segment, ...]
    flicker: FlickerFound
    files: tuple[Path, ...]
    notes: tuple[str, ...]


def explain_video(
    model: str | Path | ImageClassifier,
    source: str | Path,
    target: str | Path,
    method: str | Sequence[str] = "attention",
    *,
    model_size: int | None = None,
    model_fit: str | None = None,
    on_progress: Progress | None = None,
    **given: Any,
) -> ExplainedVideo:
    """Write a clip with the model's attention laid over it: same frames, times, size and sound.

    Frames are streamed: memory doesn't grow with the clip. The written file is read back and checked before this
    returns.

    Args:
        model: whatever `load` takes, or a loaded model.
        source: the clip to read.
        target: the clip to write: .mp4, .mov, .mkv, .webm, .gif, a folder ("frames/") of PNG files, or "-".
        method: a name in the table of methods, or several, each of which gets a panel.
        model_size: the side in pixels that the model is given, as `size` of `load`.
        model_fit: how frames are brought to that size, as `fit` of `load`.
        on_progress: called with frames done and frames in all (None where the file doesn't say).
        **given: by name, what VideoRequest holds (layout, explained, query, track, smooth, strip, timeline,
            data_out, batch_size, precision), how it looks (strength, edges, legend), which part of the clip (start,
            end, every, size, quality, format), and settings of the method as in `explain` (layer, head ...).

    Raises:
        InputError: a clip that can't be read or written, or an unknown method, setting, layer or head.
    """
    return write_explained(
        load(model, size=model_size, fit=model_fit), source, target, request_from(method, given), on_progress
    )


def write_explained(
    classifier: ImageClassifier,
    source: str | Path,
    target: str | Path,
    request: VideoRequest,
    on_progress: Progress | None = None,
) -> ExplainedVideo:
    """The same for a loaded model and a request in one piece."""
    check_model(classifier, request)
    check_files(request)
    info = read_info(source)
    check_target(target, source, request.options)
    seen_as = replace(request, options=with_square_pixels(request.options, target, info))
    looking = Looking(classifier, request, place_in_frame(seen_as, info.size_hw))
    with ExitStack() as stack:
        table = stack.enter_context(ClipTable(classifier.class_names, request, info.size_hw))
        drawing = ClipDrawing(request, duration_of(info, request.options), table.add)
        precision = choose_precision(request.float_precision, classifier.device)
        with autocast(classifier.device, precision):  # over the whole clip: weights are brought to it once
            video = transform_video(
                source,
                target,
                drawing.draw,
                streamed_at_once(request.batch_size),
                on_progress,
                look=looking.look,
                options=request.options,
            )
        files = table.save()
        answers, segments = table.answers.pooled(), table.answers.segments()
        if request.timeline is not None:
            write_timeline(table, segments, request.timeline, Path(source).name)
            files.append(request.timeline)
    notes = [*video.notes, *looking.notes()]
    return ExplainedVideo(video, tuple(answers), tuple(segments), drawing.flicker(), tuple(files), tuple(notes))


def check_model(classifier: ImageClassifier, request: VideoRequest) -> None:
    """Refuse what this model can't give.

    Raises:
        InputError: says what.
    """
    find_target(classifier, request.explained)
    if request.precision == "int8":
        check_quantizable(classifier.model)
    for wanted, name in ((request.strip, "the strip"), (request.timeline is not None, "the timeline")):
        if wanted and not classifier.class_names:
            raise InputError(f"{name} shows classes over time, and this model has none, only features: leave it out")


def check_files(request: VideoRequest) -> None:
    """Refuse files beside the clip that have another name than what they are.

    Raises:
        InputError: says which.
    """
    for path, suffix in ((request.data_out, ".npz"), (request.timeline, ".png")):
        if path is not None and path.suffix.lower() != suffix:
            raise InputError(f"can't write {path}: let its name end in {suffix}")
        if path is not None and path.is_dir():
            raise InputError(f"can't write {path}: it is a folder; add a file name")


def place_in_frame(request: VideoRequest, source_hw: tuple[int, int]) -> Place:
    """The query, given in pixels of a source of this (height, width), in pixels of the frames that are looked at.

    It is (y, x), or a box (top, left, bottom, right).

    Raises:
        InputError: it is not on the image.
    """
    if request.query is None:
        return None
    (x, y), (height, width) = center_of_region(request.query), source_hw
    if not (0 <= x < width and 0 <= y < height):
        raise InputError(f"the place {x:g},{y:g} (x, y) is not on the image, which is {width} × {height} pixels")
    frame_hw = request.options.size_of(source_hw)
    down, across = frame_hw[0] / height, frame_hw[1] / width
    asked = swapped(request.query)
    if len(asked) == 2:
        return asked[0] * down, asked[1] * across
    return asked[0] * down, asked[1] * across, asked[2] * down, asked[3] * across


def duration_of(info: VideoInfo, options: VideoOptions) -> float | None:
    """How many seconds will be written, or None where the clip doesn't say how long it is."""
    if info.duration_seconds is None:
        return None
    end = info.duration_seconds if options.end_seconds is None else min(info.duration_seconds, options.end_seconds)
    return float(end - options.start_seconds) if end > options.start_seconds else None


def streamed_at_once(batch_size: int) -> int:
    """Frames in a step of the stream: whole windows, so that what is drawn doesn't change with the batch size."""
    return WINDOW * -(-batch_size // WINDOW)


def write_timeline(table: ClipTable, segments: Sequence[Segment], path: Path, title: str) -> None:
    """The image of classes, segments and the first map's entropy over time."""
    entropy = np.array(table.entropies)
    shown = None if np.isnan(entropy).all() else np.nan_to_num(entropy)
    timeline(table.answers.times, table.most_shown(), segments, path, entropy=shown, title=title)


class Looking:
    """The stage that runs the model: frames to what it sees in them."""

    def __init__(self, classifier: ImageClassifier, request: VideoRequest, place: Place) -> None:
        if request.precision == "int8":
            classifier = with_eight_bits(classifier)
        self._classifier, self._request, self._place = classifier, request, place
        self._tracker = Tracker(classifier, center_of_region(place)) if request.track and place is not None else None
        self._last: Seen | None = None
        self._colors, self._watch = SharedPCA(), SceneWatch()

    def look(self, frames: list[Frame]) -> list[Seen]:
        """What the model sees in the next frames, a batch of the request's size at a time."""
        size = self._request.batch_size
        return [seen for first in range(0, len(frames), size) for seen in self._look(frames[first : first + size])]

    def _look(self, frames: list[Frame]) -> list[Seen]:
        """What it sees in one batch."""
        images = [frame.image_u8 for frame in frames]
        if self._tracker is None:
            return self._see(images, [self._place] * len(images))
        places = self._tracker.follow(frames)
        followed = [i for i, place in enumerate(places) if place is not None]
        seen = self._see([images[i] for i in followed], [places[i] for i in followed])
        lost = [i for i, place in enumerate(places) if place is None]
        last = seen[-1] if seen else self._last
        assert last is not None, "what is followed is always there in a clip's first frame"
        self._last = last
        answers = self._classifier.predict_batch([images[i] for i in lost]) if lost else []
        found = dict(zip(followed, seen, strict=True))
        found |= {i: last.empty(answer) for i, answer in zip(lost, answers, strict=True)}
        return [found[i] for i in range(len(frames))]

    def _see(self, images: list[np.ndarray], places: list[Place]) -> list[Seen]:
        """What it sees in frames at these places; in one scene the same parts have the same colors."""
        if "features" not in self._request.methods:
            return see(self._classifier, images, self._request, places)
        cuts = [i for i, image in enumerate(images) if self._watch.update(image).cut]
        seen: list[Seen] = []
        for first, end in pairwise([0, *cuts, len(images)]):
            if first in cuts:
                self._colors.restart()
            kept = {"features": self._colors}
            seen += see(self._classifier, images[first:end], self._request, places[first:end], kept)
        return seen

    def notes(self) -> list[str]:
        """What the user should know."""
        tracker = self._tracker
        if tracker is None or tracker.lost_seconds is None:
            return []
        if tracker.ended_seconds == tracker.lost_seconds:
            return [f"the tracking ends with a cut at {tracker.ended_seconds:.2f} s: from there on the maps are empty"]
        ended = "" if tracker.ended_seconds is None else f", and for good with a cut at {tracker.ended_seconds:.2f} s"
        return [f"what is tracked was first lost at {tracker.lost_seconds:.2f} s{ended}: the maps are empty without it"]
