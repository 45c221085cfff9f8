"""Between FFmpeg's pictures and RGB arrays, with the right matrix (BT.601, 709, 2020) and range (limited, full)."""

import av
import numpy as np
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc, Interpolation, VideoReformatter

QUALITY = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT
MATRICES = {1, 4, 5, 6, 7, 9}  # AVCOL_SPC_*: BT.709, FCC, BT.601 (625 and 525 lines), SMPTE 240M, BT.2020
HEIGHT_OF_HD = 720


class ToRGB:
    """Turns the decoded pictures of one clip into uint8 RGB (height, width, 3), not yet upright.

    Transparent pictures (GIF) are laid on white. Where a clip changes its size on the way, its first size holds.
    """

    def __init__(self, first: av.VideoFrame) -> None:
        self.size_hw = (first.height, first.width)
        self.reformatter = VideoReformatter()

    def __call__(self, picture: av.VideoFrame) -> np.ndarray:
        transparent = any(component.is_alpha for component in picture.format.components)
        converted = self.reformatter.reformat(
            picture,
            width=self.size_hw[1],
            height=self.size_hw[0],
            format="rgba" if transparent else "rgb24",
            src_colorspace=matrix_of(picture),
            interpolation=QUALITY,
            threads=1,
        ).to_ndarray()
        return laid_on_white(converted) if transparent else converted


def matrix_of(picture: av.VideoFrame) -> int:
    """The matrix a picture was coded with; where it states none, BT.709 for HD and BT.601 below, as players do."""
    if picture.colorspace in MATRICES:
        return picture.colorspace
    return int(Colorspace.ITU709 if picture.height >= HEIGHT_OF_HD else Colorspace.ITU601)


def laid_on_white(image_rgba: np.ndarray) -> np.ndarray:
    """Composite uint8 RGBA (height, width, 4) on white: RGB (height, width, 3)."""
    alpha = image_rgba[..., 3:].astype(np.uint16)
    over_white = image_rgba[..., :3] * alpha + 255 * (255 - alpha)
    return ((over_white + 127) // 255).astype(np.uint8)


class ToYUV:
    """Turns uint8 RGB (height, width, 3) into yuv420p pictures in BT.709, limited range, of even size.

    An odd height or width grows by one row or column that repeats the edge, because yuv420p halves both.
    """

    def __init__(self) -> None:
        self.reformatter = VideoReformatter()

    def __call__(self, image_u8: np.ndarray) -> av.VideoFrame:
        height, width, _ = image_u8.shape
        even = np.pad(image_u8, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        return self.reformatter.reformat(
            av.VideoFrame.from_ndarray(np.ascontiguousarray(even), format="rgb24"),
            format="yuv420p",
            dst_colorspace=Colorspace.ITU709,
            dst_color_range=ColorRange.MPEG,
            interpolation=QUALITY | Interpolation.FULL_CHR_H_INP,
            threads=1,
        )


def tag_as_bt709(codec: av.VideoCodecContext) -> None:
    """Write into the file that its pictures are BT.709 in limited range, so that no player has to guess."""
    codec.colorspace = Colorspace.ITU709
    codec.color_range = ColorRange.MPEG
    codec.color_primaries = ColorPrimaries.BT709
    codec.color_trc = ColorTrc.BT709
