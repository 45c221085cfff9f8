"""Turn a stored image upright, as the display matrix of its file says.

The matrix sends the stored pixel (x, y) to (a x + c y, b x + d y); see libavutil/display.h. Files hold right angles and
mirrorings; other angles are rounded to the nearest of these.
"""

import struct

import av
import numpy as np

FIXED_POINT_ONE = 1 << 16  # The matrix is in 16.16 fixed point.


def display_matrix(image: av.VideoFrame) -> tuple[int, int, int, int]:
    """Return the (a, b, c, d) of a decoded image; the identity if the file has no matrix."""
    stored = image.side_data.get("DISPLAYMATRIX")
    if stored is None:
        return (FIXED_POINT_ONE, 0, 0, FIXED_POINT_ONE)
    a, b, _, c, d, *_ = struct.unpack("=9i", bytes(stored))
    return (a, b, c, d)


def is_sideways(image: av.VideoFrame) -> bool:
    """Return whether height and width are exchanged when the image is turned upright."""
    a, b, _, _ = display_matrix(image)
    return abs(b) > abs(a)


def rotation_degrees(image: av.VideoFrame) -> int:
    """Return the counter-clockwise rotation that makes the image upright, in (-180, 180]."""
    return 180 if image.rotation == -180 else image.rotation


def upright(image_u8: np.ndarray, matrix: tuple[int, int, int, int]) -> np.ndarray:
    """Rotate and mirror a stored image (height, width, 3) as its display matrix says.

    >>> quarter_turn = (0, FIXED_POINT_ONE, -FIXED_POINT_ONE, 0)
    >>> upright(np.arange(6, dtype=np.uint8).reshape(2, 3, 1), quarter_turn)[..., 0].tolist()
    [[3, 0], [4, 1], [5, 2]]
    """
    a, b, c, d = matrix
    if abs(b) > abs(a):
        image_u8, mirror_x, mirror_y = image_u8.transpose(1, 0, 2), c < 0, b < 0
    else:
        mirror_x, mirror_y = a < 0, d < 0
    return np.ascontiguousarray(image_u8[:: -1 if mirror_y else 1, :: -1 if mirror_x else 1])
