"""Ctrl-C as a wish to end properly, once; the second time it is meant as usual."""

import signal
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager


@contextmanager
def first_interrupt(finish: Callable[[], None]) -> Generator[None]:
    """While the block runs, the first Ctrl-C calls `finish`, and only the second raises KeyboardInterrupt.

    Where Ctrl-C doesn't raise KeyboardInterrupt anyway (another handler, another thread than the main one), nothing
    changes.
    """
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return

    def handle(*_: object) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        finish()

    signal.signal(signal.SIGINT, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
