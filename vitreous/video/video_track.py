"""The video stream of a file that is being written: H.264 or VP9 frames, each with its own time stamp."""

import os
from array import array
from collections import deque
from fractions import Fraction

import av

from vitreous.video.color import ToYUV, tag_as_bt709
from vitreous.video.formats import H264, Encoder
from vitreous.video.info import Frame

MIN_TICKS_PER_SECOND = 10_000
MAX_THREADS = 4  # per encoder; each thread holds frames in memory


class VideoTrack:
    """The video stream of an open output container: takes uint8 RGB frames of one size, writes packets.

    Attributes:
        ticks: the time stamps that were written, in units of `time_base` seconds.
        stored_hw: the size in the file.
    """

    def __init__(
        self,
        container: av.container.OutputContainer,
        size_hw: tuple[int, int],
        fps: Fraction,
        time_base: Fraction,
        *,
        pixel_aspect: Fraction = Fraction(1),
        encoder: Encoder = H264,
        crf: int | None = None,
    ) -> None:
        self.container, self.size_hw, self.average_duration, self.time_base = container, size_hw, 1 / fps, time_base
        self.stored_hw = stored_size(size_hw) if encoder.needs_even_sides else size_hw
        assert encoder.crf is not None
        options = {**encoder.settings, "crf": str(encoder.crf[1] if crf is None else crf)}
        stream = container.add_stream(encoder.name, rate=fps, options=options)
        assert isinstance(stream, av.VideoStream)
        self.stream = stream
        self.stream.height, self.stream.width = self.stored_hw
        self.stream.pix_fmt = "yuv420p"
        self.stream.codec_context.thread_count = min(MAX_THREADS, os.cpu_count() or 1)
        self.stream.codec_context.time_base = time_base
        self.stream.codec_context.sample_aspect_ratio = pixel_aspect
        tag_as_bt709(self.stream.codec_context)
        self.to_yuv = ToYUV(self.stored_hw)
        self.ticks = array("q")
        self.durations: deque[int] = deque()
        self.last_duration = 0
        self.notes: list[str] = []

    @property
    def end_seconds(self) -> Fraction:
        """The end of the last frame that was written."""
        return (self.ticks[-1] + self.last_duration) * self.time_base if self.ticks else Fraction(0)

    def write(self, frame: Frame) -> None:
        """Encode one frame; times must increase from frame to frame, by at least one tick."""
        height, width, channels = frame.image_u8.shape
        assert ((height, width), channels) == (self.size_hw, 3), f"{frame.image_u8.shape} is not {self.size_hw} in RGB"
        image = self.to_yuv(frame.image_u8)
        image.pts = round(frame.time_seconds / self.time_base)
        image.time_base = self.time_base
        assert not self.ticks or image.pts > self.ticks[-1], f"frame at {frame.time_seconds} s does not come later"
        self.ticks.append(image.pts)
        self.last_duration = max(1, round((frame.duration_seconds or self.average_duration) / self.time_base))
        self.durations.append(self.last_duration)
        self.mux(self.stream.encode(image))

    def finish(self) -> None:
        """Write what the encoder still holds."""
        assert self.ticks, "a video needs at least one frame"
        self.mux(self.stream.encode(None))
        assert not self.durations

    def mux(self, packets: list[av.Packet]) -> None:
        for packet in packets:
            packet.duration = self.durations.popleft()  # The encoder drops durations, and MP4 needs the last one.
            self.container.mux(packet)


def stored_size(size_hw: tuple[int, int]) -> tuple[int, int]:
    """Return the (height, width) in the file for images of `size_hw`: even, as yuv420p requires.

    >>> stored_size((241, 320))
    (242, 320)
    """
    height, width = size_hw
    return height + height % 2, width + width % 2


def ticks_per_second(time_base: Fraction) -> int:
    """Return a clock for an MP4 file on which every image time is a whole number of ticks; so late starts are exact.

    >>> ticks_per_second(Fraction(1001, 30000))
    30000
    """
    ticks = time_base.denominator
    while ticks < MIN_TICKS_PER_SECOND:
        ticks *= 2
    return ticks
