"""Write a video file with exact times and the source's audio; the file is complete or absent."""

from collections.abc import Generator, Iterable
from contextlib import ExitStack, contextmanager
from fractions import Fraction
from io import FileIO
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import av
import numpy as np

from vitreous.errors import InputError
from vitreous.files import atomic_write
from vitreous.video.audio import AudioTrack, open_audio_track
from vitreous.video.check import verify_video
from vitreous.video.formats import FORMATS, Format, resolve_format, to_crf
from vitreous.video.gif import GifTrack
from vitreous.video.info import Frame, VideoInfo, read_info
from vitreous.video.options import KEEP_ALL, VideoOptions
from vitreous.video.video_track import VideoTrack, ticks_per_second
from vitreous.video.writer import Writer

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


class VideoWriter(Writer):
    """Writes the frames of one video, with the rate, the time stamps and the audio of `source`.

    Use it as a context manager: at the end the file is closed, read back, and only then given its name; on an error
    nothing is left. Images are uint8 RGB (height, width, 3) of `size_hw`; in an H.264 file an odd side is padded by one
    row or column. `zero_seconds` is the time of the source that is zero here.

    Raises:
        InputError: the name has no file format, or the file can't be written.
        IncompleteVideoError: the file read back differs from what was written.
    """

    def __init__(
        self,
        path: Path | str,
        source: VideoInfo,
        size_hw: tuple[int, int],
        options: VideoOptions = KEEP_ALL,
        zero_seconds: Fraction = Fraction(0),
    ) -> None:
        super().__init__(path, source, size_hw)
        name = resolve_format(path, options.format)
        self.video_format, self.crf = FORMATS[name], to_crf(name, options.quality)
        self.zero_seconds = zero_seconds
        self.audio_end = None if options.end_seconds is None else options.end_seconds - zero_seconds
        self.audio: AudioTrack | None = None
        self.is_audio_cut = False

    def __enter__(self) -> "VideoWriter":
        source = self.source
        with ExitStack() as stack:
            self.container = stack.enter_context(create_container(self.path, self.video_format, source.time_base))
            self.track = add_video_track(self.container, self.video_format, self.size_hw, source, self.crf)
            if source.audio_codec and self.video_format.audio_encoder:
                self.audio = stack.enter_context(
                    open_audio_track(source.path, self.container, self.video_format, self.zero_seconds)
                )
                self.notes += [self.audio.note] if self.audio.note else []
            self.stack = stack.pop_all()
        return self

    def write(self, frame: Frame) -> None:
        """Write one frame, and the audio up to it; times must increase from frame to frame."""
        self.track.write(frame)
        super().write(frame)
        if self.audio:
            self.audio.write_until(frame.time_seconds)

    def cut_audio(self) -> None:
        """End the audio with the images, because the source is truncated there."""
        self.is_audio_cut = True

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self.stack.__exit__(kind, error, trace)
            return
        with self.stack:
            self.track.finish()
            if self.audio:
                self.audio.write_until(self.track.end_seconds if self.is_audio_cut else self.audio_end)
                self.audio_truncation = self.audio.truncation
            self.notes += self.track.notes
            finalize(self.container, self.track, has_audio=self.audio is not None and self.audio.has_packets)

    def info(self) -> VideoInfo:
        """Return what was written, after the file is complete."""
        return read_info(self.path)


def write_video(path: Path | str, frames: Iterable[np.ndarray], fps: Fraction) -> None:
    """Write images, uint8 RGB (height, width, 3) of one size, as a video without audio.

    Args:
        path: a file name with a suffix of a video format.
        frames: one or more images.
        fps: frames per second.

    Raises:
        InputError: the name has no file format, or the file can't be written.
        IncompleteVideoError: the file read back differs from what was written.
    """
    video_format = file_format(path)
    images = iter(frames)
    first = next(images, None)
    assert first is not None, "a video needs at least one frame"
    info = VideoInfo(Path(path), first.shape[:2], fps, 1 / fps, None, None, 0, None, "none")
    with create_container(Path(path), video_format, 1 / fps) as container:
        track = add_video_track(container, video_format, first.shape[:2], info)
        for number, image_u8 in enumerate(chain([first], images)):
            track.write(Frame(image_u8, number / fps))
        track.finish()
        finalize(container, track, has_audio=False)


def file_format(path: Path | str) -> Format:
    """Return the format of a single file.

    Raises:
        InputError: the name has no format, or is that of a folder or a pipe.
    """
    name = resolve_format(path)
    if not name.startswith(".") or Path(path).is_dir():
        raise InputError(f"can't write {path}: it is a folder or a pipe; add a file name")
    return FORMATS[name]


def add_video_track(
    container: av.container.OutputContainer,
    video_format: Format,
    size_hw: tuple[int, int],
    source: VideoInfo,
    crf: int | None = None,
) -> VideoTrack | GifTrack:
    """Add the video stream that a format needs to a container."""
    assert video_format.encoder
    if video_format.encoder.name == "gif":
        return GifTrack(container, size_hw, source.fps)
    return VideoTrack(
        container,
        size_hw,
        source.fps,
        source.time_base,
        pixel_aspect=source.pixel_aspect,
        encoder=video_format.encoder,
        crf=crf,
    )


def finalize(container: av.container.OutputContainer, track: VideoTrack | GifTrack, *, has_audio: bool) -> None:
    """Close the file and compare it with what was encoded."""
    path = Path(container.name)
    container.close()
    if isinstance(track, GifTrack):
        track.set_last_delay(path)
    verify_video(path, track, has_audio=has_audio)


class UnbufferedFile(FileIO):
    """A file that FFmpeg writes and we close, because PyAV leaves its own files open where it can't write a header."""

    def write(self, data: "ReadableBuffer", /) -> int:
        """Write all of the bytes."""
        left = memoryview(data)
        size = left.nbytes
        while left:
            left = left[super().write(left) :]
        return size


@contextmanager
def create_container(path: Path, video_format: Format, time_base: Fraction) -> Generator[av.container.OutputContainer]:
    """Yield an output container beside `path`; it gets its name at the end and is removed on an error."""
    options = {"movflags": "+faststart", "movie_timescale": str(ticks_per_second(time_base))}
    is_mp4 = video_format.container in {"mp4", "mov"}
    with atomic_write(path) as temporary, UnbufferedFile(str(temporary.absolute()), "wb") as file:
        container = av.open(file, "w", format=video_format.container, container_options=options if is_mp4 else {})
        try:
            yield container
            container.close()
        except (av.error.InvalidDataError, av.error.ArgumentError) as error:
            is_audio_error = isinstance(error, av.error.InvalidDataError) or bool(container.streams.audio)
            abort(container)
            if not is_audio_error:
                raise
            raise InputError(f"can't write {path}: the source's audio is damaged and can't be copied") from error
        except BaseException:
            abort(container)
            raise


def abort(container: av.container.OutputContainer) -> None:
    """Close a container whose file will be removed; that it is incomplete is expected."""
    try:
        container.close()
    except av.error.FFmpegError:
        return
