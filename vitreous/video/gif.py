"""The video stream of an animated GIF: 256 colors per frame, times in hundredths of a second."""

import os
from array import array
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.filter import Graph

from vitreous.errors import InputError
from vitreous.video.info import Frame

TICK_SECONDS = Fraction(1, 100)
SHORTEST_DELAY, LONGEST_DELAY = 2, 65_535  # ticks; browsers show shorter frames for 10 ticks
LARGE_HEIGHT, SMALLER_HEIGHT = 480, 360  # pixels
# Choosing the colors from a thumbnail takes a third of the time and makes no visible difference.
THUMBNAIL_WIDTH = 240
# Unlike error diffusion, an ordered pattern is still where the image is.
DITHERING = "new=1:dither=bayer:bayer_scale=4"
GRAPHIC_CONTROL = b"\x21\xf9\x04"  # GIF89a, section 23; followed by one byte of flags and two of delay


class GifTrack:
    """The video stream of an open GIF: takes uint8 RGB frames of one size, and gives each its own palette.

    The first frame is at zero. A frame less than 1/50 s after the previous one is skipped and counted in
    `skipped_frames`. Each time is rounded by itself, so rounding errors don't accumulate. `ticks` are in units of
    `time_base` seconds.
    """

    def __init__(self, container: av.container.OutputContainer, size_hw: tuple[int, int], fps: Fraction) -> None:
        self.container, self.size_hw, self.stored_hw, self.average_duration = container, size_hw, size_hw, 1 / fps
        self.time_base = TICK_SECONDS
        stream = container.add_stream("gif", rate=fps)
        assert isinstance(stream, av.VideoStream)
        self.stream = stream
        self.stream.height, self.stream.width = size_hw
        self.stream.pix_fmt = "pal8"
        self.stream.codec_context.time_base = TICK_SECONDS
        self.graph = palette_graph(size_hw)
        self.ticks = array("q")
        self.zero_seconds: Fraction | None = None
        self.end_seconds = Fraction(0)
        self.skipped_frames = 0
        self.last_packet = b""

    @property
    def notes(self) -> list[str]:
        notes = []
        if self.skipped_frames:
            skipped_frames = f"{self.skipped_frames} frames were skipped, the speed is unchanged"
            notes.append(f"GIF has at most 50 frames per second: {skipped_frames}")
        height, width = self.size_hw
        if len(self.ticks) > 1 and height > LARGE_HEIGHT:
            fraction = f"{SMALLER_HEIGHT**2 / height**2:.0%}"
            notes.append(
                f"a GIF of {width} x {height} pixels is slow to write and large: --height {SMALLER_HEIGHT} takes "
                f"about {fraction} of the space, and as .mp4 far less"
            )
        return notes

    def write(self, frame: Frame) -> None:
        """Encode one frame; times must increase from frame to frame."""
        height, width, channels = frame.image_u8.shape
        assert ((height, width), channels) == (self.size_hw, 3), f"{frame.image_u8.shape} is not {self.size_hw} in RGB"
        zero = self.zero_seconds = frame.time_seconds if self.zero_seconds is None else self.zero_seconds
        self.end_seconds = frame.time_seconds + (frame.duration_seconds or self.average_duration)
        tick = round((frame.time_seconds - zero) / TICK_SECONDS)
        if self.ticks and tick < self.ticks[-1] + SHORTEST_DELAY:
            self.skipped_frames += 1
            return
        if self.ticks and tick > self.ticks[-1] + LONGEST_DELAY:
            raise InputError("a GIF can't show a frame for longer than 655 s: write .mp4, .mkv or .webm")
        image = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame.image_u8), format="rgb24")
        image.pts, image.time_base = tick, TICK_SECONDS
        self.ticks.append(tick)
        self.graph.push(image)
        self.encode()

    def finish(self) -> None:
        """Write what the palette filters and the encoder still hold."""
        assert self.ticks, "a video needs at least one frame"
        self.graph.push(None)
        self.encode()
        self.mux(self.stream.encode(None))

    def encode(self) -> None:
        for image in pending_frames(self.graph):
            image.time_base = TICK_SECONDS
            self.mux(self.stream.encode(image))

    def mux(self, packets: list[av.Packet]) -> None:
        for packet in packets:
            self.last_packet = bytes(packet)
            self.container.mux(packet)

    def set_last_delay(self, path: Path) -> None:
        """Write the duration of the last frame into the closed file; FFmpeg repeats the previous delay."""
        if len(self.ticks) == 1 or self.zero_seconds is None:
            return
        ticks = round((self.end_seconds - self.zero_seconds) / TICK_SECONDS) - self.ticks[-1]
        delay = min(max(ticks, SHORTEST_DELAY), LONGEST_DELAY)
        assert self.last_packet.startswith(GRAPHIC_CONTROL)
        with path.open("r+b") as file:
            file.seek(-len(self.last_packet) - 1, os.SEEK_END)  # the file ends with one more byte
            assert file.read(len(GRAPHIC_CONTROL)) == GRAPHIC_CONTROL
            file.seek(1, os.SEEK_CUR)
            file.write(delay.to_bytes(2, "little"))


def palette_graph(size_hw: tuple[int, int]) -> Graph:
    """Build the filters that choose up to 255 colors for each frame and apply them."""
    height, width = size_hw
    small_width = min(width, THUMBNAIL_WIDTH)
    small_height = max(1, height * small_width // width)
    graph = Graph()
    source = graph.add("buffer", f"video_size={width}x{height}:pix_fmt=rgb24:time_base={TICK_SECONDS}")
    split, paletted = graph.add("split"), graph.add("paletteuse", DITHERING)
    small = graph.add("scale", f"{small_width}:{small_height}:flags=neighbor")
    palette, sink = graph.add("palettegen", "stats_mode=single"), graph.add("buffersink")
    source.link_to(split)
    split.link_to(paletted, 0, 0)
    split.link_to(small, 1, 0)
    small.link_to(palette)
    palette.link_to(paletted, 0, 1)
    paletted.link_to(sink)
    graph.configure()
    return graph


def pending_frames(graph: Graph) -> Iterator[av.VideoFrame]:
    """Yield the images that a graph has ready."""
    while True:
        try:
            image = graph.pull()
        except (BlockingIOError, av.error.EOFError):
            return
        assert isinstance(image, av.VideoFrame)
        yield image
