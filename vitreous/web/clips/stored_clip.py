"""An uploaded clip: the times of its frames, and any of them as an image."""

import hashlib
import os
import tempfile
import time
import weakref
from collections import OrderedDict
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import replace
from fractions import Fraction
from itertools import islice
from pathlib import Path
from threading import Lock

import numpy as np

from vitreous.errors import InputError
from vitreous.render.overlay import dimming_for, mean_brightness
from vitreous.video.decode import TruncatedVideoError, read_frames
from vitreous.video.info import Frame, VideoInfo, read_info
from vitreous.video.options import VideoOptions
from vitreous.video.output import square_pixels
from vitreous.video.trim import ReadReport
from vitreous.web.sessions import Limits, StoredImage

CACHED_BYTES = 48 << 20
NEAR_FRAMES = 32
"""A frame that is at most so far ahead is decoded from where the reader is, others from the key frame before them."""
BACK_FRAMES = 12
SCAN_SIZE = (16, 16)


class StoredClip:
    """A clip that has been decoded from beginning to end, in a temporary file that goes when nobody uses it any more.

    Frames are those of `vitreous video` that writes PNG files: upright, with square pixels. `is_resized` says whether
    they were stretched for that.

    Args:
        data: the file.
        limits: of what is taken: `clip_pixels`, `clip_frames`, `clip_seconds`, and `job_seconds` for decoding it.
        should_stop: asked between frames whether nobody waits for it any more.

    Raises:
        InputError: it is not a video that can be read, or too large or too long, or nobody waits for it any more.
    """

    def __init__(self, data: bytes, limits: Limits, should_stop: Callable[[], bool] = lambda: False) -> None:
        self.key = f"clip-{hashlib.sha256(data).hexdigest()[:20]}"
        self.path, self.file_bytes = store_temporarily(self, data), len(data)
        try:
            info = read_info(self.path)
            check_header(info, limits)
            self._options = square_pixels(VideoOptions(format="png"), "frames", info)
            self.height, self.width = self._options.output_size(info.size_hw)
            self.is_resized = (self.height, self.width) != info.size_hw
            self.times, self.end_seconds, self.dimming, self.notes = self._scan(limits, should_stop)
        except InputError as error:
            raise InputError(str(error).replace(str(self.path), "this file")) from error
        self._capacity = max(1, CACHED_BYTES // (3 * self.height * self.width))
        self._cached: OrderedDict[int, np.ndarray] = OrderedDict()
        self._reader: Generator[Frame] | None = None
        self._report, self._next, self._lock = ReadReport(), 0, Lock()

    @property
    def stored_bytes(self) -> int:
        """The memory that the file and its decoded frames take."""
        return self.file_bytes + len(self._cached) * 3 * self.height * self.width

    def frame(self, number: int) -> np.ndarray:
        """Return a frame, uint8 (height, width, 3); frames count from 0.

        Raises:
            InputError: there is none, or it can't be decoded any more.
        """
        if not 0 <= number < len(self.times):
            raise InputError(f"there is no frame {number}: there are {len(self.times)}, from 0")
        with self._lock:
            if number not in self._cached:
                self._read_until(number)
            self._cached.move_to_end(number)
            return self._cached[number]

    def image(self, number: int) -> StoredImage:
        """Return a frame as an image that can be explained."""
        return StoredImage("this clip", self.frame(number), seconds=round(float(self.times[number]), 6))

    def read(self, every: int) -> Generator[Frame]:
        """Yield each `every`-th frame from the beginning, in presentation order."""
        frames = read_frames(self.path, replace(self._options, every=every))
        with closing(frames):
            yield from islice(frames, -(-len(self.times) // every))

    def _scan(
        self, limits: Limits, should_stop: Callable[[], bool]
    ) -> tuple[list[Fraction], Fraction, float, list[str]]:
        """Decode everything: the frames' times and the end, in seconds, their dimming, and notes for the user."""
        report, times, brightness, end = ReadReport(), [], 0.0, Fraction(0)
        deadline = time.monotonic() + limits.job_seconds
        with closing(read_frames(self.path, replace(self._options, size=SCAN_SIZE), report)) as frames:
            try:
                for frame in frames:
                    times.append(frame.time_seconds)
                    brightness += mean_brightness(frame.image_u8)
                    end = frame.time_seconds + (frame.duration_seconds or 0)
                    check_length(len(times), frame.time_seconds, limits)
                    if should_stop():
                        raise InputError("nobody waits for this clip any more")
                    if time.monotonic() > deadline:
                        raise InputError(
                            f"decoding this file took longer than {limits.job_seconds:g} s: make it smaller"
                        )
            except TruncatedVideoError as error:
                report.notes.append(str(error))
        return times, end, dimming_for(brightness / len(times)), report.notes

    def _read_until(self, number: int) -> None:
        """Decode the frames up to this one, and keep the last of them."""
        if self._reader is None or not self._next <= number <= self._next + NEAR_FRAMES:
            back = min(BACK_FRAMES, self._capacity - 1) if number < self._next else 0
            self._open(max(0, number - back))
        while self._next <= number:
            assert self._reader is not None
            frame = next(self._reader)
            if self._report.zero_seconds + frame.time_seconds != self.times[self._next]:
                self._open(0)  # in a few files, times that are counted from a key frame differ
                continue
            self._cached[self._next] = frame.image_u8
            self._next += 1
            if len(self._cached) > self._capacity:
                self._cached.popitem(last=False)

    def _open(self, first: int) -> None:
        if self._reader is not None:
            self._reader.close()
        self._report, self._next = ReadReport(), first
        start = self.times[first] if first else 0
        self._reader = read_frames(self.path, replace(self._options, start=start), self._report)


def store_temporarily(owner: object, data: bytes) -> Path:
    """Write data to a temporary file of a random name, which is removed with its owner or at the end of the process."""
    descriptor, name = tempfile.mkstemp(prefix="vitreous-clip-")
    weakref.finalize(owner, Path(name).unlink, missing_ok=True)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
    return Path(name)


def check_header(info: VideoInfo, limits: Limits) -> None:
    """Check what the header says, before everything is decoded.

    Raises:
        InputError: the clip is too large or too long.
    """
    height, width = info.size_hw
    if height * width * max(info.pixel_aspect, 1 / info.pixel_aspect) > limits.clip_pixels:
        raise InputError(
            f"its frames have {width:,} x {height:,} pixels, the limit is {limits.clip_pixels:,}: make them smaller"
        )
    check_length(info.frame_count or 1, info.duration_seconds or Fraction(0), limits)


def check_length(frames: int, seconds: Fraction, limits: Limits) -> None:
    """Check how long a clip is.

    Raises:
        InputError: it is too long.
    """
    remedy = "cut it first, such as with vitreous video --start --end"
    if frames > limits.clip_frames:
        raise InputError(f"this clip has more than {limits.clip_frames:,} frames, which is the limit: {remedy}")
    if seconds > limits.clip_seconds:
        raise InputError(f"this clip is longer than {limits.clip_seconds:g} s, which is the limit: {remedy}")


def describe_clip(clip: StoredClip) -> dict[str, object]:
    """Describe a clip for JSON; times are in seconds."""
    return {
        "clip": clip.key,
        "height": clip.height,
        "width": clip.width,
        "is_resized": clip.is_resized,
        "times": [round(float(one), 6) for one in clip.times],
        "end": round(float(clip.end_seconds), 6),
        "dimming": clip.dimming,
        "notes": clip.notes,
    }
