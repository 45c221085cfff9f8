"""Options of an explained video, in groups that the command line and the library share.

The command line turns each field into a flag, whose help is the text under the field. This module loads neither torch
nor the model code.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from vitreous.errors import InputError, unknown
from vitreous.render.frame_view import DrawStyle
from vitreous.render.temporal.smooth import HALF_LIFE_SECONDS
from vitreous.render.temporal.stabilize import WINDOW_FRAMES
from vitreous.video.options import VideoOptions

Layout = Literal["contour", "heads", "layers", "methods", "overlay", "side-by-side", "spotlight"]
VideoPrecision = Literal["auto", "bf16", "fp32", "int8"]


@dataclass(frozen=True)
class DrawOptions:
    """How the maps are drawn.

    Raises:
        InputError: an unknown layout, or a value out of range.

    Attributes:
        layout: Overlay by default. `heads` and `layers` give each attention head or layer a panel, `methods` each of
            several methods; `spotlight` darkens the regions that the map leaves out.
        smooth: Half-life of the temporal smoothing in seconds; 0 turns it off. Moving regions are smoothed less.
        opacity: Opacity of the overlay, from 0 to 1.
        edge_aware: Align the map with edges in the image (guided filter).
        legend: Draw the method's name and the color scale.
        class_strip: Draw the class probabilities over time under the image.
    """

    layout: Layout | None = None
    smooth: float = HALF_LIFE_SECONDS
    opacity: float = 1.0
    edge_aware: bool = False
    legend: bool = True
    class_strip: bool = False

    def __post_init__(self) -> None:
        if self.layout is not None and self.layout not in get_args(Layout):
            raise unknown("layout", self.layout, get_args(Layout))
        if not 0 <= self.smooth < float("inf"):
            raise InputError(f"smooth {self.smooth} is not a half-life: give seconds above 0, or 0 for no smoothing")
        _ = self.style

    @property
    def style(self) -> DrawStyle:
        """The part of these options that the layouts take."""
        return DrawStyle(self.opacity, self.edge_aware, self.legend)


@dataclass(frozen=True)
class FrameOptions:
    """Which frames of the video are used.

    Attributes:
        start: Start of the excerpt in seconds.
        end: End of the excerpt in seconds; the end of the video by default.
        every: Use only each N-th frame, and show it until the next one.
    """

    start: float = 0.0
    end: float | None = None
    every: int = 1


@dataclass(frozen=True)
class SpeedOptions:
    """How fast the model runs, and how exactly.

    Raises:
        InputError: an unknown precision, or a batch size below 1.

    Attributes:
        batch_size: Frames per forward pass of the model.
        precision: `bf16` is about 1.5 times as fast where the hardware supports it, and `auto` uses it there. `int8`
            is about twice as fast on CPUs with AVX-512 VNNI, for methods without gradients. Maps change little
            (docs/video.md).
    """

    batch_size: int = 16
    precision: VideoPrecision = "fp32"

    def __post_init__(self) -> None:
        if self.precision not in get_args(VideoPrecision):
            raise unknown("precision", self.precision, get_args(VideoPrecision))
        if self.batch_size < 1:
            raise InputError(f"batch size {self.batch_size} is too small: give 1 or more")

    @property
    def float_precision(self) -> str:
        """The precision of all that is not multiplied in 8 bits, for `choose_precision`."""
        return "auto" if self.precision == "int8" else self.precision

    @property
    def frames_per_step(self) -> int:
        """Frames in a step of the pipeline: whole smoothing windows, so that the batch size does not change the result.

        >>> SpeedOptions(1).frames_per_step, SpeedOptions(16).frames_per_step, SpeedOptions(20).frames_per_step
        (16, 16, 32)
        """
        return WINDOW_FRAMES * -(-self.batch_size // WINDOW_FRAMES)


@dataclass(frozen=True)
class OutputOptions:
    """What is written, besides the choice of the output's path.

    Attributes:
        height: Height of the output in pixels; the source's by default. Its width keeps the aspect ratio.
        quality: Constant rate factor (CRF) of the encoder: a lower value gives better quality and a larger file.
        format: Container format, such as webm or png, when the output has no file extension.
        timeline: Also write a PNG figure of classes, segments and the map's entropy over time. For a folder of
            videos: a folder.
        save_maps: Also write the maps to an NPZ file, and the predictions to a CSV file beside it. For a folder of
            videos: a folder.
    """

    height: int | None = None
    quality: int | None = None
    format: str | None = None
    timeline: Path | None = None
    save_maps: Path | None = None


def video_options(frames: FrameOptions, output: OutputOptions) -> VideoOptions:
    """Combine what the video pipeline takes.

    Raises:
        InputError: a value that no video can have.
    """
    return VideoOptions(frames.start, frames.end, frames.every, output.height, output.quality, output.format)
