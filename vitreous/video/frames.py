"""Decode the images of a video in presentation order, with exact and increasing times."""

from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from itertools import chain

import av

from vitreous.video.clock_jumps import clock_jumps
from vitreous.video.deinterlace import deinterlace
from vitreous.video.info import MICROSECOND, average_rate, demux, is_avi, open_video, start_seconds, tick_seconds
from vitreous.video.trim import DecodedFrame, ReadReport

# A truncated Matroska file reads like a complete one; a complete one may be this much shorter than its header says.
DURATION_TOLERANCE_SECONDS = Fraction(1, 2)
# Decoding starts at a key frame so long before the start that all frames that it affects are complete.
SEEK_FROM_SECONDS, SEEK_MARGIN_SECONDS = 10, 1


class CorruptDataError(Exception):
    """The data of a video can't be read or decoded any further; the message says why."""


def decode_frames(
    container: av.container.InputContainer, stream: av.VideoStream, start: Fraction, report: ReadReport
) -> Iterator[DecodedFrame]:
    """Yield the progressive images of a stream with their times; those long before `start` (seconds) may be missing.

    Raises:
        CorruptDataError: the data are damaged, or end long before the header's duration.
    """
    if jumps := clock_jumps(container).by_stream.get(stream.index):
        zero, first = start_seconds(container, stream), jumps[0].resume_seconds
        times = f"{len(jumps)} times, first" if len(jumps) > 1 else "once,"
        report.notes.append(
            f"the file's clock jumps {times} at {float(first - zero):.2f} s, as in joined recordings: "
            "the times continue from there"
        )
    yield from deinterlace(timed_images(container, stream, start), report)


def timed_images(
    container: av.container.InputContainer, stream: av.VideoStream, start: Fraction
) -> Iterator[DecodedFrame]:
    """Yield the images with their times; a frame that the file repeats is shown until the next one.

    Raises:
        CorruptDataError: as `decode_images`.
    """
    times = FrameTimes(container, stream)
    pending, error = None, None
    try:
        for image in seek_images(container, stream, start, times):
            frame = DecodedFrame(*times.next(image), image)
            if pending is not None:
                yield times.with_duration(pending, frame.time_seconds)
            pending = frame
    except CorruptDataError as raised:
        error = raised
    if pending is not None:
        yield times.with_duration(pending, None)
    if error is not None:
        raise error


def seek_images(
    container: av.container.InputContainer, stream: av.VideoStream, start: Fraction, times: "FrameTimes"
) -> Iterator[av.VideoFrame]:
    """Yield the images from some time before `start` on if the file has a usable index, else all images."""
    is_reordered_avi = is_avi(stream) and stream.codec_context.has_b_frames
    if start <= SEEK_FROM_SECONDS or is_reordered_avi or clock_jumps(container):
        return decode_images(container, stream, times)
    images = decode_images(container, stream, times)
    try:
        container.seek(int((start + times.start - SEEK_MARGIN_SECONDS) / tick_seconds(stream)), stream=stream)
        first = next(images, None)
    except (av.error.FFmpegError, CorruptDataError):
        first = None
    if first is not None and first.pts is not None and first.pts * tick_seconds(stream) <= start + times.start:
        return chain([first], images)
    times.decode_times.clear()
    return reopen_images(container.name, times)


def reopen_images(path: str, times: "FrameTimes") -> Iterator[av.VideoFrame]:
    """Open a video again and yield all its images, because raw streams can't be rewound (FFmpeg: "not permitted")."""
    with open_video(path) as (container, stream):
        yield from decode_images(container, stream, times)


def decode_images(
    container: av.container.InputContainer, stream: av.VideoStream, times: "FrameTimes"
) -> Iterator[av.VideoFrame]:
    """Decode the images of a stream in presentation order.

    Images that are still inside the decoder when it fails are not reliable, and not returned.

    Raises:
        CorruptDataError: the data are damaged, or end long before the header's duration.
    """
    end = Fraction(0)
    try:
        for packet in demux(container, *container.streams):
            end = max(end, packet_end(packet))
            if packet.stream.index == stream.index and times.has_image(packet):
                yield from stream.decode(packet)
    except av.error.FFmpegError as error:
        raise CorruptDataError((error.strerror or str(error)).lower()) from error
    stated = (container.duration or 0) * MICROSECOND
    if "matroska" in container.format.name and end + DURATION_TOLERANCE_SECONDS < stated:
        raise CorruptDataError(f"the file ends at {float(end):.2f} s of {float(stated):.2f} s")


def packet_end(packet: av.Packet) -> Fraction:
    """Return the end of a packet in seconds of the file."""
    return ((packet.pts or 0) + (packet.duration or 0)) * Fraction(packet.time_base or 0)


class FrameTimes:
    """Gives each decoded image its time and duration in seconds, exact and strictly increasing.

    An AVI file has decode times only: the n-th image that is shown gets the n-th of them. Where it has none, and where
    another file has a packet without data (Theora), the frame before is repeated.
    """

    def __init__(self, container: av.container.InputContainer, stream: av.VideoStream) -> None:
        self.tick = tick_seconds(stream)
        self.start = start_seconds(container, stream)
        self.average_duration = 1 / average_rate(stream)
        self.expected = Fraction(0)
        self.next_allowed: Fraction | None = None
        self.is_avi = is_avi(stream)
        self.decode_times: deque[int] = deque()
        self.repeated_until: Fraction | None = None
        self.last_step: Fraction | None = None

    def has_image(self, packet: av.Packet) -> bool:
        """Take note of the next packet of the stream; return False if it repeats the frame before."""
        if packet.size == 0 and packet.pts is not None:
            self.repeated_until = packet_end(packet) - self.start
            return False
        if self.is_avi and packet.dts is not None:
            self.decode_times.append(packet.dts)
        return True

    def next(self, image: av.VideoFrame) -> tuple[Fraction, Fraction]:
        """Return the (time, duration) of the next image."""
        timestamp = image.pts if image.pts is not None else image.dts
        if self.is_avi:
            timestamp = self.decode_times.popleft() if self.decode_times else None
        if self.next_allowed is None and timestamp is not None:
            # A damaged index may state a start after the first image.
            self.start = min(self.start, timestamp * self.tick)
        time = self.expected if timestamp is None else timestamp * self.tick - self.start
        if self.next_allowed is not None:
            time = max(time, self.next_allowed)
        duration = image.duration * self.tick if image.duration else self.average_duration
        self.expected, self.next_allowed = time + duration, time + self.tick
        return time, duration

    def with_duration(self, frame: DecodedFrame, next_seconds: Fraction | None) -> DecodedFrame:
        """Return the frame with its duration, given the time of the next one; None at the end of the video."""
        repeated_until, self.repeated_until = self.repeated_until, None
        if self.is_avi and next_seconds is not None:
            self.last_step = next_seconds - frame.time_seconds
        duration = self.last_step if self.is_avi and self.last_step else frame.duration_seconds
        if repeated_until is not None:
            end = repeated_until if next_seconds is None else min(repeated_until, next_seconds)
            duration = max(duration, end - frame.time_seconds)
        return replace(frame, duration_seconds=duration)
