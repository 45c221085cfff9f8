"""Bringing HDR images (PQ, HLG) to the brightness and colors of ordinary screens."""

import av
from av.filter import Graph
from av.video.reformatter import ColorRange, ColorTrc

HDR_TRANSFERS = {ColorTrc.SMPTE2084: "PQ", ColorTrc.ARIB_STD_B67: "HLG"}
# FFmpeg's own tone mapping: perceptual, by the brightness that the clip states for itself, into BT.709.
TONE_MAPPING = "out_transfer=bt709:out_primaries=bt709:intent=perceptual"


def hdr_kind(image: av.VideoFrame) -> str | None:
    """ "PQ" or "HLG", where an image is coded in one of these; else None."""
    return HDR_TRANSFERS.get(image.color_trc)


class ToSDR:
    """Turns the HDR images of one clip into rgb24 images in BT.709 of the same size, by libswscale's tone mapping.

    The table is made with the first image (seconds), and used for all.
    """

    def __init__(self) -> None:
        self.graph: Graph | None = None
        self.made_for: tuple[object, ...] = ()

    def __call__(self, image: av.VideoFrame) -> av.VideoFrame:
        kind = (image.width, image.height, image.format.name, image.color_range)
        if self.graph is None or self.made_for != kind:
            self.graph, self.made_for = self.tone_mapping(image), kind
        self.graph.push(image)
        mapped = self.graph.pull()
        assert isinstance(mapped, av.VideoFrame)
        return mapped

    def tone_mapping(self, image: av.VideoFrame) -> Graph:
        graph = Graph()
        level = "pc" if image.color_range == ColorRange.JPEG else "tv"
        size = f"{image.width}x{image.height}"
        source = graph.add(
            "buffer",
            f"video_size={size}:pix_fmt={image.format.name}:time_base=1/1000:colorspace=bt2020nc:range={level}",
        )
        graph.link_nodes(
            source, graph.add("scale", TONE_MAPPING), graph.add("format", "rgb24"), graph.add("buffersink")
        )
        graph.configure()
        return graph
