"""Decoding: the images of a clip in the order they are shown, as FFmpeg gives them, with exact and rising times."""

from collections.abc import Iterator
from fractions import Fraction
from itertools import chain

import av

from vitreous.video.info import MICROSECOND, average_rate, opened, packets, start_seconds, tick_seconds
from vitreous.video.trim import Moment

# Only Matroska ends a cut file as if it were whole; how much of its stated duration may be missing from a sound one.
DURATION_TOLERANCE_SECONDS = Fraction(1, 2)
# A key frame so long before is shown, with all that refer to it, before the frames that are asked for.
SEEK_FROM_SECONDS, SEEK_MARGIN_SECONDS = 10, 1


class BrokenDataError(Exception):
    """The bytes of a clip can't be read or decoded any further; says why."""


def moments(
    container: av.container.InputContainer, stream: av.VideoStream, start: Fraction = Fraction(0)
) -> Iterator[Moment]:
    """The images of a stream with their times; those long before `start` (seconds) may be left out.

    Raises:
        BrokenDataError: the data are damaged, or end long before the header's duration.
    """
    times = FrameTimes(container, stream)
    for image in images_near(container, stream, start, times.start):
        yield Moment(*times.next(image), image)


def images_near(
    container: av.container.InputContainer, stream: av.VideoStream, start: Fraction, zero: Fraction
) -> Iterator[av.VideoFrame]:
    """The images from some way before `start` on where the file has an index that leads there, else all of them."""
    if start <= SEEK_FROM_SECONDS:
        return images(container, stream)
    found = images(container, stream)
    try:
        container.seek(int((start + zero - SEEK_MARGIN_SECONDS) / tick_seconds(stream)), stream=stream)
        first = next(found, None)
    except (av.error.FFmpegError, BrokenDataError):
        first = None
    if first is not None and first.pts is not None and first.pts * tick_seconds(stream) <= start + zero:
        return chain([first], found)
    return images_from_beginning(container.name)


def images_from_beginning(path: str) -> Iterator[av.VideoFrame]:
    """All images of a clip that is opened anew: raw streams can't be wound back (FFmpeg: "not permitted")."""
    with opened(path) as (container, stream):
        yield from images(container, stream)


def images(container: av.container.InputContainer, stream: av.VideoStream) -> Iterator[av.VideoFrame]:
    """Decode the images of a stream in the order they are shown.

    Images that are still inside the decoder when it fails are not trusted, and not given out.

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
    """Gives each decoded image its time and duration in seconds, exact and strictly rising."""

    def __init__(self, container: av.container.InputContainer, stream: av.VideoStream) -> None:
        self.tick = tick_seconds(stream)
        self.start = start_seconds(container, stream)
        self.step = 1 / average_rate(stream)
        self.expected = Fraction(0)
        self.earliest: Fraction | None = None

    def next(self, image: av.VideoFrame) -> tuple[Fraction, Fraction]:
        """The (time, duration) of the image that follows."""
        stamp = image.pts if image.pts is not None else image.dts
        if self.earliest is None and stamp is not None:
            self.start = min(self.start, stamp * self.tick)  # A damaged index may give a start after the first image.
        time = self.expected if stamp is None else stamp * self.tick - self.start
        if self.earliest is not None:
            time = max(time, self.earliest)
        duration = image.duration * self.tick if image.duration else self.step
        self.expected, self.earliest = time + duration, time + self.tick
        return time, duration
