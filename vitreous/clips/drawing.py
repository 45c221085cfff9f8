"""The stage that draws a clip: what the model saw in a frame, made steady and laid out."""

from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image, ImageDraw

from vitreous.clips.maps import Box, Seen, SeenMap
from vitreous.clips.request import VideoRequest
from vitreous.explanation.explain import Asked
from vitreous.explanation.figures import prediction_caption
from vitreous.render.frame_layouts import draw_frame
from vitreous.render.frame_view import FrameView, HeatmapLayer
from vitreous.render.temporal.class_strip import ClassStrip, with_strip
from vitreous.render.temporal.flicker import FlickerFound
from vitreous.render.temporal.scenes import Change, SceneWatch
from vitreous.render.temporal.stabilize import SteadyColors, SteadyDimming, SteadyHeat, SteadyMap
from vitreous.render.upsample import crop_to_image
from vitreous.video.info import Frame

RING_SHARE = 0.022
"""Of the frame's shorter side: the radius of the ring around the place that is followed."""


class ClipDrawing:
    """Draws the frames of one clip, batch by batch, and tells `on_frame` of each what was seen in it."""

    def __init__(
        self, request: VideoRequest, duration_seconds: float | None, on_frame: Callable[[Frame, Seen], None]
    ) -> None:
        self._request, self._duration, self._on_frame = request, duration_seconds, on_frame
        self._watch, self._dimming = SceneWatch(), SteadyDimming()
        self._steady: list[SteadyMap] = []
        self._colors: list[SteadyColors] = []
        self._strip: ClassStrip | None = None

    def draw(self, frames: list[Frame], seen: list[Seen]) -> list[np.ndarray]:
        """The frames as they are written: uint8 (height, width, 3), all of one size."""
        for frame, one in zip(frames, seen, strict=True):
            self._on_frame(frame, one)
        changes = [self._watch.update(frame.image_u8) for frame in frames]
        panels = self._shown(frames, seen, changes)
        dimmings = self._dimming.update([frame.image_u8 for frame in frames], changes)
        return [self._drawn(*one) for one in zip(frames, seen, zip(*panels, strict=True), dimmings, strict=True)]

    def flicker(self) -> FlickerFound:
        """The mean over the panels of the maps' flicker, as they came and as they are drawn."""
        return FlickerFound.of([(steady.flicker_before, steady.flicker_after) for steady in self._steady])

    def _shown(
        self, frames: Sequence[Frame], seen: Sequence[Seen], changes: Sequence[Change]
    ) -> list[list[HeatmapLayer]]:
        """For each panel its map of every frame, smoothed and with a scale."""
        times = [float(frame.time_seconds) for frame in frames]
        if not self._steady:
            self._steady = [SteadyMap(self._request.smooth, signed=one.signed) for one in seen[0].maps]
            self._colors = [SteadyColors(self._request.smooth) for _ in seen[0].maps]
        panels = []
        for number, (steady, smooth) in enumerate(zip(self._steady, self._colors, strict=True)):
            maps = [one.maps[number] for one in seen]
            heats = steady.update([one.heat for one in maps], times, changes)
            colors = [
                None if one.colors is None else smooth.update(one.colors, time, change)
                for one, time, change in zip(maps, times, changes, strict=True)
            ]
            panels.append(
                [
                    laid_on(frame.image_u8, whole.box, one, heat, color)
                    for frame, heat, one, whole, color in zip(frames, heats, maps, seen, colors, strict=True)
                ]
            )
        return panels

    def _drawn(self, frame: Frame, seen: Seen, maps: tuple[HeatmapLayer, ...], dimming: float) -> np.ndarray:
        """One frame in the layout, with the strip under it if wanted."""
        image_u8 = frame.image_u8 if seen.place is None else ringed(frame.image_u8, seen.place)
        shot = FrameView(image_u8, maps, prediction_caption(seen.prediction), seen.words, dimming)
        drawn = draw_frame(shot, self._request.layout, self._request.look)
        if not self._request.strip:
            return drawn
        if self._strip is None:
            self._strip = ClassStrip((drawn.shape[0], drawn.shape[1]), self._duration)
        return with_strip(drawn, self._strip.update(float(frame.time_seconds), seen.prediction.scores))


def laid_on(
    image_u8: np.ndarray, box: Box, one: SeenMap, steady: SteadyHeat, colors: np.ndarray | None
) -> HeatmapLayer:
    """A map, made steady, over an image, without what lies on bars around it."""
    size_hw = (image_u8.shape[0], image_u8.shape[1])
    heat, inner = crop_to_image(steady.heat, box, size_hw)
    colors = None if colors is None else crop_to_image(colors, box, size_hw)[0]
    return HeatmapLayer(heat, steady.scale, one.label or one.title, inner, one.signed, one.ends, colors)


def ringed(image_u8: np.ndarray, place_yx: Asked) -> np.ndarray:
    """A copy of the image, uint8 (height, width, 3), with a light ring in a dark one around a place, or a box."""
    image = Image.fromarray(np.ascontiguousarray(image_u8))
    radius = max(4.0, RING_SHARE * min(image.size))
    width = max(1, round(radius / 4))
    draw = ImageDraw.Draw(image)
    for more, color, line in ((width, "black", 3 * width), (0, "white", width)):
        if len(place_yx) == 2:
            (y, x), reach = place_yx, radius + more
            draw.ellipse((x - reach, y - reach, x + reach, y + reach), outline=color, width=line)
        else:
            top, left, bottom, right = place_yx
            draw.rectangle((left - more, top - more, right + more, bottom + more), outline=color, width=line)
    return np.asarray(image)
