"""What a clip is, before any of it is used: size, rate, duration, rotation, sound."""

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.stream import Disposition, Stream

from vitreous.errors import InputError
from vitreous.files import reason
from vitreous.video.orientation import is_sideways, rotation_degrees

# Demuxers that hold one clip in one file. Playlists (HLS, concat) could open other files, and images are no video.
DEMUXERS = (
    "mov,mp4,matroska,webm,gif,apng,avi,mpegts,mpeg,mpegvideo,flv,ogg,asf,mxf,nut,ivf,obu,dv,rm,h264,hevc,"
    "m4v,yuv4mpegpipe"
)
LFS_POINTER = b"version https://git-lfs.github.com/spec/"
MICROSECOND = Fraction(1, 1_000_000)
RATE_OF_RAW_STREAMS = Fraction(25)


@dataclass(frozen=True)
class Frame:
    """One image of a clip: uint8 RGB (height, width, 3), upright, shown from `time_seconds` on.

    `duration_seconds` is how long the file shows it; None means until the next frame, or one average step at the end.
    """

    image_u8: np.ndarray
    time_seconds: Fraction
    duration_seconds: Fraction | None = None


@dataclass(frozen=True)
class VideoInfo:
    """What the header of a clip says, and its first frame's size.

    `size_hw` is (height, width) in pixels, upright; `pixel_aspect` the width of an upright pixel over its height.
    `fps` is the average; `time_base` the tick of the time stamps in seconds. `duration_seconds` is that of the image,
    or of the whole file where only that is stated. `rotation_degrees` is the counter-clockwise turn that the file asks
    of its player. `sound` and `codec` are FFmpeg's names ("aac", "h264").
    """

    path: Path
    size_hw: tuple[int, int]
    fps: Fraction
    time_base: Fraction
    frame_count: int | None
    duration_seconds: Fraction | None
    rotation_degrees: int
    sound: str | None
    codec: str
    pixel_aspect: Fraction = Fraction(1)


def read_info(path: Path | str) -> VideoInfo:
    """Read what the clip at `path` is.

    Raises:
        InputError: there is no such file, it is no video, it has no image, or not one frame of it can be decoded.
    """
    with opened(path) as (container, stream):
        image = first_image(Path(path), container, stream)
        sound = sound_stream(container)
        size_hw, aspect = (image.height, image.width), Fraction(stream.sample_aspect_ratio or 1)
        if is_sideways(image):
            size_hw, aspect = (image.width, image.height), 1 / aspect
        return VideoInfo(
            path=Path(path),
            size_hw=size_hw,
            fps=average_rate(stream),
            time_base=tick_seconds(stream),
            frame_count=stream.frames or None,
            duration_seconds=duration_seconds(container, stream),
            rotation_degrees=rotation_degrees(image),
            sound=sound.codec_context.codec.canonical_name if sound else None,
            codec=stream.codec_context.codec.canonical_name,
            pixel_aspect=aspect,
        )


@contextmanager
def opened(path: Path | str) -> Generator[tuple[av.container.InputContainer, av.VideoStream]]:
    """Open a clip and yield its container and its stream of images; closed at the end, whatever happens.

    Raises:
        InputError: in one line, why this is no clip.
    """
    path = Path(path)
    refuse_what_is_no_video(path)
    try:
        # An absolute path, because "a:b.mp4" would be taken for a protocol called "a".
        whitelist = {"format_whitelist": DEMUXERS}
        container = av.open(str(path.absolute()), options=whitelist, metadata_errors="replace")
    except OSError as error:
        raise InputError(f"can't read {path}: {reason(error)}") from error
    except av.error.FFmpegError as error:
        raise InputError(
            f"{path} can't be read as a video: it is something else, or its index is damaged; "
            "give a whole MP4, MOV, MKV, WebM, AVI or GIF file"
        ) from error
    with container:
        yield container, video_stream(path, container)


