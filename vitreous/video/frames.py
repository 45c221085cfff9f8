"""Decode the images of a video in presentation order, with exact and increasing times."""

from collections.abc import Iterator
from fractions import Fraction
from itertools import chain

import av

from vitreous.video.info import MICROSECOND, average_rate, demux, open_video, start_seconds, tick_seconds
from vitreous.video.trim import DecodedFrame

# A truncated Matroska file reads like a complete one; a complete one may be this much shorter than its header says.
DURATION_TOLERANCE_SECONDS = Fraction(1, 2)
# Decoding starts at a key frame so long before the start that all frames that it affects are complete.
SEEK_FROM_SECONDS, SEEK_MARGIN_SECONDS = 10, 1


class CorruptDataError(Exception):
    """The data of a video can't be read or decoded any further; the message says why."""


def decode_frames(
    container: av.container.InputContainer, stream: av.VideoStream, start: Fraction = Fraction(0)
) -> Iterator[DecodedFrame]:
    """Yield the images of a stream with their times; those long before `start` (seconds) may be missing.

    Raises:
        CorruptDataError: the data are damaged, or end long before the header's duration.
    """
    times = FrameTimes(container, stream)
    for image in seek_images(container, stream, start, times.start):
        yield DecodedFrame(*times.next(image), image)


def seek_images(
    container: av.container.InputContainer, stream: av.VideoStream, start: Fraction, zero: Fraction
) -> Iterator[av.VideoFrame]:
    """Yield the images from some time before `start` on if the file has a usable index, else all images."""
    if start <= SEEK_FROM_SECONDS:
        return decode_images(container, stream)
    images = decode_images(container, stream)
    try:
        container.seek(int((start + zero - SEEK_MARGIN_SECONDS) / tick_seconds(stream)), stream=stream)
        first = next(images, None)
    except (av.error.FFmpegError, CorruptDataError):
        first = None
    if first is not None and first.pts is not None and first.pts * tick_seconds(stream) <= start + zero:
        return chain([first], images)
    return reopen_images(container.name)


def reopen_images(path: str) -> Iterator[av.VideoFrame]:
    """Open a video again and yield all its images, because raw streams can't be rewound (FFmpeg: "not permitted")."""
    with open_video(path) as (container, stream):
        yield from decode_images(container, stream)


def decode_images(container: av.container.InputContainer, stream: av.VideoStream) -> Iterator[av.VideoFrame]:
    """Decode the images of a stream in presentation order.

    Images that are still inside the decoder when it fails are not reliable, and not returned.

    Raises:
        CorruptDataError: the data are damaged, or end long before the header's duration.
    """
    end = Fraction(0)
    try:
        for packet in demux(container, *container.streams):
            end = max(end, packet_end(packet))
            if packet.stream.index == stream.index:
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
    """Gives each decoded image its time and duration in seconds, exact and strictly increasing."""

    def __init__(self, container: av.container.InputContainer, stream: av.VideoStream) -> None:
        self.tick = tick_seconds(stream)
        self.start = start_seconds(container, stream)
        self.average_duration = 1 / average_rate(stream)
        self.expected = Fraction(0)
        self.next_allowed: Fraction | None = None

    def next(self, image: av.VideoFrame) -> tuple[Fraction, Fraction]:
        """Return the (time, duration) of the next image."""
        timestamp = image.pts if image.pts is not None else image.dts
        if self.next_allowed is None and timestamp is not None:
            # A damaged index may state a start after the first image.
            self.start = min(self.start, timestamp * self.tick)
        time = self.expected if timestamp is None else timestamp * self.tick - self.start
        if self.next_allowed is not None:
            time = max(time, self.next_allowed)
        duration = image.duration * self.tick if image.duration else self.average_duration
        self.expected, self.next_allowed = time + duration, time + self.tick
        return time, duration
