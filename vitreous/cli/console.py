"""Output of the command line: results, notes, and the progress as a bar on a terminal or as lines elsewhere."""

import sys
import time
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from vitreous.callbacks import Callback, format_clock
from vitreous.callbacks import Progress as TaskProgress

MIN_TABLE_WIDTH = 110
"""Columns of a table where there is no terminal."""
QUIET_SECONDS = 10.0
"""Seconds between two lines of progress where there is no terminal."""


def print_note(text: str) -> None:
    """Print a note to standard error, apart from the results."""
    Console(stderr=True, highlight=False, soft_wrap=True).print(text, style="dim", markup=False)


def print_line(text: str = "") -> None:
    """Print a line of results to standard output."""
    print(text)  # noqa: T201


Update = Callable[[float, float | None, str], None]
"""Shows how much is done, out of how much if that is known, and a message."""


class ConsoleCallback(Callback):
    """Prints notes, and shows the progress of a task on a bar or in lines, if it has an `update`."""

    def __init__(self, update: Update | None = None) -> None:
        self._update, self._started = update, time.monotonic()

    def on_progress(self, progress: TaskProgress) -> None:
        """Show the progress."""
        if self._update is not None:
            self._update(progress.done, progress.total, self.describe(progress))

    def on_note(self, text: str) -> None:
        """Print the note."""
        print_note(text)

    def describe(self, progress: TaskProgress) -> str:
        """Return the message and the time left, which assumes that the rest is as fast."""
        if not (progress.done and progress.total):
            return progress.message
        seconds = (time.monotonic() - self._started) / progress.done * max(0, progress.total - progress.done)
        return f"{progress.message} · {format_clock(seconds)} left"


Display = TypeVar("Display")


def progress(unit: str) -> AbstractContextManager[ConsoleCallback]:
    """Yield a callback that shows the progress: a bar on a terminal, else a line now and then."""
    return progress_on(unit, ConsoleCallback)


@contextmanager
def progress_on(unit: str, display: Callable[[Update], Display]) -> Generator[Display]:
    """Yield what `display` makes of a function that shows the progress as `progress` does."""
    if sys.stderr.isatty():
        with _bar() as bar:
            task = bar.add_task(unit, message="", total=None)
            yield display(lambda done, total, message: bar.update(task, completed=done, total=total, message=message))
    else:
        yield display(_lines(unit))


def _bar() -> Progress:
    return Progress(
        TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f} %"),
        TextColumn("{task.fields[message]}"), console=Console(stderr=True), refresh_per_second=5,
        redirect_stdout=sys.stdout.isatty(),  # results go to a file or pipe even if the bar is on a terminal
    )  # fmt: skip


def _lines(unit: str) -> Update:
    last = [time.monotonic()]

    def update(done: float, total: float | None, message: str) -> None:
        finished = total is not None and done >= total
        if finished or time.monotonic() - last[0] >= QUIET_SECONDS:
            last[0] = time.monotonic()
            percent = f" {done / total:4.0%}" if total else ""
            print_note(f"{unit}{percent}  {message}")

    return update


def stop_on_interrupt() -> AbstractContextManager[Callable[[], bool]]:
    """Make the first Ctrl-C a request to stop after the current step, from the first question about it on.

    So does the first SIGTERM, but not in one of several processes: torchrun ends with it those whose peer has died.
    """
    from vitreous.runtime import world_size  # most verbs need none of it
    from vitreous.signals import interrupt_as_request

    advice = "stopping after this step; press Ctrl-C again to give up the work since the last checkpoint"
    return interrupt_as_request(lambda: print_note(advice), on_termination=world_size() == 1)
