"""The base class of all writers of videos: one frame after the other, then a summary."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Self

from vitreous.video.info import Frame, VideoInfo


class Writer:
    """Writes the frames of one video, uint8 RGB (height, width, 3) of `size_hw`; used as a context manager.

    Attributes:
        notes: what the user should know about the output.
        audio_truncation: why and when the source's audio ended early, if it did.
    """

    codec = "none"

    def __init__(self, path: Path | str, source: VideoInfo, size_hw: tuple[int, int]) -> None:
        self.path, self.source, self.size_hw = Path(path), source, size_hw
        self.frames, self.end_seconds = 0, Fraction(0)
        self.notes: list[str] = []
        self.audio_truncation: str | None = None

    def __enter__(self) -> Self:
        return self

    def write(self, frame: Frame) -> None:
        """Count one frame; subclasses call this after writing it."""
        self.frames += 1
        self.end_seconds = frame.time_seconds + (frame.duration_seconds or 1 / self.source.fps)

    def cut_audio(self) -> None:
        """End the audio with the images, because the source is truncated there."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return

    def info(self) -> VideoInfo:
        """Return what was written, after the file is complete."""
        return replace(
            self.source,
            path=self.path,
            size_hw=self.size_hw,
            frame_count=self.frames,
            duration_seconds=self.end_seconds,
            rotation_degrees=0,
            pixel_aspect=Fraction(1),
            audio_codec=None,
            video_codec=self.codec,
        )