def refuse_what_is_no_video(path: Path) -> None:
    """Say plainly what a path is that can't be a clip, before FFmpeg gives a number for it."""
    if path.is_dir():
        raise InputError(f"{path} is a folder: give one video file")
    if not path.exists():
        raise InputError(f"there is no file {path}: check the path")
    try:
        with path.open("rb") as file:
            start = file.read(len(LFS_POINTER))
    except OSError as error:
        raise InputError(f"can't read {path}: {reason(error)}") from error
    if not start:
        raise InputError(f"{path} is empty (0 bytes): download or copy it again")
    if start == LFS_POINTER:
        raise InputError(f"{path} is a Git LFS pointer, not the video itself: fetch it with 'git lfs pull'")


def video_stream(path: Path, container: av.container.InputContainer) -> av.VideoStream:
    """The first stream of moving images; the cover image of a song is none."""
    for stream in container.streams.video:
        if not stream.disposition & Disposition.attached_pic and stream.codec_context is not None:
            return stream
    raise InputError(f"{path} has no moving image, only {', '.join(s.type for s in container.streams) or 'nothing'}")


def packets(container: av.container.InputContainer, *streams: Stream) -> Iterator[av.Packet]:
    """The packets of `streams` in the order of the file, and an empty one for each at the end."""
    try:
        yield from container.demux(*streams)
    except IndexError:
        # PyAV 18 knows no stream that appears on the way (in a transport stream), yet ends those too, after ours.
        return


def sound_stream(container: av.container.InputContainer) -> av.AudioStream | None:
    """The first stream of sound, if there is one."""
    return next((stream for stream in container.streams.audio if stream.codec_context is not None), None)


def first_image(path: Path, container: av.container.InputContainer, stream: av.VideoStream) -> av.VideoFrame:
    """The first image that can be decoded, as FFmpeg gives it (not yet upright)."""
    try:
        image = next(container.decode(stream), None)
    except av.error.FFmpegError as error:
        raise nothing_decodes(path, error.strerror) from error
    if image is None:
        raise nothing_decodes(path, "the file ends before the first one")
    return image


def nothing_decodes(path: Path | str, why: str | None) -> InputError:
    """The error for a clip of which not one frame comes out."""
    return InputError(f"not one frame of {path} can be decoded ({(why or 'unknown').lower()}): is the file damaged?")


def average_rate(stream: av.VideoStream) -> Fraction:
    """Frames per second on average, or what FFmpeg takes for streams that state no rate."""
    return Fraction(stream.average_rate or stream.guessed_rate or RATE_OF_RAW_STREAMS)


def tick_seconds(stream: Stream) -> Fraction:
    """The unit of a stream's time stamps in seconds; every stream of a file that was opened has one."""
    assert stream.time_base is not None
    return Fraction(stream.time_base)


def duration_seconds(container: av.container.InputContainer, stream: av.VideoStream) -> Fraction | None:
    """The duration of the image as the header gives it, else that of the file, else None."""
    if stream.duration is not None:
        return stream.duration * tick_seconds(stream)
    return container.duration * MICROSECOND if container.duration is not None else None


def in_frames(count: int, whole: int | None = None) -> str:
    """A number of frames in words, perhaps of all.

    >>> in_frames(1), in_frames(28), in_frames(28, 50)
    ('1 frame', '28 frames', '28 of 50 frames')
    """
    of_all = f" of {whole}" if whole is not None and whole > count else ""
    return f"{count}{of_all} frame{'' if (whole if of_all else count) == 1 else 's'}"


def start_seconds(container: av.container.InputContainer, stream: av.VideoStream) -> Fraction:
    """The instant of the file that is our time zero: where image or sound starts, whichever is first.

    It is the same for both, so that they keep their relation, and a whole number of image ticks, so that image
    times stay exact. Sound before zero is the codec's run-in, which is no part of the clip.
    """
    tick = tick_seconds(stream)
    image = (stream.start_time or 0) * tick
    sound = sound_stream(container)
    if sound is None or sound.start_time is None:
        return image
    return min(image, max(Fraction(0), sound.start_time * tick_seconds(sound))) // tick * tick
