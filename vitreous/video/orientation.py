"""Turning a stored image upright, as the display matrix of its file asks.

The matrix sends the stored pixel (x, y) to (a x + c y, b x + d y); see libavutil/display.h. Files hold right angles and
mirrorings; anything between is taken for the nearest of these.
"""

import struct

import av
import numpy as np

ONE = 1 << 16  # The matrix is in 16.16 fixed point.


def display_matrix(image: av.VideoFrame) -> tuple[int, int, int, int]:
    """The (a, b, c, d) of a decoded image; the identity where the file asks for no turn."""
    stored = image.side_data.get("DISPLAYMATRIX")
    if stored is None:
        return (ONE, 0, 0, ONE)
    a, b, _, c, d, *_ = struct.unpack("=9i", bytes(stored))
    return (a, b, c, d)


def is_sideways(image: av.VideoFrame) -> bool:
    """Whether height and width change places when the image is turned upright."""
    a, b, _, _ = display_matrix(image)
    return abs(b) > abs(a)


def rotation_degrees(image: av.VideoFrame) -> int:
    """The counter-clockwise turn that makes the image upright, in (-180, 180]."""
    return 180 if image.rotation == -180 else image.rotation


def upright(image_u8: np.ndarray, matrix: tuple[int, int, int, int]) -> np.ndarray:
    """Turn (and mirror) a stored image (height, width, 3) as its display matrix asks.

    >>> upright(np.arange(6, dtype=np.uint8).reshape(2, 3, 1), (0, ONE, -ONE, 0))[..., 0].tolist()
    [[3, 0], [4, 1], [5, 2]]
    """
    a, b, c, d = matrix
    if abs(b) > abs(a):
        image_u8, mirror_x, mirror_y = image_u8.transpose(1, 0, 2), c < 0, b < 0
    else:
        mirror_x, mirror_y = a < 0, d < 0
    return np.ascontiguousarray(image_u8[:: -1 if mirror_y else 1, :: -1 if mirror_x else 1])
