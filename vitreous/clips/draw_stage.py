"""The stage of the video pipeline that draws: maps are smoothed over time, laid over the frames and arranged."""

from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image, ImageDraw

from vitreous.clips.maps import FrameMap, FrameMaps
from vitreous.clips.request import VideoRequest
from vitreous.explanation.regions import Region
from vitreous.render.frame_layouts import draw_frame
from vitreous.render.frame_view import FrameView, HeatmapLayer
from vitreous.render.temporal.class_strip import ClassStrip, append_strip
from vitreous.render.temporal.flicker import FlickerSummary
from vitreous.render.temporal.scenes import SceneChange, SceneDetector
from vitreous.render.temporal.stabilize import ColorStabilizer, DimmingStabilizer, MapStabilizer, StabilizedMap
from vitreous.render.upsample import PixelBox, crop_to_image
from vitreous.video.info import Frame

MARKER_FRACTION = 0.022
"""Radius of the ring around a query point, as a fraction of the frame's shorter side."""


class DrawStage:
    """Draws the frames of one video, batch by batch, and passes each frame's maps to `on_frame`."""

    def __init__(
        self, request: VideoRequest, duration_seconds: float | None, on_frame: Callable[[Frame, FrameMaps], None]
    ) -> None:
        self._request, self._duration, self._on_frame = request, duration_seconds, on_frame
        self._scenes, self._dimming = SceneDetector(), DimmingStabilizer()
        self._maps: list[MapStabilizer] = []
        self._colors: list[ColorStabilizer] = []
        self._strip: ClassStrip | None = None

    def draw(self, frames: list[Frame], found: list[FrameMaps]) -> list[np.ndarray]:
        """Return the frames as they are written: uint8 (height, width, 3), all of one size."""
        for frame, one in zip(frames, found, strict=True):
            self._on_frame(frame, one)
        changes = [self._scenes.update(frame.image_u8) for frame in frames]
        panels = self._panels(frames, found, changes)
        dimmings = self._dimming.update([frame.image_u8 for frame in frames], changes)
        return [self._draw(*one) for one in zip(frames, found, zip(*panels, strict=True), dimmings, strict=True)]

    def flicker(self) -> FlickerSummary:
        """Return the flicker of the maps before and after smoothing, as a mean over the panels."""
        return FlickerSummary.of([(one.flicker_before, one.flicker_after) for one in self._maps])

    def _panels(
        self, frames: Sequence[Frame], found: Sequence[FrameMaps], changes: Sequence[SceneChange]
    ) -> list[list[HeatmapLayer]]:
        """Return for each panel its map of every frame, smoothed and with a scale."""
        times = [float(frame.time_seconds) for frame in frames]
        if not self._maps:
            smooth = self._request.draw.smooth
            self._maps = [MapStabilizer(smooth, signed=one.signed) for one in found[0].maps]
            self._colors = [ColorStabilizer(smooth) for _ in found[0].maps]
        panels = []
        for number, (smoothing, color_smoothing) in enumerate(zip(self._maps, self._colors, strict=True)):
            maps = [one.maps[number] for one in found]
            smoothed = smoothing.update([one.patch_heatmap for one in maps], times, changes)
            colors = [
                None if one.patch_colors is None else color_smoothing.update(one.patch_colors, time, change)
                for one, time, change in zip(maps, times, changes, strict=True)
            ]
            panels.append(
                [
                    to_layer(frame.image_u8, whole.box, one, heatmap, color)
                    for frame, heatmap, one, whole, color in zip(frames, smoothed, maps, found, colors, strict=True)
                ]
            )
        return panels

    def _draw(self, frame: Frame, found: FrameMaps, layers: tuple[HeatmapLayer, ...], dimming: float) -> np.ndarray:
        """Draw one frame in the layout, with the class strip under it if wanted."""
        draw = self._request.draw
        image_u8 = found.prediction.draw(frame.image_u8)
        image_u8 = image_u8 if found.query is None else draw_query_marker(image_u8, found.query)
        view = FrameView(image_u8, layers, found.prediction.caption(), found.caption, dimming)
        drawn = draw_frame(view, self._request.layout, draw.style)
        if not draw.class_strip:
            return drawn
        if self._strip is None:
            self._strip = ClassStrip((drawn.shape[0], drawn.shape[1]), self._duration)
        return append_strip(drawn, self._strip.update(float(frame.time_seconds), found.prediction.probabilities))


def to_layer(
    image_u8: np.ndarray, box: PixelBox, found: FrameMap, smoothed: StabilizedMap, colors: np.ndarray | None
) -> HeatmapLayer:
    """Return a smoothed map as a layer over an image, without the part that covers bars around the image."""
    size_hw = (image_u8.shape[0], image_u8.shape[1])
    heatmap, inner = crop_to_image(smoothed.heatmap, box, size_hw)
    colors = None if colors is None else crop_to_image(colors, box, size_hw)[0]
    title = found.panel_title or found.title
    return HeatmapLayer(heatmap, smoothed.scale, title, inner, found.signed, found.end_labels, colors)


def draw_query_marker(image_u8: np.ndarray, query: Region) -> np.ndarray:
    """Draw a white ring with a black outline around a point (x, y), or a frame around a box (x0, y0, x1, y1).

    Args:
        image_u8: uint8 (height, width, 3).
        query: in pixels of the image.

    Returns: a new image of the same shape.
    """
    image = Image.fromarray(np.ascontiguousarray(image_u8))
    radius = max(4.0, MARKER_FRACTION * min(image.size))
    width = max(1, round(radius / 4))
    draw = ImageDraw.Draw(image)
    for margin, color, line in ((width, "black", 3 * width), (0, "white", width)):
        if len(query) == 2:
            (x, y), reach = query, radius + margin
            draw.ellipse((x - reach, y - reach, x + reach, y + reach), outline=color, width=line)
        else:
            left, top, right, bottom = query
            draw.rectangle((left - margin, top - margin, right + margin, bottom + margin), outline=color, width=line)
    return np.asarray(image)
