"""Read what a video is: size, rate, duration, rotation, audio."""

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.stream import Disposition, Stream

from vitreous.errors import InputError
from vitreous.files import os_error_reason
from vitreous.video.clock_jumps import clock_jumps, continuous_packets
from vitreous.video.orientation import is_sideways, rotation_degrees

# Demuxers of single video files. Playlists (HLS, concat) could open other files, and images are not videos.
DEMUXERS = (
    "mov,mp4,matroska,webm,gif,apng,avi,mpegts,mpeg,mpegvideo,flv,ogg,asf,mxf,nut,ivf,obu,dv,rm,h264,hevc,"
    "m4v,yuv4mpegpipe"
)
MPEG_FORMATS = {"mpegts", "mpeg"}
LFS_POINTER = b"version https://git-lfs.github.com/spec/"
MICROSECOND = Fraction(1, 1_000_000)
DEFAULT_RATE = Fraction(25)


@dataclass(frozen=True)
class Frame:
    """One image of a video: uint8 RGB (height, width, 3), upright, shown from `time_seconds` on.

    `duration_seconds` is how long the file shows it; None means until the next frame, or one average interval at the
    end.
    """

    image_u8: np.ndarray
    time_seconds: Fraction
    duration_seconds: Fraction | None = None


@dataclass(frozen=True)
class VideoInfo:
    """What the header of a video says, and the size of its first frame.

    Attributes:
        path: the file.
        size_hw: (height, width) in pixels, upright.
        fps: frames per second on average.
        time_base: the tick of the time stamps in seconds.
        frame_count: the number of frames; None if the header does not say.
        duration_seconds: of the images, or of the file if only that is stated.
        rotation_degrees: the counter-clockwise rotation that the file asks of its player.
        audio_codec: FFmpeg's name, such as "aac"; None without audio.
        video_codec: FFmpeg's name, such as "h264".
        pixel_aspect: the width of an upright pixel over its height.
    """

    path: Path
    size_hw: tuple[int, int]
    fps: Fraction
    time_base: Fraction
    frame_count: int | None
    duration_seconds: Fraction | None
    rotation_degrees: int
    audio_codec: str | None
    video_codec: str
    pixel_aspect: Fraction = Fraction(1)


def read_info(path: Path | str) -> VideoInfo:
    """Read what the video at `path` is.

    Raises:
        InputError: there is no such file, it is not a video, or no frame of it can be decoded.
    """
    with open_video(path) as (container, stream):
        image = decode_first_image(Path(path), container, stream)
        audio = audio_stream(container)
        size_hw, aspect = (image.height, image.width), Fraction(stream.sample_aspect_ratio or 1)
        if is_sideways(image):
            size_hw, aspect = (image.width, image.height), 1 / aspect
        return VideoInfo(
            path=Path(path),
            size_hw=size_hw,
            fps=average_rate(stream),
            time_base=tick_seconds(stream),
            frame_count=len(avi_times(stream)) or stream.frames or None,
            duration_seconds=duration_seconds(container, stream),
            rotation_degrees=rotation_degrees(image),
            audio_codec=audio.codec_context.codec.canonical_name if audio else None,
            video_codec=stream.codec_context.codec.canonical_name,
            pixel_aspect=aspect,
        )


@contextmanager
def open_video(path: Path | str) -> Generator[tuple[av.container.InputContainer, av.VideoStream]]:
    """Open a video and yield its container and its video stream; it is closed at the end in any case.

    Raises:
        InputError: this is not a video; the message says why.
    """
    path = Path(path)
    check_video_file(path)
    try:
        # FFmpeg would read a relative "a:b.mp4" as a protocol called "a".
        whitelist = {"format_whitelist": DEMUXERS}
        container = av.open(str(path.absolute()), options=whitelist, metadata_errors="replace")
    except OSError as error:
        raise InputError(f"can't read {path}: {os_error_reason(error)}") from error
    except av.error.FFmpegError as error:
        raise InputError(
            f"{path} can't be read as a video: it is something else, or its index is damaged; "
            "give a complete MP4, MOV, MKV, WebM, AVI or GIF file"
        ) from error
    with container:
        yield container, video_stream(path, container)


def check_video_file(path: Path) -> None:
    """Check a path before FFmpeg does, whose errors are numbers.

    Raises:
        InputError: the path is a folder, a pipe, missing, empty or a Git LFS pointer.
    """
    if path.is_dir():
        raise InputError(f"{path} is a folder: give one video file")
    if not path.exists():
        raise InputError(f"there is no file {path}: check the path")
    if not path.is_file():
        raise InputError(f"{path} is a pipe, a socket or a device: save the video to a file, and give that")
    try:
        with path.open("rb") as file:
            start = file.read(len(LFS_POINTER))
    except OSError as error:
        raise InputError(f"can't read {path}: {os_error_reason(error)}") from error
    if not start:
        raise InputError(f"{path} is empty (0 bytes): download or copy it again")
    if start == LFS_POINTER:
        raise InputError(f"{path} is a Git LFS pointer, not the video itself: fetch it with 'git lfs pull'")


