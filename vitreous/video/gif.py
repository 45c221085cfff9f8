"""The image of an animated GIF that is being written: 256 colors a frame, times in hundredths of a second."""

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
SHORTEST_DELAY, LONGEST_DELAY = 2, 65_535  # ticks; browsers show anything shorter for ten
LARGE_HEIGHT, SMALLER_HEIGHT = 480, 360  # pixels
# The colors are chosen from a thumbnail: a third of the time, and no difference to be seen.
THUMBNAIL_WIDTH = 240
# An ordered pattern stands still where the image does, which error diffusion does not.
DITHERING = "new=1:dither=bayer:bayer_scale=4"
GRAPHIC_CONTROL = b"\x21\xf9\x04"  # GIF89a, 23: then a byte of flags and two of delay


class GifTrack:
    """The stream of images in an opened GIF: uint8 RGB frames of one size in, each with a palette of its own.

    The first frame is at zero. A frame that would follow the one before in less than 1/50 s is left out, and counted
    in `left_out`; rounding doesn't add up, since each time is rounded by itself. `ticks` are in `time_base` seconds.
    """

    def __init__(self, container: av.container.OutputContainer, size_hw: tuple[int, int], fps: Fraction) -> None:
        self.container, self.size_hw, self.stored_hw, self.step = container, size_hw, size_hw, 1 / fps
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
        self.left_out = 0
        self.last_packet = b""

    @property
    def notes(self) -> list[str]:
        notes = []
        if self.left_out:
            left_out = f"{self.left_out} frames were left out, the speed is unchanged"
            notes.append(f"GIF shows at most 50 frames a second: {left_out}")
        height, width = self.size_hw
        if len(self.ticks) > 1 and height > LARGE_HEIGHT:
            share = f"{SMALLER_HEIGHT**2 / height**2:.0%}"
            notes.append(
                f"a GIF of {width} x {height} pixels is slow to write and large: with --size {SMALLER_HEIGHT} it takes "
                f"about {share} of the space, as .mp4 far less"
            )
        return notes

    def write(self, frame: Frame) -> None:
        """Encode one frame; times must rise from frame to frame."""
        height, width, channels = frame.image_u8.shape
        assert ((height, width), channels) == (self.size_hw, 3), f"{frame.image_u8.shape} is not {self.size_hw} in RGB"
        zero = self.zero_seconds = frame.time_seconds if self.zero_seconds is None else self.zero_seconds
        self.end_seconds = frame.time_seconds + (frame.duration_seconds or self.step)
        tick = round((frame.time_seconds - zero) / TICK_SECONDS)
        if self.ticks and tick < self.ticks[-1] + SHORTEST_DELAY:
            self.left_out += 1
            return
        if self.ticks and tick > self.ticks[-1] + LONGEST_DELAY:
            raise InputError("a GIF shows no frame for longer than 655 s: write .mp4, .mkv or .webm")
        image = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame.image_u8), format="rgb24")
        image.pts, image.time_base = tick, TICK_SECONDS
        self.ticks.append(tick)
        self.graph.push(image)
        self.encode()

    def finish(self) -> None:
        """Write what the palettes and the encoder still hold."""
        assert self.ticks, "a clip needs one frame at least"
        self.graph.push(None)
        self.encode()
        self.mux(self.stream.encode(None))

    def encode(self) -> None:
        for image in waiting(self.graph):
            image.time_base = TICK_SECONDS
            self.mux(self.stream.encode(image))

    def mux(self, packets: list[av.Packet]) -> None:
        for packet in packets:
            self.last_packet = bytes(packet)
            self.container.mux(packet)

    def set_last_delay(self, path: Path) -> None:
        """Write how long the last frame is shown into the closed file: FFmpeg repeats the delay before."""
        if len(self.ticks) == 1 or self.zero_seconds is None:
            return
        ticks = round((self.end_seconds - self.zero_seconds) / TICK_SECONDS) - self.ticks[-1]
        delay = min(max(ticks, SHORTEST_DELAY), LONGEST_DELAY)
        assert self.last_packet.startswith(GRAPHIC_CONTROL)
        with path.open("r+b") as file:
            file.seek(-len(self.last_packet) - 1, os.SEEK_END)  # a byte follows that ends the file
            assert file.read(len(GRAPHIC_CONTROL)) == GRAPHIC_CONTROL
            file.seek(1, os.SEEK_CUR)
            file.write(delay.to_bytes(2, "little"))


def palette_graph(size_hw: tuple[int, int]) -> Graph:
    """The filters that choose up to 255 colors for each frame by itself, and lay them on it."""
    height, width = size_hw
    small_width = min(width, THUMBNAIL_WIDTH)
    small_height = max(1, height * small_width // width)
    graph = Graph()
    source = graph.add("buffer", f"video_size={width}x{height}:pix_fmt=rgb24:time_base={TICK_SECONDS}")
    split, laid_on = graph.add("split"), graph.add("paletteuse", DITHERING)
    small = graph.add("scale", f"{small_width}:{small_height}:flags=neighbor")
    palette, sink = graph.add("palettegen", "stats_mode=single"), graph.add("buffersink")
    source.link_to(split)
    split.link_to(laid_on, 0, 0)
    split.link_to(small, 1, 0)
    small.link_to(palette)
    palette.link_to(laid_on, 0, 1)
    laid_on.link_to(sink)
    graph.configure()
    return graph


def waiting(graph: Graph) -> Iterator[av.VideoFrame]:
    """The images that a graph has ready."""
    while True:
        try:
            image = graph.pull()
        except (BlockingIOError, av.error.EOFError):
            return
        assert isinstance(image, av.VideoFrame)
        yield image
