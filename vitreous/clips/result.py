"""The result of explaining a video: what was written, and what the model found in it."""

from base64 import b64encode
from dataclasses import dataclass
from html import escape
from pathlib import Path

from vitreous.clips.predictions import ClipPrediction
from vitreous.render.plots.timeline import Segment
from vitreous.render.temporal.flicker import FlickerSummary
from vitreous.video.info import format_frame_count
from vitreous.video.stream import VideoResult

MAX_SEGMENTS = 20
"""Segments that the summary lists."""
MAX_EMBEDDED_BYTES = 20_000_000
"""A larger video is linked in a notebook instead of embedded."""
VIDEO_TYPES = {".mp4": "video/mp4", ".webm": "video/webm"}
"""Formats that browsers play."""


@dataclass(frozen=True, repr=False)
class ExplainedVideo:
    """A video that was explained and written. Printing it gives a summary; a notebook shows the video itself.

    Attributes:
        output: path of the written file or folder; "-" for a pipe.
        video: what was written, and whether the source is truncated or the user interrupted.
        predictions: the prediction for the whole video by each pooling rule; none for a model without classes.
        segments: which class is predicted when, in seconds of the written video.
        flicker: how much the maps change from frame to frame, before and after smoothing.
        files: files written beside the video.
        notes: lines for the user.
    """

    output: str | Path
    video: VideoResult
    predictions: tuple[ClipPrediction, ...]
    segments: tuple[Segment, ...]
    flicker: FlickerSummary
    files: tuple[Path, ...]
    notes: tuple[str, ...]

    def __str__(self) -> str:
        ending = self.early_end()
        return "\n".join([*self.summary(), *([ending] if ending else []), *(f"note: {line}" for line in self.notes)])

    def __repr__(self) -> str:
        predicted = f", {self.predictions[0]}" if self.predictions else ""
        state = ", truncated" if self.video.truncation else ", interrupted" if self.video.is_interrupted else ""
        return f"<ExplainedVideo {self.output}: {format_frame_count(self.video.frames)}{state}{predicted}>"

    def _repr_html_(self) -> str:
        """Show the video in a notebook, or a link to it where it is large or in a format that no browser plays."""
        path, text = Path(self.output), f"<pre>{escape(str(self))}</pre>"
        kind = VIDEO_TYPES.get(path.suffix.lower())
        is_image = path.suffix.lower() == ".gif"
        if not path.is_file():
            return text
        if not (kind or is_image) or path.stat().st_size > MAX_EMBEDDED_BYTES:
            return f'<a href="{escape(str(path))}">{escape(path.name)}</a>{text}'
        data = b64encode(path.read_bytes()).decode()
        if is_image:
            return f'<img src="data:image/gif;base64,{data}" alt="">{text}'
        return f'<video controls loop muted style="max-width:100%" src="data:{kind};base64,{data}"></video>{text}'

    def early_end(self) -> str | None:
        """Return why the written video is shorter than the source, as a line of text; None for a whole video."""
        count = format_frame_count(self.video.frames)
        if self.video.is_interrupted:
            return f"interrupted after {count}: these were written"
        if self.video.truncation is not None:
            return f"the source is truncated after {count} ({self.video.truncation.reason}): these were written"
        return None

    def summary(self) -> list[str]:
        """Return what was written and found, as lines of text."""
        info = self.video.info
        height, width = info.size_hw
        seconds, audio = float(info.duration_seconds or 0), info.audio_codec or "none"
        lines = [
            f"{self.output}: {self.video.frames} frames, {seconds:.2f} s, {width} × {height} pixels, audio: {audio}"
        ]
        if self.predictions:
            lines.append("clip prediction: " + ", ".join(map(str, self.predictions)))
        lines += [f"  {segment.describe()}" for segment in self.segments[:MAX_SEGMENTS]]
        if len(self.segments) > MAX_SEGMENTS:
            lines.append(f"  ... and {len(self.segments) - MAX_SEGMENTS} more segments")
        if flicker := self.flicker.describe():
            lines.append(flicker)
        return lines + [str(path) for path in self.files]
