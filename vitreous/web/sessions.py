"""Sessions: what one browser has uploaded and asked for, which no other browser reaches, until it ends."""

import asyncio
import hashlib
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from vitreous.web.jobs.queue import Job

if TYPE_CHECKING:
    from vitreous.web.clips.stored_clip import StoredClip

MAX_IMAGES, MAX_CLIPS = 256, 8
"""Images and clips that one session keeps, however small they are."""
LIVE_IMAGES = 4
"""Images of a camera that one session keeps."""


@dataclass(frozen=True)
class Limits:
    """What one process serves.

    Attributes:
        upload_bytes: of one image file.
        image_pixels: of one decoded image.
        clip_bytes: of one clip's file.
        clip_pixels: of one frame of a clip.
        clip_frames: of one clip.
        clip_seconds: of one clip.
        session_bytes: of decoded images, clips and results of one session; the oldest ones make room for new ones.
        sessions: at the same time; one whose browser never came back makes room for a new one, else the one that was
            idle for longest.
        idle_seconds: after which a session ends.
        job_seconds: of computation for one request.
        memory_bytes: that one request may take beside the model, as estimated before it starts.
        jobs: that wait, of all sessions.
        session_jobs: that wait, of one session.
    """

    upload_bytes: int = 32 << 20
    image_pixels: int = 40_000_000
    clip_bytes: int = 64 << 20
    clip_pixels: int = 3840 * 2160
    clip_frames: int = 3600
    clip_seconds: float = 120.0
    session_bytes: int = 256 << 20
    sessions: int = 32
    idle_seconds: float = 1800.0
    job_seconds: float = 120.0
    memory_bytes: int = 4 << 30
    jobs: int = 64
    session_jobs: int = 4

    @property
    def waiting_bytes(self) -> int:
        """Of the files of all clients that arrive or wait to be decoded: four of the largest."""
        return 4 * max(self.upload_bytes, self.clip_bytes)


@dataclass(frozen=True)
class StoredImage:
    """An image that can be explained.

    Attributes:
        name: for people.
        image_u8: uint8 (height, width, 3).
        truth: the true label, if it is known.
        seconds: the time in its clip; None of an image that is no frame of one.
    """

    name: str
    image_u8: np.ndarray
    truth: str | None = None
    seconds: float | None = None


def name_upload(image_u8: np.ndarray) -> str:
    """Return the name of an image in links: the same for the same pixels.

    >>> name_upload(np.zeros((1, 1, 3), np.uint8))
    'upload-5b5b6c1f598f8ec11dff'
    """
    digest = hashlib.sha256(str(image_u8.shape).encode())
    digest.update(np.ascontiguousarray(image_u8).tobytes())
    return f"upload-{digest.hexdigest()[:20]}"


