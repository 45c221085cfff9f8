"""Deinterlace the frames of a video, since what is written is progressive and the model sees whole images."""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import replace

import av
from av.filter import Graph
from av.video.reformatter import ColorRange

from vitreous.video.gif import pending_frames
from vitreous.video.trim import DecodedFrame, ReadReport

# One image for each frame, made of both fields and their neighbors in time; frames that are not interlaced are kept.
FILTER = ("bwdif", "mode=send_frame:parity=auto:deint=interlaced")
NOTE = "the video is interlaced: its frames were deinterlaced (bwdif), one for each pair of fields"


def deinterlace(frames: Iterable[DecodedFrame], report: ReadReport) -> Iterator[DecodedFrame]:
    """Yield the frames with interlaced images replaced by progressive ones; times, number and order stay the same.

    A video without an interlaced frame passes through unchanged. The first one adds a note to the report.
    """
    graph, error = None, None
    try:
        for frame in frames:
            assert frame.image is not None
            if graph is not None and not graph.accepts(frame.image):
                yield from graph.finish()
                graph = None
            if graph is None and frame.image.interlaced_frame:
                graph = FieldGraph(frame.image)
                if NOTE not in report.notes:
                    report.notes.append(NOTE)
            if graph is None:
                yield frame
            else:
                yield from graph.push(frame)
    except Exception as raised:  # noqa: BLE001 - whatever it is, it is raised after the frames before it
        error = raised
    if graph is not None:
        yield from graph.finish()
    if error is not None:
        raise error


class FieldGraph:
    """FFmpeg's deinterlacer for images of one size and format; it holds a frame back until it has the next one."""

    def __init__(self, image: av.VideoFrame) -> None:
        self.key, self.graph, self.waiting = image_key(image), Graph(), deque[DecodedFrame]()
        level = "pc" if image.color_range == ColorRange.JPEG else "tv"
        source = self.graph.add(
            "buffer",
            f"video_size={image.width}x{image.height}:pix_fmt={image.format.name}:time_base=1/1000:"
            f"colorspace={int(image.colorspace)}:range={level}",
        )
        self.graph.link_nodes(source, self.graph.add(*FILTER), self.graph.add("buffersink"))
        self.graph.configure()

    def accepts(self, image: av.VideoFrame) -> bool:
        """Return whether an image has the size and format of the ones before."""
        return image_key(image) == self.key

    def push(self, frame: DecodedFrame) -> Iterator[DecodedFrame]:
        """Add a frame, and yield those that are ready."""
        self.waiting.append(frame)
        self.graph.push(frame.image)
        yield from self.ready()

    def finish(self) -> Iterator[DecodedFrame]:
        """Yield the frames that were held back."""
        self.graph.push(None)
        yield from self.ready()
        assert not self.waiting, f"{len(self.waiting)} frames are missing after deinterlacing"

    def ready(self) -> Iterator[DecodedFrame]:
        for image in pending_frames(self.graph):
            yield replace(self.waiting.popleft(), image=image)


def image_key(image: av.VideoFrame) -> tuple[object, ...]:
    """Return what must not change within one filter graph."""
    return image.width, image.height, image.format.name, image.colorspace, image.color_range
