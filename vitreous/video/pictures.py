"""Decoding: the pictures of a clip in the order they are shown, as FFmpeg gives them, with exact and rising times."""

from collections.abc import Iterator
from fractions import Fraction

import av

from vitreous.video.excerpt import Moment
from vitreous.video.info import MICROSECOND, average_rate, packets, start_seconds, tick_seconds

# Only Matroska ends a cut file as if it were whole; how much of its stated duration may be missing from a sound one.
DURATION_TOLERANCE_SECONDS = Fraction(1, 2)


class BrokenDataError(Exception):
    """The bytes of a clip can't be read or decoded any further; says why."""


def moments(container: av.container.InputContainer, stream: av.VideoStream) -> Iterator[Moment]:
    """The pictures of a stream with their times.

    Raises:
        BrokenDataError: the data are damaged, or end long before the header's duration.
    """
    times = FrameTimes(container, stream)
    for picture in pictures(container, stream):
        yield Moment(*times.next(picture), picture)


def pictures(container: av.container.InputContainer, stream: av.VideoStream) -> Iterator[av.VideoFrame]:
    """Decode the pictures of a stream in the order they are shown.

    Pictures that are still inside the decoder when it fails are not trusted, and not given out.

    Raises:
        BrokenDataError: the data are damaged, or end long before the header's duration.
    """
    end = Fraction(0)
    try:
        for packet in packets(container, *container.streams):
            end = max(end, end_seconds(packet))
            if packet.stream.index == stream.index:
                yield from stream.decode(packet)
    except av.error.FFmpegError as error:
        raise BrokenDataError((error.strerror or str(error)).lower()) from error
    stated = (container.duration or 0) * MICROSECOND
    if "matroska" in container.format.name and end + DURATION_TOLERANCE_SECONDS < stated:
        raise BrokenDataError(f"the file ends at {float(end):.2f} s of {float(stated):.2f} s")


def end_seconds(packet: av.Packet) -> Fraction:
    """When what a packet holds has been shown or heard, in seconds of the file."""
    return ((packet.pts or 0) + (packet.duration or 0)) * Fraction(packet.time_base or 0)


class FrameTimes:
    """Gives each decoded picture its time and duration in seconds, exact and strictly rising."""

    def __init__(self, container: av.container.InputContainer, stream: av.VideoStream) -> None:
        self.tick = tick_seconds(stream)
        self.start = start_seconds(container, stream)
        self.step = 1 / average_rate(stream)
        self.expected = Fraction(0)
        self.earliest: Fraction | None = None

    def next(self, picture: av.VideoFrame) -> tuple[Fraction, Fraction]:
        """The (time, duration) of the picture that follows."""
        stamp = picture.pts if picture.pts is not None else picture.dts
        time = self.expected if stamp is None else stamp * self.tick - self.start
        if self.earliest is not None:
            time = max(time, self.earliest)
        duration = picture.duration * self.tick if picture.duration else self.step
        self.expected, self.earliest = time + duration, time + self.tick
        return time, duration
