"""Draw contour lines at fixed levels of a map's scale on an otherwise unchanged image."""

from collections.abc import Sequence

import numpy as np
from PIL import Image

from vitreous.render.color import Scale, check_map
from vitreous.render.overlay import NEGATIVE_COLOR, POSITIVE_COLOR
from vitreous.render.upsample import PixelBox, clip_box

LEVELS = (0.25, 0.5, 0.75)
"""Fractions of the scale. They are fixed, so noise far below them draws nothing and the lines keep their positions."""
LINE_COLORS = ((224, 92, 60), (255, 176, 66), (255, 244, 214))
OPACITIES = (0.75, 0.9, 1.0)
MIN_EXTENT = 0.05
"""Fraction of the map's sides; smaller lines are left out."""
LINE_WIDTH_FRACTION = 0.003
HALO = (10, 12, 18)
HALO_OPACITY = 0.45
SMOOTH_SIDE = 168
"""Cells per side of the smoothed map."""

Polyline = np.ndarray
Stroke = tuple[Polyline, tuple[int, int, int], float]


def contour_lines(heatmap: np.ndarray, value: float) -> list[Polyline]:
    """Trace the lines at a value of a float (rows, columns) map: float (points, 2) of (x, y), 0 to 1 across the map."""
    from contourpy import contour_generator

    rows, columns = heatmap.shape
    # With a border at the minimum, lines close at the edge of the map.
    padded = np.pad(heatmap, 1, mode="constant", constant_values=float(heatmap.min()))
    x, y = (np.clip((np.arange(-1, side + 1) + 0.5) / side, 0, 1) for side in (columns, rows))
    lines = [np.asarray(line) for line in contour_generator(x, y, padded).lines(value)]
    return [line for line in lines if np.ptp(line, axis=0).max() >= MIN_EXTENT]


def smooth_map(heatmap: np.ndarray) -> np.ndarray:
    """Resample the map smoothly to about 168 cells per side, so that its contours have no corners: float32."""
    times = SMOOTH_SIDE // max(heatmap.shape)
    if max(heatmap.shape) > SMOOTH_SIDE:
        factor = SMOOTH_SIDE / max(heatmap.shape)
        size_wh = (max(2, round(heatmap.shape[1] * factor)), max(2, round(heatmap.shape[0] * factor)))
        return np.asarray(Image.fromarray(heatmap).resize(size_wh, Image.Resampling.BILINEAR))
    if times <= 1:
        return heatmap
    size_wh = (heatmap.shape[1] * times, heatmap.shape[0] * times)
    fine = np.asarray(Image.fromarray(heatmap).resize(size_wh, Image.Resampling.BICUBIC))
    return np.clip(fine, heatmap.min(), heatmap.max())


def draw_contours(
    image_u8: np.ndarray, heatmap: np.ndarray, scale: Scale, box: PixelBox | None = None, *, signed: bool = False
) -> np.ndarray:
    """Draw lines at 25, 50 and 75 % of the scale on a copy of the image, uint8 (height, width, 3).

    Args:
        image_u8: the image.
        heatmap: float (rows, columns), over `box`.
        scale: the scale of the map.
        box: (top, left, bottom, right) in pixels; the whole image by default.
        signed: draw orange lines around positive and blue lines around negative values.
    """
    fine = smooth_map(check_map(heatmap))
    signed_maps = [(fine, 0.0, POSITIVE_COLOR), (-fine, 0.0, NEGATIVE_COLOR)] if signed else [(fine, scale.low, None)]
    strokes = []
    for signed_map, low, color in () if scale.is_flat else signed_maps:
        for i, height in enumerate(LEVELS):
            lines = contour_lines(signed_map, low + height * (scale.high - low))
            strokes += [(line, color or LINE_COLORS[i], OPACITIES[i]) for line in lines]
    size_hw = (image_u8.shape[0], image_u8.shape[1])
    return composite(image_u8, draw_strokes(strokes, size_hw, clip_box(box, size_hw)))


def draw_strokes(strokes: Sequence[Stroke], size_hw: tuple[int, int], box: tuple[int, int, int, int]) -> np.ndarray:
    """Draw lines over a dark halo on a transparent background: uint8 RGBA (height, width, 4), not premultiplied."""
    from matplotlib.backends.backend_agg import RendererAgg
    from matplotlib.path import Path
    from matplotlib.transforms import Affine2D

    renderer = RendererAgg(size_hw[1], size_hw[0], 72)
    top, left, bottom, right = box
    # matplotlib's y axis points up.
    transform = Affine2D().scale(right - left, top - bottom).translate(left, size_hw[0] - top)
    width = line_width(size_hw)
    for line, color, opacity in strokes:
        for rgb, fraction, thickness in ((HALO, HALO_OPACITY, 2.2 * width), (color, 1.0, width)):
            pen = renderer.new_gc()
            pen.set_foreground((rgb[0] / 255, rgb[1] / 255, rgb[2] / 255))
            pen.set_alpha(opacity * fraction)
            pen.set_linewidth(thickness)
            pen.set_joinstyle("round")
            renderer.draw_path(pen, Path(line), transform)
    return np.asarray(renderer.buffer_rgba())


def composite(image_u8: np.ndarray, layer: np.ndarray) -> np.ndarray:
    """Draw a layer, uint8 RGBA of the image's size, over a copy of the image; fast where it is mostly transparent."""
    drawn = np.array(image_u8, order="C")
    covered = np.flatnonzero(layer[..., 3])
    colors = layer.reshape(-1, 4)[covered].astype(np.int32)
    pixels = drawn.reshape(-1, 3)
    background = pixels[covered].astype(np.int32)
    pixels[covered] = background + ((colors[:, :3] - background) * colors[:, 3:] + 127) // 255
    return drawn


def line_width(size_hw: tuple[int, int]) -> float:
    """Return the width of a line in pixels on an image of this size."""
    return max(1.0, LINE_WIDTH_FRACTION * (size_hw[0] * size_hw[1]) ** 0.5)
