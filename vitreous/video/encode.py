"""Writing a clip to a file: exact times, the source's sound; whole under its name, or absent."""

from collections.abc import Generator, Iterable
from contextlib import ExitStack, contextmanager
from fractions import Fraction
from itertools import chain
from pathlib import Path
from types import TracebackType

import av
import numpy as np

from vitreous.errors import InputError
from vitreous.files import written_beside
from vitreous.video.audio import SoundTrack, sound_of
from vitreous.video.check import check_clip
from vitreous.video.formats import FORMATS, Format, crf_of, format_name
from vitreous.video.gif import GifTrack
from vitreous.video.info import Frame, VideoInfo, read_info
from vitreous.video.options import WHOLE, VideoOptions
from vitreous.video.video_track import VideoTrack, ticks_per_second
from vitreous.video.writer import Writer


class VideoWriter(Writer):
    """Writes the frames of one clip, with the rate, the time stamps and the sound of `source`.

    Use it as a context manager: at its end the file is closed, read back, and only then given its name; on an error
    nothing is left. Images are uint8 RGB (height, width, 3) of `size_hw`; in an H.264 file an odd side has one row or
    column more. `zero_seconds` is the time of the source that is zero here.

    Raises:
        InputError: the name asks for no file format, or the disk can't take it.
        IncompleteClipError: what was read back is not what was written.
    """

    def __init__(
        self,
        path: Path | str,
        source: VideoInfo,
        size_hw: tuple[int, int],
        options: VideoOptions = WHOLE,
        zero_seconds: Fraction = Fraction(0),
    ) -> None:
        super().__init__(path, source, size_hw)
        name = format_name(path, options.format)
        self.kind, self.crf = FORMATS[name], crf_of(name, options.quality)
        self.zero_seconds = zero_seconds
        self.sound_end = None if options.end_seconds is None else options.end_seconds - zero_seconds
        self.sound: SoundTrack | None = None
        self.is_sound_cut = False

    def __enter__(self) -> "VideoWriter":
        source = self.source
        with ExitStack() as stack:
            self.new = stack.enter_context(new_clip(self.path, self.kind, source.time_base))
            self.image = video_track(self.new, self.kind, self.size_hw, source, self.crf)
            if source.sound and self.kind.sound:
                self.sound = stack.enter_context(sound_of(source.path, self.new, self.kind, self.zero_seconds))
                self.notes += [self.sound.note] if self.sound.note else []
            self.stack = stack.pop_all()
        return self

    def write(self, frame: Frame) -> None:
        """Write one frame, and the sound up to it; times must rise from frame to frame."""
        self.image.write(frame)
        super().write(frame)
        if self.sound:
            self.sound.write_until(frame.time_seconds)

    def cut_sound(self) -> None:
        """Let the sound end with the image, because the source breaks off there."""
        self.is_sound_cut = True

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self.stack.__exit__(kind, error, trace)
            return
        with self.stack:
            self.image.finish()
            if self.sound:
                self.sound.write_until(self.image.end_seconds if self.is_sound_cut else self.sound_end)
                self.sound_broke_off = self.sound.broke_off
            self.notes += self.image.notes
            complete(self.new, self.image, has_sound=self.sound is not None and self.sound.is_heard)

    def info(self) -> VideoInfo:
        """What was written, once it is whole."""
        return read_info(self.path)


def write_clip(path: Path | str, frames: Iterable[np.ndarray], fps: Fraction) -> None:
    """Write images that we drew, uint8 RGB (height, width, 3) of one size, as a silent clip of `fps` frames a second.

    Raises:
        InputError: the name asks for no file format, or the disk can't take it.
        IncompleteClipError: what was read back is not what was written.
    """
    kind = file_format(path)
    images = iter(frames)
    first = next(images, None)
    assert first is not None, "a clip needs one frame at least"
    drawn = VideoInfo(Path(path), first.shape[:2], fps, 1 / fps, None, None, 0, None, "none")
    with new_clip(Path(path), kind, 1 / fps) as new:
        image = video_track(new, kind, first.shape[:2], drawn)
        for number, image_u8 in enumerate(chain([first], images)):
            image.write(Frame(image_u8, number / fps))
        image.finish()
        complete(new, image, has_sound=False)


def file_format(path: Path | str) -> Format:
    """The format of a single file that a name asks for.

    Raises:
        InputError: it asks for none, or for a folder or a pipe, or the name is a folder's.
    """
    name = format_name(path)
    if not name.startswith(".") or Path(path).is_dir():
        raise InputError(f"can't write {path}: it is a folder or a pipe; add a file name")
    return FORMATS[name]


def video_track(
    container: av.container.OutputContainer,
    kind: Format,
    size_hw: tuple[int, int],
    source: VideoInfo,
    crf: int | None = None,
) -> VideoTrack | GifTrack:
    """The stream of images that a format takes."""
    assert kind.encoder
    if kind.encoder.name == "gif":
        return GifTrack(container, size_hw, source.fps)
    return VideoTrack(
        container,
        size_hw,
        source.fps,
        source.time_base,
        pixel_aspect=source.pixel_aspect,
        encoder=kind.encoder,
        crf=crf,
    )


def complete(container: av.container.OutputContainer, image: VideoTrack | GifTrack, *, has_sound: bool) -> None:
    """Close the file and hold it against what was given to the encoder."""
    path = Path(container.name)
    container.close()
    if isinstance(image, GifTrack):
        image.set_last_delay(path)
    check_clip(path, image, has_sound=has_sound)


@contextmanager
def new_clip(path: Path, kind: Format, time_base: Fraction) -> Generator[av.container.OutputContainer]:
    """Yield an output container beside `path`; it takes the name at the end, on an error it is removed."""
    options = {"movflags": "+faststart", "movie_timescale": str(ticks_per_second(time_base))}
    is_mp4 = kind.container in {"mp4", "mov"}
    with written_beside(path) as temporary:
        target = str(temporary.absolute())
        container = av.open(target, "w", format=kind.container, container_options=options if is_mp4 else {})
        try:
            yield container
            container.close()
        except (av.error.InvalidDataError, av.error.ArgumentError) as error:
            is_of_sound = isinstance(error, av.error.InvalidDataError) or bool(container.streams.audio)
            abandon(container)
            if not is_of_sound:
                raise
            raise InputError(f"can't write {path}: the source's sound is damaged and can't be copied") from error
        except BaseException:
            abandon(container)
            raise


def abandon(container: av.container.OutputContainer) -> None:
    """Close a container whose file will be removed; that it can't be completed is no news."""
    try:
        container.close()
    except av.error.FFmpegError:
        return
