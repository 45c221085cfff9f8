"""Bringing HDR pictures (PQ, HLG) to the brightness and colours of ordinary screens."""

import av
from av.filter import Graph
from av.video.reformatter import ColorRange, ColorTrc

HDR_TRANSFERS = {ColorTrc.SMPTE2084: "PQ", ColorTrc.ARIB_STD_B67: "HLG"}
# FFmpeg's own tone mapping: perceptual, by the brightness that the clip states for itself, into BT.709.
TONE_MAPPING = "out_transfer=bt709:out_primaries=bt709:intent=perceptual"


def hdr_kind(picture: av.VideoFrame) -> str | None:
    """ "PQ" or "HLG", where a picture is coded in one of these; else None."""
    return HDR_TRANSFERS.get(picture.color_trc)


class ToSDR:
    """Turns the HDR pictures of one clip into rgb24 pictures in BT.709 of the same size, by libswscale's tone mapping.

    The table is made with the first picture (seconds), and used for all.
    """

    def __init__(self) -> None:
        self.graph: Graph | None = None
        self.made_for: tuple[object, ...] = ()

    def __call__(self, picture: av.VideoFrame) -> av.VideoFrame:
        kind = (picture.width, picture.height, picture.format.name, picture.color_range)
        if self.graph is None or self.made_for != kind:
            self.graph, self.made_for = self.tone_mapping(picture), kind
        self.graph.push(picture)
        mapped = self.graph.pull()
        assert isinstance(mapped, av.VideoFrame)
        return mapped

    def tone_mapping(self, picture: av.VideoFrame) -> Graph:
        graph = Graph()
        level = "pc" if picture.color_range == ColorRange.JPEG else "tv"
        size = f"{picture.width}x{picture.height}"
        source = graph.add(
            "buffer",
            f"video_size={size}:pix_fmt={picture.format.name}:time_base=1/1000:colorspace=bt2020nc:range={level}",
        )
        graph.link_nodes(
            source, graph.add("scale", TONE_MAPPING), graph.add("format", "rgb24"), graph.add("buffersink")
        )
        graph.configure()
        return graph
