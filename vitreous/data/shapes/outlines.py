"""The outlines of the drawn shapes, as signed distances: negative inside, with slope 1 near the outline.

Each function takes coordinates `u` (right) and `v` (down), float32 of one shape, in units of the object's radius, and
returns each point's distance from the outline. Only the sign and the slope near the outline matter for drawing. So
where an exact distance costs more (outside corners), it is the largest or smallest distance of the parts.
"""

from collections.abc import Callable

import numpy as np

Outline = Callable[[np.ndarray, np.ndarray], np.ndarray]


def circle(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """A disc of radius 0.88."""
    return np.sqrt(u * u + v * v) - np.float32(0.88)


def square(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """A square whose sides are 1.4 long."""
    return np.maximum(np.abs(u), np.abs(v)) - np.float32(0.7)


def triangle(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """An equilateral triangle that points up, with its corners on the unit circle."""
    return np.maximum(np.abs(u) * np.float32(3**0.5 / 2) - v * np.float32(0.5), v) - np.float32(0.5)


def star(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """A star with five points on the unit circle and its notches at radius 0.42."""
    step = np.float32(2 * np.pi / 5)
    angle = np.arctan2(u, -v)
    angle = np.abs(angle - step * np.rint(angle / step))  # folded onto half a point, whose tip is at angle 0
    radius = np.sqrt(u * u + v * v)
    notch = 0.42 * np.exp(1j * np.pi / 5)
    edge = (notch - 1) / abs(notch - 1)
    across, along = np.float32(edge.imag), np.float32(-edge.real)
    return (radius * np.cos(angle) - 1) * across + radius * np.sin(angle) * along


def cross(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """A plus sign of two bars, 1.84 by 0.6."""
    u, v = np.abs(u), np.abs(v)
    return np.maximum(np.maximum(u, v) - np.float32(0.92), np.minimum(u, v) - np.float32(0.3))


def ring(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """A band 0.4 wide between radius 0.5 and 0.9."""
    return np.abs(np.sqrt(u * u + v * v) - np.float32(0.7)) - np.float32(0.2)


def crescent(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """A disc of radius 0.95 from which a disc of radius 0.75 is removed."""
    u = u - np.float32(0.08)
    disc = np.sqrt(u * u + v * v) - np.float32(0.95)
    bite = np.sqrt((u - np.float32(0.48)) ** 2 + v * v) - np.float32(0.75)
    return np.maximum(disc, -bite)


def heart(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """A square on its corner with a half disc on each of its two upper sides."""
    u, v = np.abs(u), v - np.float32(0.1)
    half = np.float32(0.53)
    lean, rise = (u + v) * np.float32(0.5**0.5), (u - v) * np.float32(0.5**0.5)
    body = np.maximum(np.abs(lean), np.abs(rise)) - half
    lobe = np.sqrt(lean * lean + (rise - half) ** 2) - half
    return np.minimum(body, lobe)


OUTLINES: dict[str, Outline] = {
    "circle": circle,
    "square": square,
    "triangle": triangle,
    "star": star,
    "cross": cross,
    "ring": ring,
    "crescent": crescent,
    "heart": heart,
}
