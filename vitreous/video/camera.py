"""Live images, from a camera or from a video file that is played at its own rate."""

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
from vitreous.files import os_error_reason
from vitreous.video.color import ToRGB
from vitreous.video.decode import read_frames
from vitreous.video.info import read_info
from vitreous.video.options import VideoOptions

CAPTURE_FORMATS = {"linux": "v4l2", "darwin": "avfoundation", "win32": "dshow"}
CAPTURE_OPTIONS = {"avfoundation": {"framerate": "30"}}  # its default of 29.97 is refused by most cameras of a Mac
CAPTURE_ERRORS = (OSError, ValueError, av.error.FFmpegError)
MAX_DELAY_SECONDS = 0.5  # a file that decodes slower than it plays lags by so much, then its clock waits


@dataclass(frozen=True)
class LiveFrame:
    """One image, uint8 RGB (height, width, 3), upright, and its time on the clock `time.monotonic`."""

    image_u8: np.ndarray
    captured_seconds: float


class LiveSource(Protocol):
    """A source of live images."""

    name: str

    def frames(self, stop: Event) -> Generator[LiveFrame]:
        """Yield images as they come, until there are no more or `stop` is set."""
        ...

    def close(self) -> None:
        """Release the camera or file; closing twice is harmless."""
        ...


class VideoFileSource:
    """A video file that is played like a camera: each frame comes when it is due.

    Args:
        path: a video file.
        side: the longer side of the images in pixels, at most.
        loop: start over at the end.

    Raises:
        InputError: the video can't be read, or `side` is too small.
    """

    def __init__(self, path: Path | str, side: int = 640, *, loop: bool = False) -> None:
        info = read_info(path)
        self.path, self.name, self.loop, self.step = Path(path), Path(path).name, loop, 1 / info.fps
        self.options = VideoOptions(size=fit_long_side(info.size_hw, side, info.pixel_aspect))

    def frames(self, stop: Event) -> Generator[LiveFrame]:
        """Yield the frames in real time.

        Raises:
            TruncatedVideoError: after the last good frame, if the rest can't be read.
        """
        start = time.monotonic()
        while True:
            end = Fraction(0)
            for frame in read_frames(self.path, self.options):
                due = start + float(frame.time_seconds)
                if stop.wait(max(0.0, due - time.monotonic())):
                    return
                now = time.monotonic()
                start += max(0.0, now - due - MAX_DELAY_SECONDS)
                yield LiveFrame(frame.image_u8, now)
                end = frame.time_seconds + (frame.duration_seconds or self.step)
            start += float(end)
            if stop.wait(max(0.0, start - time.monotonic())) or not self.loop:
                return

    def close(self) -> None:
        """Do nothing: no file is open between frames."""


class Camera:
    """A camera of this machine.

    Args:
        device: the camera's number from 0, its name or, on Linux, its path.
        side: the longer side of the images in pixels, at most.

    Raises:
        InputError: there is no such camera (the message lists those that exist), it is in use, or access is denied.
    """

    def __init__(self, device: str = "0", side: int = 640) -> None:
        fit_long_side((1, 1), side)
        self.side, self.name = side, f"camera {device}"
        system = CAPTURE_FORMATS.get(sys.platform, "v4l2")
        try:
            self.container = av.open(device_url(device, system), format=system, options=CAPTURE_OPTIONS.get(system, {}))
        except CAPTURE_ERRORS as error:
            raise open_error(device, error) from error

    def frames(self, stop: Event) -> Generator[LiveFrame]:
        """Yield images as the camera delivers them.

        Raises:
            InputError: the camera was unplugged or failed.
        """
        to_rgb = None
        try:
            for packet in self.container.demux(video=0):
                arrived = time.monotonic()
                for image in packet.decode():
                    assert isinstance(image, av.VideoFrame)
                    to_rgb = to_rgb or ToRGB(image, fit_long_side((image.height, image.width), self.side))
                    yield LiveFrame(to_rgb(image), arrived)
                if stop.is_set():
                    return
        except CAPTURE_ERRORS as error:
            raise InputError(
                f"{self.name} gives no more images ({describe_error(error)}): check that it is still connected"
            ) from error

    def close(self) -> None:
        """Release the camera."""
        self.container.close()


def fit_long_side(size_hw: tuple[int, int], side: int, pixel_aspect: Fraction = Fraction(1)) -> tuple[int, int]:
    """Scale a size so that its longer side is at most `side`, with square pixels; smaller images keep their size.

    >>> fit_long_side((720, 1280), 640), fit_long_side((241, 321), 640), fit_long_side((240, 320), 640, Fraction(4, 3))
    ((360, 640), (241, 321), (240, 427))
    """
    if side < 16:
        raise InputError(f"size {side} is too small for an image: give the longer side in pixels, 16 or more")
    height, width = size_hw[0], size_hw[1] * pixel_aspect
    scale = min(Fraction(1), side / max(Fraction(height), width))
    return max(1, round(height * scale)), max(1, round(width * scale))


def device_url(device: str, system: str) -> str:
    """Return the name that FFmpeg has for a camera."""
    if system == "v4l2":
        return f"/dev/video{device}" if device.isdigit() else device
    if system == "dshow":
        names = [name for name, _ in list_cameras()]
        return "video=" + (names[int(device)] if device.isdigit() and int(device) < len(names) else device)
    return f"{device}:none" if system == "avfoundation" else device


def list_cameras() -> list[tuple[str, str]]:
    """List the cameras of this machine as (name, description), as far as the system can list them."""
    try:
        devices = av.enumerate_input_devices(CAPTURE_FORMATS.get(sys.platform, "v4l2"))
    except CAPTURE_ERRORS:
        return []
    return [(device.name, device.description) for device in devices if "audio" not in device.media_types]


def open_error(device: str, error: Exception) -> InputError:
    """Build the error for a camera that can't be opened."""
    names = ", ".join(f"{name} ({description})" for name, description in list_cameras())
    choice = f"there are {names}" if names else "there is no camera on this machine; play a video file (--source)"
    number = getattr(error, "errno", None)
    if number in (errno.EACCES, errno.EPERM):
        return InputError(f"camera {device} may not be used (permission denied): on Linux, join the group video")
    if number == errno.EBUSY:
        return InputError(
            f"camera {device} is in use by another program: close that program, or choose another camera; {choice}"
        )
    if number in (errno.ENOENT, errno.ENODEV, errno.ENXIO):
        return InputError(f"there is no camera {device}: {choice}")
    return InputError(f"camera {device} can't be opened ({describe_error(error)}): {choice}")


def describe_error(error: Exception) -> str:
    """Return FFmpeg's or the system's message for an error."""
    return os_error_reason(error) if isinstance(error, OSError) else str(error).lower()
