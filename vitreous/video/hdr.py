"""Tone-map HDR images (PQ, HLG) to the brightness and colors of SDR screens."""

import av
from av.filter import Graph
from av.video.reformatter import ColorRange, ColorTrc

HDR_TRANSFERS = {ColorTrc.SMPTE2084: "PQ", ColorTrc.ARIB_STD_B67: "HLG"}
# FFmpeg's own tone mapping to BT.709: perceptual, by the brightness that the video states.
TONE_MAPPING = "out_transfer=bt709:out_primaries=bt709:intent=perceptual"


def hdr_transfer(image: av.VideoFrame) -> str | None:
    """Return "PQ" or "HLG" for an image with one of these transfer functions, else None."""
    return HDR_TRANSFERS.get(image.color_trc)


class ToSDR:
    """Converts the HDR images of one video to rgb24 in BT.709, of the same size, with libswscale's tone mapping.

    The lookup table is computed with the first image, which takes seconds, and used for all.
    """

    def __init__(self) -> None:
        self.graph: Graph | None = None
        self.graph_key: tuple[object, ...] = ()

    def __call__(self, image: av.VideoFrame) -> av.VideoFrame:
        key = (image.width, image.height, image.format.name, image.color_range)
        if self.graph is None or self.graph_key != key:
            self.graph, self.graph_key = self.tone_mapping(image), key
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
