"""Select frames of a video by time, before any of them is converted to an array."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from fractions import Fraction
from math import ceil
from pathlib import Path

import av

from vitreous.errors import InputError
from vitreous.video.info import VideoInfo, demux, is_avi, open_video, start_seconds, tick_seconds
from vitreous.video.options import KEEP_ALL, VideoOptions


@dataclass(frozen=True)
class DecodedFrame:
    """A decoded image with its time and duration in seconds."""

    time_seconds: Fraction
    duration_seconds: Fraction
    image: av.VideoFrame | None = None

    @property
    def end_seconds(self) -> Fraction:
        """The end of the frame in seconds."""
        return self.time_seconds + self.duration_seconds


@dataclass
class ReadReport:
    """What a reader reports besides the frames: the time of the source that became zero, and notes for the user."""

    zero_seconds: Fraction = Fraction(0)
    notes: list[str] = field(default_factory=list)


def trim_frames(frames: Iterable[DecodedFrame], options: VideoOptions, report: ReadReport) -> Iterator[DecodedFrame]:
    """Yield the frames from `start` to `end`, one of each `every`, shown until the next; times begin at 0.

    With the default options all frames are unchanged. An error of `frames` is raised after the last good frame.
    """
    if options == replace(KEEP_ALL, size=options.size, quality=options.quality, format=options.format):
        yield from frames
        return
    pending, error, number = None, None, 0
    try:
        for frame in select_range(frames, options, report):
            if number % options.every == 0:
                if pending is not None:
                    yield pending
                pending = frame
            elif pending is not None:
                pending = replace(pending, duration_seconds=frame.end_seconds - pending.time_seconds)
            number += 1
    except Exception as raised:  # noqa: BLE001 - whatever it is, it is raised below
        error = raised
    if pending is not None:
        yield pending
    if error is not None:
        raise error


def select_range(frames: Iterable[DecodedFrame], options: VideoOptions, report: ReadReport) -> Iterator[DecodedFrame]:
    """Yield the frames that begin between `start` and `end`, shortened to `end`; the first one becomes time zero."""
    start, end, is_first = options.start_seconds, options.end_seconds, True
    for frame in frames:
        if frame.time_seconds < start:
            continue
        if end is not None and frame.time_seconds >= end:
            return
        if is_first and start:
            report.zero_seconds = frame.time_seconds
        is_first = False
        last = frame.end_seconds if end is None else min(frame.end_seconds, end)
        yield replace(
            frame,
            time_seconds=frame.time_seconds - report.zero_seconds,
            duration_seconds=last - frame.time_seconds,
        )


def empty_range_error(path: Path | str, options: VideoOptions, last: DecodedFrame) -> InputError:
    """Build the error for a range without frames."""
    until = "" if options.end is None else f" and before {float(options.end):g} s"
    return InputError(
        f"{path} has no frame at or after {float(options.start):g} s{until}: "
        f"the last one read is at {float(last.time_seconds):.2f} s"
    )


def expected_frames(info: VideoInfo, options: VideoOptions) -> int | None:
    """Return how many frames the output will have, from the time stamps; None if the header does not state a number."""
    if info.frame_count is None:
        return None
    if not options.start and options.end is None:
        return ceil(info.frame_count / options.every)
    try:
        return ceil(sum(1 for _ in timestamps_between(info.path, options)) / options.every)
    except av.error.FFmpegError:  # The video is truncated, which is reported when its frames are read.
        return None


def timestamps_between(path: Path, options: VideoOptions) -> Iterator[Fraction]:
    """Yield the time stamps between `start` and `end` in seconds, in the order of the file, without decoding."""
    start, end = options.start_seconds, options.end_seconds
    with open_video(path) as (container, stream):
        zero, tick = start_seconds(container, stream), tick_seconds(stream)
        for packet in demux(container, stream):
            # A packet without data shows the frame before for longer; an AVI file has decode times only.
            timestamp = packet.dts if is_avi(stream) else packet.pts
            if timestamp is None or packet.is_discard or not packet.size:
                continue
            time = timestamp * tick - zero
            if end is not None and packet.dts is not None and packet.dts * tick - zero >= end:
                return
            if time >= start and (end is None or time < end):
                yield time
