"""Output of the command line: results, notes, and the progress as a bar on a terminal or as lines elsewhere."""

import sys
import time
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from vitreous.callbacks import Callback
from vitreous.callbacks import Progress as TaskProgress

QUIET_SECONDS = 10.0
"""Seconds between two lines of progress where there is no terminal."""


def print_note(text: str) -> None:
    """Print a note to standard error, apart from the results."""
    Console(stderr=True, highlight=False, soft_wrap=True).print(text, style="dim", markup=False)


def print_line(text: str = "") -> None:
    """Print a line of results to standard output."""
    print(text)  # noqa: T201


@contextmanager
def progress(unit: str) -> Generator[Callable[[float, float | None, str], None]]:
    """Yield a function that shows (done, total or None, message): a bar on a terminal, else a line now and then."""
    if sys.stderr.isatty():
        with _bar() as bar:
            task = bar.add_task(unit, message="", total=None)
            yield lambda done, total, message: bar.update(task, completed=done, total=total, message=message)
    else:
        yield _lines(unit)


class ConsoleCallback(Callback):
    """Prints notes, and shows the progress of a task and the time left on a display of `progress`, if given."""

    def __init__(self, update: Callable[[float, float | None, str], None] | None = None) -> None:
        self._update, self._started = update, time.monotonic()

    def on_progress(self, progress: TaskProgress) -> None:
        """Show the progress; the time left assumes that the rest is as fast."""
        if self._update is None:
            return
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
        TextColumn("{task.fields[message]}"), console=console, refresh_per_second=5,
    )  # fmt: skip


def _lines(unit: str) -> Callable[[float, float | None, str], None]:
    last = [time.monotonic()]

    def update(done: float, total: float | None, message: str) -> None:
        finished = total is not None and done >= total
        if finished or time.monotonic() - last[0] >= QUIET_SECONDS:
            last[0] = time.monotonic()
            percent = f" {done / total:4.0%}" if total else ""
            print_note(f"{unit}{percent}  {message}")

    return update


def format_clock(seconds: float) -> str:
    """Format a duration: "3:05" or "1:02:03".

    >>> format_clock(185)
    '3:05'
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def stop_on_interrupt() -> AbstractContextManager[Callable[[], bool]]:
    """Make the first Ctrl-C a request to stop after the current step, from the first question about it on."""
    from vitreous.signals import interrupt_as_request  # most verbs need none of it

    advice = "stopping after this step; press Ctrl-C again to give up the work since the last checkpoint"
    return interrupt_as_request(lambda: print_note(advice))
