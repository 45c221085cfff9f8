"""Convert between FFmpeg's images and RGB arrays with the right matrix (BT.601, 709, 2020) and range."""

from fractions import Fraction

import av
import numpy as np
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc, Interpolation, VideoReformatter

from vitreous.video.hdr import ToSDR, hdr_transfer
from vitreous.video.trim import ReadReport

QUALITY = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT
MATRICES = {1, 4, 5, 6, 7, 9}  # AVCOL_SPC_*: BT.709, FCC, BT.601 (625 and 525 lines), SMPTE 240M, BT.2020
HEIGHT_OF_HD = 720


class ToRGB:
    """Converts the decoded images of one video to uint8 RGB (height, width, 3), not yet upright.

    Images whose size changes within the video are fitted into the first size, with black bars where their shape
    differs. Transparent images (GIF) are composited on white, HDR images are tone-mapped. `report` receives a note for
    each of these.

    Args:
        first: the first image.
        size_hw: the size of the results; by default that of the first image.
        report: receives the notes.
    """

    def __init__(
        self, first: av.VideoFrame, size_hw: tuple[int, int] | None = None, report: ReadReport | None = None
    ) -> None:
        self.first_hw = self.current_hw = (first.height, first.width)
        self.size_hw = size_hw or self.first_hw
        self.reformatter, self.packer, self.to_sdr = VideoReformatter(), VideoReformatter(), ToSDR()
        self.notes: list[str] = [] if report is None else report.notes
        if hdr_transfer(first):
            self.notes.append(f"the video is HDR ({hdr_transfer(first)}): it was tone-mapped to SDR (BT.709)")

    def __call__(self, image: av.VideoFrame) -> np.ndarray:
        if (image.height, image.width) != self.current_hw:
            self.note_size_change(image)
        inner_hw = fit_inside(self.current_hw, self.first_hw, self.size_hw)
        image_u8 = self.convert(image, inner_hw)
        return image_u8 if inner_hw == self.size_hw else pad_with_black(image_u8, self.size_hw)

    def convert(self, image: av.VideoFrame, size_hw: tuple[int, int]) -> np.ndarray:
        if hdr_transfer(image):
            image = self.to_sdr(image)
        has_alpha = any(component.is_alpha for component in image.format.components)
        rgb = self.reformatter.reformat(
            image,
            width=size_hw[1],
            height=size_hw[0],
            format="rgba" if has_alpha else "gbrp",
            src_colorspace=color_matrix(image),
            interpolation=QUALITY,
            threads=1,
        )
        if has_alpha:
            return composite_on_white(rgb.to_ndarray())
        # Planes first: the same bits three times as fast, as swscale has no SIMD code for exact packed RGB.
        return self.packer.reformat(rgb, format="rgb24", interpolation=Interpolation.POINT, threads=1).to_ndarray()

    def note_size_change(self, image: av.VideoFrame) -> None:
        if self.current_hw == self.first_hw:
            first, new = (f"{width} x {height}" for height, width in (self.first_hw, (image.height, image.width)))
            self.notes.append(
                f"the video changes its size from {first} to {new}: all frames are fitted to the first size"
            )
        self.current_hw = (image.height, image.width)


def fit_inside(stored_hw: tuple[int, int], first_hw: tuple[int, int], size_hw: tuple[int, int]) -> tuple[int, int]:
    """Return the part (height, width) of `size_hw` that an image of `stored_hw` fills, if one of `first_hw` fills all.

    >>> fit_inside((100, 100), (90, 160), (90, 160)), fit_inside((180, 320), (90, 160), (90, 160))
    ((90, 90), (90, 160))
    """
    if stored_hw == first_hw:
        return size_hw
    factors = [Fraction(size, first) for size, first in zip(size_hw, first_hw, strict=True)]
    displayed = [side * factor for side, factor in zip(stored_hw, factors, strict=True)]
    scale = min(size / side for size, side in zip(size_hw, displayed, strict=True))
    height, width = (max(1, round(side * scale)) for side in displayed)
    return (height, width)


def pad_with_black(image_u8: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
    """Center the image on a black one of `size_hw`."""
    height, width, _ = image_u8.shape
    top, left = (size_hw[0] - height) // 2, (size_hw[1] - width) // 2
    canvas = np.zeros((*size_hw, 3), np.uint8)
    canvas[top : top + height, left : left + width] = image_u8
    return canvas


def color_matrix(image: av.VideoFrame) -> int:
    """Return the matrix of an image; if it states none, BT.709 for HD and BT.601 below, as players do."""
    if image.colorspace in MATRICES:
        return image.colorspace
    return int(Colorspace.ITU709 if image.height >= HEIGHT_OF_HD else Colorspace.ITU601)


def composite_on_white(image_rgba: np.ndarray) -> np.ndarray:
    """Composite uint8 RGBA (height, width, 4) on white: RGB (height, width, 3)."""
    alpha = image_rgba[..., 3:].astype(np.uint16)
    over_white = image_rgba[..., :3] * alpha + 255 * (255 - alpha)
    return ((over_white + 127) // 255).astype(np.uint8)


class ToYUV:
    """Converts uint8 RGB (height, width, 3) to yuv420p images of `stored_hw` in BT.709, limited range.

    If that is larger by a row or a column, the edge is repeated.
    """

    def __init__(self, stored_hw: tuple[int, int]) -> None:
        self.stored_hw, self.reformatter = stored_hw, VideoReformatter()

    def __call__(self, image_u8: np.ndarray) -> av.VideoFrame:
        padding = [stored - side for stored, side in zip(self.stored_hw, image_u8.shape[:2], strict=True)]
        if any(padding):
            image_u8 = np.pad(image_u8, ((0, padding[0]), (0, padding[1]), (0, 0)), mode="edge")
        return self.reformatter.reformat(
            av.VideoFrame.from_ndarray(np.ascontiguousarray(image_u8), format="rgb24"),
            format="yuv420p",
            dst_colorspace=Colorspace.ITU709,
            dst_color_range=ColorRange.MPEG,
            interpolation=QUALITY | Interpolation.FULL_CHR_H_INP,
            threads=1,
        )


def tag_as_bt709(codec: av.VideoCodecContext) -> None:
    """Tag the file's images as BT.709 in limited range, so that no player has to guess."""
    codec.colorspace = Colorspace.ITU709
    codec.color_range = ColorRange.MPEG
    codec.color_primaries = ColorPrimaries.BT709
    codec.color_trc = ColorTrc.BT709
