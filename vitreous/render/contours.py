"""Lines at fixed heights of a map's scale, on an image that is otherwise left as it is."""

from collections.abc import Sequence

import numpy as np
from PIL import Image

from vitreous.render.color import Scale, check_map
from vitreous.render.overlay import NEGATIVE_COLOR, POSITIVE_COLOR
from vitreous.render.upsample import Box, clip_box

LEVELS = (0.25, 0.5, 0.75)
"""Of the scale: fixed ones, so that noise far below them draws nothing, and the lines stay where they are."""
LINE_COLORS = ((224, 92, 60), (255, 176, 66), (255, 244, 214))
OPACITIES = (0.75, 0.9, 1.0)
MIN_EXTENT = 0.05
"""Of the map's sides: a line that stays within less is left out."""
LINE_WIDTH_FRACTION = 0.003
HALO = (10, 12, 18)
HALO_OPACITY = 0.45
SMOOTH_SIDE = 168

Polyline = np.ndarray
Stroke = tuple[Polyline, tuple[int, int, int], float]


def contour_lines(heat: np.ndarray, value: float) -> list[Polyline]:
    """The lines at this value of a float (rows, columns) map: float (points, 2) of (x, y), 0 to 1 across the map."""
    from contourpy import contour_generator

    rows, columns = heat.shape
    framed = np.pad(heat, 1, mode="constant", constant_values=float(heat.min()))  # so that lines close at the border
    x, y = (np.clip((np.arange(-1, side + 1) + 0.5) / side, 0, 1) for side in (columns, rows))
    lines = [np.asarray(line) for line in contour_generator(x, y, framed).lines(value)]
    return [line for line in lines if np.ptp(line, axis=0).max() >= MIN_EXTENT]


def smooth_map(heat: np.ndarray) -> np.ndarray:
    """The map with about 168 cells a side, enlarged smoothly, so that its lines have no corners: float32."""
    times = SMOOTH_SIDE // max(heat.shape)
    if max(heat.shape) > SMOOTH_SIDE:
        factor = SMOOTH_SIDE / max(heat.shape)
        size_wh = (max(2, round(heat.shape[1] * factor)), max(2, round(heat.shape[0] * factor)))
        return np.asarray(Image.fromarray(heat).resize(size_wh, Image.Resampling.BILINEAR))
    if times <= 1:
        return heat
    size_wh = (heat.shape[1] * times, heat.shape[0] * times)
    fine = np.asarray(Image.fromarray(heat).resize(size_wh, Image.Resampling.BICUBIC))
    return np.clip(fine, heat.min(), heat.max())


def draw_contours(
    image_u8: np.ndarray, heat: np.ndarray, scale: Scale, box: Box | None = None, *, signed: bool = False
) -> np.ndarray:
    """A copy of the image, uint8 (height, width, 3), with lines at 25, 50 and 75 % of the scale.

    The map is float (rows, columns) over `box`. A signed one gets orange lines for what speaks for and blue ones for
    what speaks against.
    """
    fine = smooth_map(check_map(heat))
    parts = [(fine, 0.0, POSITIVE_COLOR), (-fine, 0.0, NEGATIVE_COLOR)] if signed else [(fine, scale.low, None)]
    strokes = []
    for part, low, color in () if scale.is_flat else parts:
        for i, height in enumerate(LEVELS):
            lines = contour_lines(part, low + height * (scale.high - low))
            strokes += [(line, color or LINE_COLORS[i], OPACITIES[i]) for line in lines]
    size_hw = (image_u8.shape[0], image_u8.shape[1])
    return composite(image_u8, draw_strokes(strokes, size_hw, clip_box(box, size_hw)))


def draw_strokes(strokes: Sequence[Stroke], size_hw: tuple[int, int], box: tuple[int, int, int, int]) -> np.ndarray:
    """The lines over a dark halo on a transparent ground: uint8 RGBA (height, width, 4), not premultiplied."""
    from matplotlib.backends.backend_agg import RendererAgg
    from matplotlib.path import Path
    from matplotlib.transforms import Affine2D

    renderer = RendererAgg(size_hw[1], size_hw[0], 72)
    top, left, bottom, right = box
    place = Affine2D().scale(right - left, top - bottom).translate(left, size_hw[0] - top)  # its y axis points up
    width = line_width(size_hw)
    for line, color, opacity in strokes:
        for ink, share, thickness in ((HALO, HALO_OPACITY, 2.2 * width), (color, 1.0, width)):
            pen = renderer.new_gc()
            pen.set_foreground((ink[0] / 255, ink[1] / 255, ink[2] / 255))
            pen.set_alpha(opacity * share)
            pen.set_linewidth(thickness)
            pen.set_joinstyle("round")
            renderer.draw_path(pen, Path(line), place)
    return np.asarray(renderer.buffer_rgba())


def composite(image_u8: np.ndarray, layer: np.ndarray) -> np.ndarray:
    """A copy of the image with a layer, uint8 RGBA of its size, over it; fast where most of the layer is clear."""
    drawn = np.array(image_u8, order="C")
    places = np.flatnonzero(layer[..., 3])
    inks = layer.reshape(-1, 4)[places].astype(np.int32)
    pixels = drawn.reshape(-1, 3)
    old = pixels[places].astype(np.int32)
    pixels[places] = old + ((inks[:, :3] - old) * inks[:, 3:] + 127) // 255
    return drawn


def line_width(size_hw: tuple[int, int]) -> float:
    """How wide a line is on an image of this size, in pixels."""
    return max(1.0, LINE_WIDTH_FRACTION * (size_hw[0] * size_hw[1]) ** 0.5)
