"""The video of an uploaded clip with a model's maps, as `vitreous video` writes it."""

import tempfile
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from vitreous.clips.explain import run_request
from vitreous.clips.explain_stage import scale_query
from vitreous.clips.options import DrawOptions, SpeedOptions
from vitreous.clips.request import VideoRequest
from vitreous.errors import InputError
from vitreous.explanation.options import merge_options
from vitreous.explanation.regions import validate_region
from vitreous.model.classifier import ImageClassifier
from vitreous.video.info import read_info
from vitreous.web.clips.stored_clip import StoredClip
from vitreous.web.explorer.maps import before_passes
from vitreous.web.jobs.queue import JobResult
from vitreous.web.jobs.stepwise import StepCallback, Stepwise


@dataclass(frozen=True)
class ClipVideoRequest:
    """What the video of a clip shows.

    Attributes:
        model: the position of the model.
        method: a name in METHODS.
        options: of the method, as `explain` takes them.
        target: what it explains, as `explain` takes it as text; None for each frame's prediction.
        query: a point (x, y) in pixels of the frames as the page shows them; the same one in all of them.
        opacity: of the maps, from 0 to 1.
    """

    model: int = 0
    method: str = "attention"
    options: dict[str, object] = field(default_factory=dict)
    target: str | None = None
    query: tuple[float, ...] | None = None
    opacity: float = 1.0

    def to_video_request(self, speed: SpeedOptions) -> VideoRequest:
        """Return the same as the record that `vitreous video` takes.

        Raises:
            InputError: an unknown method or option, or a value out of range.
        """
        query = None if self.query is None else validate_region(self.query)
        return VideoRequest(
            (self.method,), merge_options(None, self.options), self.target, query,
            draw=DrawOptions(opacity=self.opacity), speed=speed,
        )  # fmt: skip


def clip_video_work(classifier: ImageClassifier, clip: StoredClip, request: VideoRequest) -> Stepwise:
    """Return the work of a job that writes the video, in steps; its data are the bytes of an MP4 file."""
    return Stepwise(partial(write_clip_video, classifier, clip, request))


def write_clip_video(
    classifier: ImageClassifier, clip: StoredClip, request: VideoRequest, callback: StepCallback
) -> JobResult:
    """Write the video of a clip with maps, and return its bytes.

    Raises:
        InputError: the clip can't be read any more, or the model doesn't support the request.
    """
    with (
        tempfile.TemporaryDirectory(prefix="vitreous-video-") as folder,
        before_passes(classifier.model, lambda _: callback.pause()),
    ):
        output = Path(folder) / "video.mp4"
        try:
            query = scale_query(request.query, (clip.height, clip.width), read_info(clip.path).size_hw)
            written = run_request(classifier, clip.path, output, replace(request, query=query), callback)
        except InputError as error:
            message = str(error).replace(str(clip.path), "this clip").replace(str(output), "the video")
            raise InputError(message) from error
        description: dict[str, object] = {
            "frames": written.video.frames,
            "notes": [str(note) for note in written.notes],
        }
        return JobResult(description, output.read_bytes())
