"""Between FFmpeg's images and RGB arrays, with the right matrix (BT.601, 709, 2020) and range (limited, full)."""

from fractions import Fraction

import av
import numpy as np
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc, Interpolation, VideoReformatter

from vitreous.video.hdr import ToSDR, hdr_kind
from vitreous.video.trim import Told

QUALITY = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT
MATRICES = {1, 4, 5, 6, 7, 9}  # AVCOL_SPC_*: BT.709, FCC, BT.601 (625 and 525 lines), SMPTE 240M, BT.2020
HEIGHT_OF_HD = 720


class ToRGB:
    """Turns the decoded images of one clip into uint8 RGB (height, width, 3), not yet upright.

    They get the size `size_hw`, by default that of the first one. Where a clip changes its size on the way, later
    images are fitted into it, on black where their shape differs. Transparent images (GIF) are laid on white, HDR
    ones brought to ordinary brightness. `told` receives a line for each of these changes.
    """

    def __init__(self, first: av.VideoFrame, size_hw: tuple[int, int] | None = None, told: Told | None = None) -> None:
        self.first_hw = self.current_hw = (first.height, first.width)
        self.size_hw = size_hw or self.first_hw
        self.reformatter, self.joining, self.to_sdr = VideoReformatter(), VideoReformatter(), ToSDR()
        self.notes: list[str] = [] if told is None else told.notes
        if hdr_kind(first):
            self.notes.append(
                f"the clip is HDR ({hdr_kind(first)}): it was tone-mapped to ordinary brightness (BT.709)"
            )

    def __call__(self, image: av.VideoFrame) -> np.ndarray:
        if (image.height, image.width) != self.current_hw:
            self.tell_new_size(image)
        inner_hw = fitted(self.current_hw, self.first_hw, self.size_hw)
        image_u8 = self.converted(image, inner_hw)
        return image_u8 if inner_hw == self.size_hw else on_black(image_u8, self.size_hw)

    def converted(self, image: av.VideoFrame, size_hw: tuple[int, int]) -> np.ndarray:
        if hdr_kind(image):
            image = self.to_sdr(image)
        transparent = any(component.is_alpha for component in image.format.components)
        rgb = self.reformatter.reformat(
            image,
            width=size_hw[1],
            height=size_hw[0],
            format="rgba" if transparent else "gbrp",
            src_colorspace=matrix_of(image),
            interpolation=QUALITY,
            threads=1,
        )
        if transparent:
            return laid_on_white(rgb.to_ndarray())
        # By way of planes the same bits come three times as fast: swscale has no vectors for its exact packed RGB.
        return self.joining.reformat(rgb, format="rgb24", interpolation=Interpolation.POINT, threads=1).to_ndarray()

    def tell_new_size(self, image: av.VideoFrame) -> None:
        if self.current_hw == self.first_hw:
            first, new = (f"{width} x {height}" for height, width in (self.first_hw, (image.height, image.width)))
            self.notes.append(f"the clip changes its size from {first} to {new}: all frames are fitted to the first")
        self.current_hw = (image.height, image.width)


def fitted(stored_hw: tuple[int, int], first_hw: tuple[int, int], size_hw: tuple[int, int]) -> tuple[int, int]:
    """The part (height, width) of `size_hw` that an image of `stored_hw` fills, where one of `first_hw` fills all.

    >>> fitted((100, 100), (90, 160), (90, 160)), fitted((180, 320), (90, 160), (90, 160))
    ((90, 90), (90, 160))
    """
    if stored_hw == first_hw:
        return size_hw
    stretch = [Fraction(size, first) for size, first in zip(size_hw, first_hw, strict=True)]
    shown = [side * factor for side, factor in zip(stored_hw, stretch, strict=True)]
    scale = min(size / side for size, side in zip(size_hw, shown, strict=True))
    height, width = (max(1, round(side * scale)) for side in shown)
    return (height, width)


def on_black(image_u8: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
    """The image in the middle of a black one of `size_hw`."""
    height, width, _ = image_u8.shape
    top, left = (size_hw[0] - height) // 2, (size_hw[1] - width) // 2
    canvas = np.zeros((*size_hw, 3), np.uint8)
    canvas[top : top + height, left : left + width] = image_u8
    return canvas


def matrix_of(image: av.VideoFrame) -> int:
    """The matrix an image was coded with; where it states none, BT.709 for HD and BT.601 below, as players do."""
    if image.colorspace in MATRICES:
        return image.colorspace
    return int(Colorspace.ITU709 if image.height >= HEIGHT_OF_HD else Colorspace.ITU601)


def laid_on_white(image_rgba: np.ndarray) -> np.ndarray:
    """Composite uint8 RGBA (height, width, 4) on white: RGB (height, width, 3)."""
    alpha = image_rgba[..., 3:].astype(np.uint16)
    over_white = image_rgba[..., :3] * alpha + 255 * (255 - alpha)
    return ((over_white + 127) // 255).astype(np.uint8)


class ToYUV:
    """Turns uint8 RGB (height, width, 3) into yuv420p images of `stored_hw` in BT.709, limited range.

    Where that is larger by a row or a column, these repeat the edge.
    """

    def __init__(self, stored_hw: tuple[int, int]) -> None:
        self.stored_hw, self.reformatter = stored_hw, VideoReformatter()

    def __call__(self, image_u8: np.ndarray) -> av.VideoFrame:
        missing = [stored - side for stored, side in zip(self.stored_hw, image_u8.shape[:2], strict=True)]
        if any(missing):
            image_u8 = np.pad(image_u8, ((0, missing[0]), (0, missing[1]), (0, 0)), mode="edge")
        return self.reformatter.reformat(
            av.VideoFrame.from_ndarray(np.ascontiguousarray(image_u8), format="rgb24"),
            format="yuv420p",
            dst_colorspace=Colorspace.ITU709,
            dst_color_range=ColorRange.MPEG,
            interpolation=QUALITY | Interpolation.FULL_CHR_H_INP,
            threads=1,
        )


def tag_as_bt709(codec: av.VideoCodecContext) -> None:
    """Write into the file that its images are BT.709 in limited range, so that no player has to guess."""
    codec.colorspace = Colorspace.ITU709
    codec.color_range = ColorRange.MPEG
    codec.color_primaries = ColorPrimaries.BT709
    codec.color_trc = ColorTrc.BT709
