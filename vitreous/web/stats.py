"""The speed of a live view: what is counted while it runs, and the numbers that come of it."""

import time
from collections import Counter, deque
from dataclasses import dataclass
from statistics import median
from threading import Lock

from vitreous.callbacks import Progress
from vitreous.model.prediction import Prediction

RECENT_SECONDS = 2.0
MAX_RECENT = 240
TOP_CLASSES = 3


@dataclass(frozen=True)
class LiveState(Progress):
    """A live view at this moment: `done` counts the images shown, `message` says what the map shows.

    Attributes:
        scores: the most probable classes and their probabilities; empty for a model without classes.
        latency_ms: milliseconds from the camera's frame to its image being sent, or drawn where there is no viewer:
            the median of the last two seconds; None if there was no image in them.
        fps: images per second over the last two seconds.
        received: frames that came from the source.
        viewers: browsers that show the stream.
    """

    scores: tuple[tuple[str, float], ...] = ()
    latency_ms: float | None = None
    fps: float = 0.0
    received: int = 0
    viewers: int = 0

    @property
    def dropped(self) -> int:
        """Frames that were not shown because a newer one was there when the model was free."""
        return self.received - self.done


@dataclass(frozen=True)
class LiveSummary:
    """A live view that has ended.

    Attributes:
        received: frames that came from the source.
        rendered: frames that became an image.
        latency_ms: the median latency in milliseconds; None without an image.
        fps: images per second.
        error: where the video could not be read further; None if it could.
        is_interrupted: whether Ctrl-C ended the view.
    """

    received: int
    rendered: int
    latency_ms: float | None
    fps: float
    error: str | None = None
    is_interrupted: bool = False

    @property
    def dropped(self) -> int:
        """Frames that were not shown because a newer one was there when the model was free."""
        return self.received - self.rendered

    def __str__(self) -> str:
        latency = "" if self.latency_ms is None else f", median latency {self.latency_ms:.0f} ms"
        return (
            f"{self.received} frames received, {self.rendered} shown, {self.dropped} dropped{latency}, "
            f"{self.fps:.1f} images/s"
        )


class RateMeter:
    """Counts and times images from several threads; its memory does not grow with their number."""

    def __init__(self) -> None:
        self.rendered = 0
        self._lock = Lock()
        self._first_seconds: float | None = None
        self._last_seconds = 0.0
        self._image_times: deque[float] = deque(maxlen=MAX_RECENT)
        self._latencies: deque[tuple[float, float]] = deque(maxlen=MAX_RECENT)
        self._milliseconds: Counter[int] = Counter()
        self._timed = 0
        self._scores: tuple[tuple[str, float], ...] = ()
        self._caption = ""

    def count_image(self, prediction: Prediction, caption: str) -> None:
        """Count an image that is drawn, and remember the model's prediction."""
        with self._lock:
            now = time.monotonic()
            self.rendered += 1
            self._first_seconds = self._first_seconds or now
            self._last_seconds = now
            self._image_times.append(now)
            self._scores, self._caption = prediction.probabilities[:TOP_CLASSES], caption

    def record_latency(self, number: int, captured_seconds: float) -> None:
        """Record that image `number`, whose frame was taken then, is sent now; only the first time counts."""
        with self._lock:
            if number > self._timed:
                self._timed, now = number, time.monotonic()
                self._latencies.append((now, now - captured_seconds))
                self._milliseconds[round(1000 * (now - captured_seconds))] += 1

    def state(self, received: int, viewers: int) -> LiveState:
        """Return the numbers of the last two seconds."""
        with self._lock:
            since = time.monotonic() - RECENT_SECONDS
            times = [moment for moment in self._image_times if moment >= since]
            recent = [seconds for moment, seconds in self._latencies if moment >= since]
            latency = round(1000 * median(recent), 1) if recent else None
            fps = images_per_second(len(times), times[-1] - times[0]) if times else 0.0
            return LiveState(self.rendered, None, self._caption, self._scores, latency, fps, received, viewers)

    def summary(self, received: int, error: str | None, *, is_interrupted: bool) -> LiveSummary:
        """Return the numbers of the whole time."""
        with self._lock:
            span = self._last_seconds - (self._first_seconds or self._last_seconds)
            fps, latency = images_per_second(self.rendered, span), lower_median(self._milliseconds)
            return LiveSummary(received, self.rendered, latency, fps, error, is_interrupted)


def images_per_second(count: int, span_seconds: float) -> float:
    """Return the rate of `count` images of which the last came `span_seconds` after the first."""
    return round((count - 1) / span_seconds, 2) if count > 1 and span_seconds > 0 else 0.0


def lower_median(counts: Counter[int]) -> float | None:
    """Return the (lower) median of counted values; None if there are none.

    >>> lower_median(Counter({40: 3, 50: 1, 90: 1}))
    40.0
    """
    before, half = 0, (counts.total() + 1) // 2
    for value in sorted(counts):
        before += counts[value]
        if before >= half:
            return float(value)
    return None
