"""How fast a live view is: what is counted while it runs, and what is said of it."""

import time
from collections import Counter, deque
from dataclasses import dataclass
from statistics import median
from threading import Lock

from vitreous.model.classifier import Prediction

RECENT_SECONDS = 2.0
MOST_RECENT = 240
TOLD_CLASSES = 3


@dataclass(frozen=True)
class LiveState:
    """A live view at this moment.

    Attributes:
        ranking: the most probable classes and their probabilities; empty for a model without classes.
        words: which method, layer and head the map shows.
        latency_ms: milliseconds from a camera's frame to its image being sent, or ready where nobody watches:
            the median of the last two seconds; None if there was no image in them.
        fps: images a second over the last two seconds.
        seen: frames that came from the source.
        shown: frames that became an image.
        viewers: how many are watching.
    """

    ranking: tuple[tuple[str, float], ...]
    words: str
    latency_ms: float | None
    fps: float
    seen: int
    shown: int
    viewers: int

    @property
    def dropped(self) -> int:
        """Frames that were not shown, because a newer one was there when the model was free."""
        return self.seen - self.shown


@dataclass(frozen=True)
class LiveSummary:
    """A live view that has ended: frames, median latency in milliseconds, images a second, and what ended it.

    `broke_off` says where the clip could not be read further; `interrupted` is whether Ctrl-C ended it.
    """

    seen: int
    shown: int
    latency_ms: float | None
    fps: float
    broke_off: str | None = None
    interrupted: bool = False

    @property
    def dropped(self) -> int:
        """Frames that were not shown, because a newer one was there when the model was free."""
        return self.seen - self.shown


class Meter:
    """Counts images and times them, from several threads; its memory doesn't grow with them."""

    def __init__(self) -> None:
        self.shown = 0
        self._lock = Lock()
        self._first_seconds: float | None = None
        self._last_seconds = 0.0
        self._done: deque[float] = deque(maxlen=MOST_RECENT)
        self._latencies: deque[tuple[float, float]] = deque(maxlen=MOST_RECENT)
        self._milliseconds: Counter[int] = Counter()
        self._timed = 0
        self._ranking: tuple[tuple[str, float], ...] = ()
        self._words = ""

    def image(self, prediction: Prediction, words: str) -> None:
        """Count an image that is ready, and remember what the model said."""
        with self._lock:
            now = time.monotonic()
            self.shown += 1
            self._first_seconds = self._first_seconds or now
            self._last_seconds = now
            self._done.append(now)
            self._ranking, self._words = prediction.scores[:TOLD_CLASSES], words

    def latency(self, number: int, taken_seconds: float) -> None:
        """Time image `number`, whose frame was taken then, as sent now; only the first time counts."""
        with self._lock:
            if number > self._timed:
                self._timed, now = number, time.monotonic()
                self._latencies.append((now, now - taken_seconds))
                self._milliseconds[round(1000 * (now - taken_seconds))] += 1

    def state(self, seen: int, viewers: int) -> LiveState:
        """The numbers of the last two seconds."""
        with self._lock:
            since = time.monotonic() - RECENT_SECONDS
            done = [moment for moment in self._done if moment >= since]
            recent = [seconds for moment, seconds in self._latencies if moment >= since]
            latency = round(1000 * median(recent), 1) if recent else None
            rate = rate_of(len(done), done[-1] - done[0]) if done else 0.0
            return LiveState(self._ranking, self._words, latency, rate, seen, self.shown, viewers)

    def summary(self, seen: int, broke_off: str | None, *, interrupted: bool) -> LiveSummary:
        """The numbers of the whole time."""
        with self._lock:
            span = self._last_seconds - (self._first_seconds or self._last_seconds)
            return LiveSummary(
                seen, self.shown, middle(self._milliseconds), rate_of(self.shown, span), broke_off, interrupted
            )


def rate_of(count: int, span_seconds: float) -> float:
    """Images a second, if `count` of them were ready within this span from the first to the last."""
    return round((count - 1) / span_seconds, 2) if count > 1 and span_seconds > 0 else 0.0


def middle(counts: Counter[int]) -> float | None:
    """The (lower) median of values that were counted; None if there are none.

    >>> middle(Counter({40: 3, 50: 1, 90: 1}))
    40.0
    """
    before, half = 0, (counts.total() + 1) // 2
    for value in sorted(counts):
        before += counts[value]
        if before >= half:
            return float(value)
    return None
