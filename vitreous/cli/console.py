"""What the command line shows while it works: a live display on a terminal, quiet lines elsewhere."""

import signal
import sys
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from types import FrameType

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from vitreous.callbacks import Callback
from vitreous.callbacks import Progress as TaskProgress

QUIET_SECONDS = 10.0
"""Where there is no terminal, one line in so many seconds is enough."""


def print_note(text: str) -> None:
    """Say something beside the results, on standard error."""
    Console(stderr=True, highlight=False, soft_wrap=True).print(text, style="dim", markup=False)


def print_line(text: str = "") -> None:
    """Print a result on standard output."""
    print(text)  # noqa: T201


@contextmanager
def progress(unit: str) -> Generator[Callable[[float, float | None, str], None]]:
    """A display to be told (done, in all or None, further words): a bar on a terminal, else now and then a line."""
    if sys.stderr.isatty():
        with _bar() as bar:
            task = bar.add_task(unit, words="", total=None)
            yield lambda done, total, words: bar.update(task, completed=done, total=total, words=words)
    else:
        yield _lines(unit)


class ConsoleCallback(Callback):
    """Shows the progress of a task and the time left on a display of `progress`, and prints notes."""

    def __init__(self, update: Callable[[float, float | None, str], None]) -> None:
        self._update, self._started = update, time.monotonic()

    def on_progress(self, progress: TaskProgress) -> None:
        """Show the progress; the time left assumes that the rest is as fast."""
        left = ""
        if progress.done and progress.total:
            seconds = (time.monotonic() - self._started) / progress.done * max(0, progress.total - progress.done)
            left = f" · {format_clock(seconds)} left"
        self._update(progress.done, progress.total, f"{progress.message}{left}")

    def on_note(self, text: str) -> None:
        """Print the note."""
        print_note(text)


def _bar() -> Progress:
    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f} %"),
        TextColumn("{task.fields[words]}"), console=console, refresh_per_second=5,
    )  # fmt: skip


def _lines(unit: str) -> Callable[[float, float | None, str], None]:
    last = [time.monotonic()]

    def update(done: float, total: float | None, words: str) -> None:
        finished = total is not None and done >= total
        if finished or time.monotonic() - last[0] >= QUIET_SECONDS:
            last[0] = time.monotonic()
            share = f" {done / total:4.0%}" if total else ""
            print_note(f"{unit}{share}  {words}")

    return update


def format_clock(seconds: float) -> str:
    """A time as people read it: "3:05" or "1:02:03"."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


@contextmanager
def stop_on_interrupt() -> Generator[Callable[[], bool]]:
    """Yield a function that tells whether Ctrl-C was pressed since it was first called.

    From that first call on, Ctrl-C is a request to stop in good order, and a second one the usual interruption.
    """
    requested, previous = threading.Event(), []

    def handle(number: int, frame: FrameType | None) -> None:
        if requested.is_set():
            raise KeyboardInterrupt
        requested.set()
        print_note("stopping after this step; press Ctrl-C again to give up the work since the last checkpoint")

    def is_requested() -> bool:
        if not previous:
            previous.append(signal.signal(signal.SIGINT, handle))
        return requested.is_set()

    try:
        yield is_requested
    finally:
        if previous:
            signal.signal(signal.SIGINT, previous[0])
