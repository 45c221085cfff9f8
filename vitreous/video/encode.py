"""Writing a clip that plays everywhere: H.264, exact times, the source's sound; whole under its name, or absent."""

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
from vitreous.video.check import check_clip
from vitreous.video.info import Frame, VideoInfo
from vitreous.video.sound import sound_of
from vitreous.video.track import PictureTrack, ticks_per_second

FORMATS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska"}


class VideoWriter:
    """Writes the frames of one clip, with the rate, the time stamps and the sound of `source`.

    Use it as a context manager: at its end the file is closed, read back, and only then given its name; on an error
    nothing is left. Pictures are uint8 RGB (height, width, 3) of `size_hw`; in the file an odd side has one row or
    column more.

    Raises:
        InputError: the name's suffix is not one of FORMATS, it is the source itself, or the disk can't take it.
        IncompleteClipError: what was read back is not what was written.
    """

    def __init__(self, path: Path | str, source: VideoInfo, size_hw: tuple[int, int]) -> None:
        check_target(path, source.path)
        self.path, self.source, self.size_hw = Path(path), source, size_hw
        self.sound, self.is_sound_cut = None, False

    def __enter__(self) -> "VideoWriter":
        source = self.source
        with ExitStack() as stack:
            self.new = stack.enter_context(new_clip(self.path, source.time_base))
            self.picture = PictureTrack(self.new, self.size_hw, source.fps, source.time_base, source.pixel_aspect)
            if source.sound:
                self.sound = stack.enter_context(sound_of(source.path, self.new))
            self.stack = stack.pop_all()
        return self

    def write(self, frame: Frame) -> None:
        """Write one frame, and the sound up to it; times must rise from frame to frame."""
        self.picture.write(frame)
        if self.sound:
            self.sound.write_until(frame.time_seconds)

    def cut_sound(self) -> None:
        """Let the sound end with the picture, because the source breaks off there."""
        self.is_sound_cut = True

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self.stack.__exit__(kind, error, trace)
            return
        with self.stack:
            self.picture.finish()
            if self.sound:
                self.sound.write_until(self.picture.end_seconds if self.is_sound_cut else None)
            self.new.close()
            check_clip(Path(self.new.name), self.picture, has_sound=self.sound is not None and self.sound.is_heard)


def write_clip(path: Path | str, frames: Iterable[np.ndarray], fps: Fraction) -> None:
    """Write pictures that we drew, uint8 RGB (height, width, 3) of one size, as a silent clip of `fps` frames a second.

    Raises:
        InputError: the name's suffix is not one of FORMATS, or the disk can't take it.
        IncompleteClipError: what was read back is not what was written.
    """
    check_suffix(path)
    images = iter(frames)
    first = next(images, None)
    assert first is not None, "a clip needs one frame at least"
    with new_clip(Path(path), 1 / fps) as new:
        picture = PictureTrack(new, first.shape[:2], fps, time_base=1 / fps, pixel_aspect=Fraction(1))
        for number, image_u8 in enumerate(chain([first], images)):
            picture.write(Frame(image_u8, number / fps))
        picture.finish()
        new.close()
        check_clip(Path(new.name), picture, has_sound=False)


@contextmanager
def new_clip(path: Path, time_base: Fraction) -> Generator[av.container.OutputContainer]:
    """Yield an output container beside `path`; it takes the name at the end, on an error it is removed."""
    name = FORMATS[path.suffix.lower()]
    options = {"movflags": "+faststart", "movie_timescale": str(ticks_per_second(time_base))}
    with written_beside(path) as temporary:
        target = str(temporary.absolute())
        container = av.open(target, "w", format=name, container_options={} if name == "matroska" else options)
        try:
            yield container
            container.close()
        except av.error.InvalidDataError as error:
            abandon(container)
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


def check_target(path: Path | str, source: Path | str) -> None:
    """Refuse a name that no clip can be written to, before any work is done.

    Raises:
        InputError: the suffix is not one of FORMATS, or it is the source itself.
    """
    check_suffix(path)
    if Path(path).exists() and Path(source).exists() and Path(path).samefile(source):
        raise InputError(f"{path} is the video that is being read: choose another name for the one to write")


def check_suffix(path: Path | str) -> None:
    suffix = Path(path).suffix
    if suffix.lower() not in FORMATS:
        raise InputError(f"can't write {path}: '{suffix}' is no video format; end the name in {', '.join(FORMATS)}")
    if Path(path).is_dir():
        raise InputError(f"can't write {path}: it is a folder; add a file name")
