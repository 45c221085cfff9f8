"""What the command line shows while it works: a live display on a terminal, quiet lines elsewhere."""

import signal
import sys
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

QUIET_SECONDS = 10.0
"""Where there is no terminal, one line in so many seconds is enough."""


def note(text: str) -> None:
    """Say something beside the results, on standard error."""
    Console(stderr=True, highlight=False, soft_wrap=True).print(text, style="dim", markup=False)


def say(text: str = "") -> None:
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
            note(f"{unit}{share}  {words}")

    return update


def clock(seconds: float) -> str:
    """A time as people read it: "3:05" or "1:02:03"."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


@contextmanager
def stop_on_interrupt() -> Generator[Callable[[], bool]]:
    """Turn the first Ctrl-C into a request to stop in good order, and a second one into the usual interruption."""
    asked = threading.Event()

    def handle(number: int, frame: Any) -> None:
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()
        note("stopping after this step; press Ctrl-C again to give up the work since the last checkpoint")

    before = signal.signal(signal.SIGINT, handle)
    try:
        yield asked.is_set
    finally:
        signal.signal(signal.SIGINT, before)