def video_stream(path: Path, container: av.container.InputContainer) -> av.VideoStream:
    """Return the first stream of moving images, ignoring cover art."""
    for stream in container.streams.video:
        if not stream.disposition & Disposition.attached_pic and stream.codec_context is not None:
            return stream
    raise InputError(f"{path} has no moving image, only {', '.join(s.type for s in container.streams) or 'nothing'}")


def demux(container: av.container.InputContainer, *streams: Stream) -> Iterator[av.Packet]:
    """Yield the packets of `streams` in the order of the file, and an empty one for each stream at the end.

    Times continue where the file's clock jumps.
    """
    jumps = clock_jumps(container)
    try:
        yield from continuous_packets(container, streams, jumps) if jumps else container.demux(*streams)
    except IndexError:
        # PyAV 18 fails on streams that appear later (in a transport stream), after ours have ended.
        return


def audio_stream(container: av.container.InputContainer) -> av.AudioStream | None:
    """Return the first audio stream, if there is one."""
    return next((stream for stream in container.streams.audio if stream.codec_context is not None), None)


def decode_first_image(path: Path, container: av.container.InputContainer, stream: av.VideoStream) -> av.VideoFrame:
    """Return the first image that can be decoded, not yet upright."""
    try:
        image = next(container.decode(stream), None)
    except av.error.FFmpegError as error:
        raise undecodable_error(path, error.strerror) from error
    if image is None:
        raise undecodable_error(path, "the file ends before the first one")
    return image


def undecodable_error(path: Path | str, reason: str | None) -> InputError:
    """Build the error for a video of which no frame can be decoded."""
    return InputError(f"no frame of {path} can be decoded ({(reason or 'unknown').lower()}): is the file damaged?")


def average_rate(stream: av.VideoStream) -> Fraction:
    """Return the average number of frames per second, or FFmpeg's default for streams that state none.

    An AVI file repeats a frame by an empty entry, so its rate is that of the clock; here only frames count.
    """
    times = avi_times(stream)
    if len(times) > 1:
        return (len(times) - 1) / ((times[-1] - times[0]) * tick_seconds(stream))
    return Fraction(stream.average_rate or stream.guessed_rate or DEFAULT_RATE)


def is_avi(stream: Stream) -> bool:
    """Return whether a stream is in an AVI file, which has no presentation times."""
    return stream.container.format.name == "avi"


def avi_times(stream: av.VideoStream) -> list[int]:
    """Return the time of each frame in the index of an AVI file, in ticks; empty for other files."""
    return sorted({entry.timestamp for entry in stream.index_entries if entry.size}) if is_avi(stream) else []


def tick_seconds(stream: Stream) -> Fraction:
    """Return the unit of a stream's time stamps in seconds; every stream of an open file has one."""
    assert stream.time_base is not None
    return Fraction(stream.time_base)


def duration_seconds(container: av.container.InputContainer, stream: av.VideoStream) -> Fraction | None:
    """Return the duration of the images as the header gives it, else that of the file, else None.

    Where the file's clock jumps, it is the one of the continuous times.
    """
    if jumps := clock_jumps(container):
        return jumps.end_seconds[stream.index] - (stream.start_time or 0) * tick_seconds(stream)
    if stream.duration is not None:
        return stream.duration * tick_seconds(stream)
    return container.duration * MICROSECOND if container.duration is not None else None


def format_frame_count(count: int, total: int | None = None) -> str:
    """Format a number of frames, perhaps with the total.

    >>> format_frame_count(1), format_frame_count(28), format_frame_count(28, 50)
    ('1 frame', '28 frames', '28 of 50 frames')
    """
    of_all = f" of {total}" if total is not None and total > count else ""
    return f"{count}{of_all} frame{'' if (total if of_all else count) == 1 else 's'}"


def start_seconds(container: av.container.InputContainer, stream: av.VideoStream) -> Fraction:
    """Return the time of the file that becomes zero: the start of the images or of the audio, whichever is first.

    It is the same for both, so they stay in sync, and a whole number of video ticks, so image times stay exact. Audio
    before zero is codec delay, which is not part of the video; but the clock of an MPEG stream may be below zero.
    """
    tick = tick_seconds(stream)
    image = (stream.start_time or 0) * tick
    audio = audio_stream(container)
    if audio is None or audio.start_time is None:
        return image
    heard = audio.start_time * tick_seconds(audio)
    return min(image, heard if container.format.name in MPEG_FORMATS else max(Fraction(0), heard)) // tick * tick
