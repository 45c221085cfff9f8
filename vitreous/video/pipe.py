"""Write a video as raw frames to standard output, for another program to read."""

import sys
from fractions import Fraction
from typing import BinaryIO

import numpy as np

from vitreous.errors import InputError
from vitreous.files import os_error_reason
from vitreous.video.info import Frame, VideoInfo, format_frame_count
from vitreous.video.writer import Writer


class PipeWriter(Writer):
    """Writes frames as rgb24, one after the other, and prints the FFmpeg command that reads them to standard error.

    Raw frames have no times: the reader shows them at an even rate, the average of the source.

    Raises:
        InputError: the reader has stopped, or can't be written to.
    """

    codec = "rawvideo"

    def __init__(self, source: VideoInfo, size_hw: tuple[int, int], out: BinaryIO | None = None) -> None:
        super().__init__("-", source, size_hw)
        self.out = sys.stdout.buffer if out is None else out

    def __enter__(self) -> "PipeWriter":
        sys.stderr.write(f"raw frames follow; to read them: {ffmpeg_command(self.size_hw, self.source.fps)}\n")
        sys.stderr.flush()
        return self

    def write(self, frame: Frame) -> None:
        """Write one frame."""
        assert frame.image_u8.shape == (*self.size_hw, 3), f"{frame.image_u8.shape} is not {self.size_hw} in RGB"
        try:
            self.out.write(np.ascontiguousarray(frame.image_u8).data)
            self.out.flush()
        except OSError as error:
            cause = f"{os_error_reason(error)}; did the reading program end?"
            raise InputError(f"standard output was closed after {format_frame_count(self.frames)}: {cause}") from error
        super().write(frame)


def ffmpeg_command(size_hw: tuple[int, int], fps: Fraction) -> str:
    """Return the command that converts the raw frames on its standard input to a video.

    >>> ffmpeg_command((720, 1280), Fraction(30000, 1001))
    'ffmpeg -f rawvideo -pixel_format rgb24 -video_size 1280x720 -framerate 30000/1001 -i - -pix_fmt yuv420p out.mp4'
    """
    height, width = size_hw
    return (
        f"ffmpeg -f rawvideo -pixel_format rgb24 -video_size {width}x{height} -framerate {fps} "
        "-i - -pix_fmt yuv420p out.mp4"
    )