@dataclass
class WebSession:
    """The images, clips and jobs of one browser, oldest first; `id` is its secret."""

    limits: Limits
    id: str = field(default_factory=lambda: secrets.token_urlsafe(24))
    images: OrderedDict[str, StoredImage] = field(default_factory=OrderedDict)
    clips: "OrderedDict[str, StoredClip]" = field(default_factory=OrderedDict)
    jobs: OrderedDict[str, Job] = field(default_factory=OrderedDict)
    live_images: list[str] = field(default_factory=list)
    used_seconds: float = field(default_factory=time.monotonic)
    has_returned: bool = False

    @property
    def stored_bytes(self) -> int:
        """The memory that images, clips and results take."""
        images = sum(image.image_u8.nbytes for image in self.images.values())
        images += sum(clip.stored_bytes for clip in self.clips.values())
        return images + sum(len(job.result.data) for job in self.jobs.values() if job.result is not None)

    def add_image(self, key: str, image: StoredImage) -> None:
        """Store an image under its name in links, see `name_upload`."""
        self.images[key] = image
        self.images.move_to_end(key)
        self.make_room()

    def add_live_image(self, key: str, image: StoredImage) -> None:
        """Store an image of a camera, and forget those before the last few."""
        self.add_image(key, image)
        self.live_images = [*(one for one in self.live_images if one != key), key]
        while len(self.live_images) > LIVE_IMAGES:
            self.images.pop(self.live_images.pop(0), None)

    def add_clip(self, clip: "StoredClip") -> None:
        """Store a clip under its key."""
        self.clips[clip.key] = clip
        self.clips.move_to_end(clip.key)
        self.make_room()

    def find_frame(self, key: str) -> "tuple[StoredClip, int] | None":
        """Return the clip and the number that the name of a frame stands for, such as "clip-0a1b-17"."""
        name, _, number = key.rpartition("-")
        clip = self.clips.get(name)
        if clip is None or not (number.isascii() and number.isdecimal() and len(number) < 10):
            return None
        return clip, int(number)

    def add_job(self, job: Job) -> None:
        """Keep a job until its result is fetched or makes room for others."""
        self.jobs[job.id] = job
        self.make_room()

    def make_room(self) -> None:
        """Drop results that have been computed, then images, then clips, the oldest first, until the rest fits."""
        while len(self.images) > MAX_IMAGES:
            self.images.popitem(last=False)
        while len(self.clips) > MAX_CLIPS:
            self.clips.popitem(last=False)
        while self.stored_bytes > self.limits.session_bytes or len(self.jobs) > 8 * self.limits.session_jobs:
            done = next((key for key, job in self.jobs.items() if job.state.is_final), None)
            if done is not None and len(self.jobs) > 1:
                del self.jobs[done]
            elif len(self.images) > 1:
                self.images.popitem(last=False)
            elif len(self.clips) > 1:
                self.clips.popitem(last=False)
            else:
                break


class SessionTable:
    """The sessions of one process. It is used on the event loop's thread only.

    Args:
        limits: of what is served.
        cancel: is called with the jobs of a session that ends.
    """

    def __init__(self, limits: Limits, cancel: Callable[[Job], None] = Job.cancel) -> None:
        self.limits, self._cancel = limits, cancel
        self._timer: asyncio.TimerHandle | None = None
        self._sessions: OrderedDict[str, WebSession] = OrderedDict()

    def __len__(self) -> int:
        return len(self._sessions)

    @property
    def stored_bytes(self) -> int:
        """The memory that all of them take."""
        return sum(session.stored_bytes for session in self._sessions.values())

    def find(self, key: str) -> WebSession | None:
        """Return the session with this secret, and note that it is in use; None if there is none (any more)."""
        self.end_idle()
        session = self._sessions.get(key)
        if session is not None:
            session.used_seconds, session.has_returned = time.monotonic(), True
            self._sessions.move_to_end(key)
        return session

    def open(self) -> WebSession:
        """Begin a session."""
        self.end_idle()
        while len(self._sessions) >= self.limits.sessions:
            strangers = (key for key, session in self._sessions.items() if not session.has_returned)
            self.end(next(strangers, next(iter(self._sessions))))
        session = WebSession(self.limits)
        self._sessions[session.id] = session
        self._watch()
        return session

    def _watch(self) -> None:
        """End idle sessions from time to time, also where nobody asks for anything any more."""
        if self._timer is not None or not self._sessions:
            return
        with suppress(RuntimeError):  # no event loop runs
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(min(60.0, self.limits.idle_seconds), self._end_idle_again)

    def _end_idle_again(self) -> None:
        self._timer = None
        self.end_idle()
        self._watch()

    def end(self, key: str) -> None:
        """End a session: cancel its jobs and forget its images."""
        session = self._sessions.pop(key, None)
        for job in session.jobs.values() if session is not None else ():
            self._cancel(job)

    def end_idle(self) -> None:
        """End the sessions that were idle for too long."""
        oldest = time.monotonic() - self.limits.idle_seconds
        for key in [key for key, session in self._sessions.items() if session.used_seconds < oldest]:
            self.end(key)
