"""Live images: from a camera, or from a clip that is played at its own rate as if it were one."""

import errno
import sys
import time
from collections.abc import Generator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from threading import Event
from typing import Protocol

import av
import numpy as np

from vitreous.errors import InputError
from vitreous.files import reason
from vitreous.video.color import ToRGB
from vitreous.video.decode import read_frames
from vitreous.video.info import read_info
from vitreous.video.options import VideoOptions

FORMATS = {"linux": "v4l2", "darwin": "avfoundation", "win32": "dshow"}
OPTIONS = {"avfoundation": {"framerate": "30"}}  # its default of 29.97 is refused by most cameras of a Mac
FAILURES = (OSError, ValueError, av.error.FFmpegError)
LATE_SECONDS = 0.5  # a clip that decodes slower than it plays falls back by so much, then its clock waits for it


@dataclass(frozen=True)
class LiveFrame:
    """One image, uint8 RGB (height, width, 3), upright, and when it was there, on the clock `time.monotonic`."""

    image_u8: np.ndarray
    taken_seconds: float


class LiveSource(Protocol):
    """What images come from while they are made."""

    name: str

    def frames(self, stop: Event) -> Generator[LiveFrame]:
        """Yield images as they come, until there are no more or `stop` is set."""
        ...

    def close(self) -> None:
        """Give the camera or file free; no harm if it is already."""
        ...


class Clip:
    """A clip as a camera: each frame comes when it is due, its long side `side` at most; with `loop` again and again.

    Raises:
        InputError: the clip can't be read, or `side` is no size.
    """

    def __init__(self, path: Path | str, side: int = 640, *, loop: bool = False) -> None:
        info = read_info(path)
        self.path, self.name, self.loop, self.step = Path(path), Path(path).name, loop, 1 / info.fps
        self.options = VideoOptions(size=fitting(info.size_hw, side, info.pixel_aspect))

    def frames(self, stop: Event) -> Generator[LiveFrame]:
        """Yield the frames in real time.

        Raises:
            ClipBrokeOff: after the last good frame, where the rest can't be read.
        """
        start = time.monotonic()
        while True:
            end = Fraction(0)
            for frame in read_frames(self.path, self.options):
                due = start + float(frame.time_seconds)
                if stop.wait(max(0.0, due - time.monotonic())):
                    return
                now = time.monotonic()
                start += max(0.0, now - due - LATE_SECONDS)
                yield LiveFrame(frame.image_u8, now)
                end = frame.time_seconds + (frame.duration_seconds or self.step)
            start += float(end)
            if stop.wait(max(0.0, start - time.monotonic())) or not self.loop:
                return

    def close(self) -> None:
        """Nothing is open between frames."""


class Camera:
    """A camera of this machine, opened: its number from 0, its name or, on Linux, its path; long side at most `side`.

    Raises:
        InputError: there is no such camera (says which there are), it is taken, or may not be used.
    """

    def __init__(self, device: str = "0", side: int = 640) -> None:
        fitting((1, 1), side)
        self.side, self.name = side, f"camera {device}"
        system = FORMATS.get(sys.platform, "v4l2")
        try:
            self.container = av.open(place_of(device, system), format=system, options=OPTIONS.get(system, {}))
        except FAILURES as error:
            raise refusal(device, error) from error

    def frames(self, stop: Event) -> Generator[LiveFrame]:
        """Yield images as the camera gives them.

        Raises:
            InputError: it was unplugged, or failed.
        """
        to_rgb = None
        try:
            for packet in self.container.demux(video=0):
                arrived = time.monotonic()
                for image in packet.decode():
                    assert isinstance(image, av.VideoFrame)
                    to_rgb = to_rgb or ToRGB(image, fitting((image.height, image.width), self.side))
                    yield LiveFrame(to_rgb(image), arrived)
                if stop.is_set():
                    return
        except FAILURES as error:
            raise InputError(f"{self.name} gives no more images ({words(error)}): is it still there?") from error

    def close(self) -> None:
        """Give the camera free."""
        self.container.close()


def fitting(size_hw: tuple[int, int], side: int, pixel_aspect: Fraction = Fraction(1)) -> tuple[int, int]:
    """The size with square pixels whose long side is `side`, or less where the image is smaller.

    >>> fitting((720, 1280), 640), fitting((241, 321), 640), fitting((240, 320), 640, Fraction(4, 3))
    ((360, 640), (241, 321), (240, 427))
    """
    if side < 16:
        raise InputError(f"size {side} is too small for an image: give the long side in pixels, 16 or more")
    height, width = size_hw[0], size_hw[1] * pixel_aspect
    scale = min(Fraction(1), side / max(Fraction(height), width))
    return max(1, round(height * scale)), max(1, round(width * scale))


def place_of(device: str, system: str) -> str:
    """What FFmpeg calls a camera."""
    if system == "v4l2":
        return f"/dev/video{device}" if device.isdigit() else device
    if system == "dshow":
        names = [name for name, _ in cameras()]
        return "video=" + (names[int(device)] if device.isdigit() and int(device) < len(names) else device)
    return f"{device}:none" if system == "avfoundation" else device


def cameras() -> list[tuple[str, str]]:
    """The cameras of this machine, (name, description), as far as they can be listed."""
    try:
        found = av.enumerate_input_devices(FORMATS.get(sys.platform, "v4l2"))
    except FAILURES:
        return []
    return [(one.name, one.description) for one in found if "audio" not in one.media_types]


def refusal(device: str, error: Exception) -> InputError:
    """The error for a camera that can't be opened."""
    known = ", ".join(f"{name} ({description})" for name, description in cameras())
    choice = f"there are {known}" if known else "no camera was found on this machine; a clip can stand in (--source)"
    number = getattr(error, "errno", None)
    if number in (errno.EACCES, errno.EPERM):
        return InputError(f"camera {device} may not be used (permission denied): on Linux, join the group video")
    if number == errno.EBUSY:
        return InputError(f"camera {device} is in use by another program: close that one, or choose another; {choice}")
    if number in (errno.ENOENT, errno.ENODEV, errno.ENXIO):
        return InputError(f"there is no camera {device}: {choice}")
    return InputError(f"camera {device} can't be opened ({words(error)}): {choice}")


def words(error: Exception) -> str:
    """FFmpeg's or the system's own words for an error."""
    return reason(error) if isinstance(error, OSError) else str(error).lower()
