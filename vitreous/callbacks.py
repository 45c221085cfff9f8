"""The one callback protocol of every long-running use case: progress, notes and a request to stop."""

import logging
import sys
import time
from dataclasses import dataclass

LOG_SECONDS = 10.0
"""Seconds between two lines of progress in the log."""


@dataclass(frozen=True)
class Progress:
    """How much of a task is done.

    Attributes:
        total: None where the total is unknown, such as on a live stream.
        message: What runs now, such as the name of a method.
    """

    done: int
    total: int | None
    message: str = ""

    def __str__(self) -> str:
        count = f"{self.done:,}" if self.total is None else f"{self.done:,} of {self.total:,}"
        return f"{count} {self.message}".rstrip()

    @property
    def is_complete(self) -> bool:
        """Whether all is done."""
        return self.total is not None and self.done >= self.total


class Callback:
    """Receives the events of a use case such as `train` or `explain_video`; every method does nothing by default.

    Override the methods that you need and pass an instance as `callback`.

    >>> class Printer(Callback):
    ...     def on_note(self, text: str) -> None:
    ...         print(text)
    >>> Printer().on_note("reading cifar10")
    reading cifar10
    """

    def on_progress(self, progress: Progress) -> None:
        """Report progress; called from the thread that does the work."""

    def on_note(self, text: str) -> None:
        """Report one line that the user should read, such as an assumption about a checkpoint."""

    def should_stop(self) -> bool:
        """Return True to stop at the next safe point; what is done so far is kept."""
        return False


class ForwardingCallback(Callback):
    """Passes all events on to another callback; a subclass changes some of them.

    >>> class Named(ForwardingCallback):
    ...     def on_note(self, text: str) -> None:
    ...         super().on_note(f"dog.mp4: {text}")
    """

    def __init__(self, callback: Callback) -> None:
        self.callback = callback

    def on_progress(self, progress: Progress) -> None:
        """Pass the progress on."""
        self.callback.on_progress(progress)

    def on_note(self, text: str) -> None:
        """Pass the note on."""
        self.callback.on_note(text)

    def should_stop(self) -> bool:
        """Ask the other callback."""
        return self.callback.should_stop()


class WithoutProgress(ForwardingCallback):
    """Leaves out the progress of a part of the work, of which the whole reports its own."""

    def on_progress(self, progress: Progress) -> None:
        """Leave it out."""


class LogCallback(Callback):
    """Writes notes and, at most every ten seconds, a line of progress to the logger "vitreous".

    Notes have the level WARNING and progress INFO. Where logging is not configured, both go to standard error.
    """

    def __init__(self) -> None:
        self._next = 0.0

    def on_progress(self, progress: Progress) -> None:
        """Log the first progress, the last one, and one every ten seconds in between."""
        now = time.monotonic()
        if now >= self._next or progress.is_complete:
            self._next = now + LOG_SECONDS
            _log(logging.INFO, str(progress))

    def on_note(self, text: str) -> None:
        """Log the line."""
        _log(logging.WARNING, text)


def _log(level: int, text: str) -> None:
    logger = logging.getLogger("vitreous")
    if logger.hasHandlers():
        logger.log(level, text)
    else:
        print(text, file=sys.stderr)  # noqa: T201


def format_clock(seconds: float) -> str:
    """Format a duration: "3:05" or "1:02:03".

    >>> format_clock(185)
    '3:05'
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
