"""Signal handling: Ctrl-C and SIGTERM as a request to stop, and termination signals as Ctrl-C."""

import signal
import threading
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager


@contextmanager
def on_first_interrupt(action: Callable[[], None], *, replace_any_handler: bool = False) -> Generator[None]:
    """Call `action` at the first Ctrl-C while the block runs; only the second one raises KeyboardInterrupt.

    Outside the main thread nothing changes, because Python handles signals only there.

    Args:
        action: called in the main thread between two bytecodes, so it must be short.
        replace_any_handler: also replace a handler that is not Python's own, such as an ignored signal. By default
            such a handler stays.
    """
    is_main = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGINT)
    if not is_main or not (replace_any_handler or before is signal.default_int_handler):
        yield
        return

    def handle(*_: object) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        action()

    signal.signal(signal.SIGINT, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def interrupt_as_request(announce: Callable[[], None], *, on_termination: bool = True) -> Generator[Callable[[], bool]]:
    """Yield a function that returns whether Ctrl-C was pressed, or SIGTERM sent, since it was first called.

    From that first call on, the first Ctrl-C or SIGTERM calls `announce` and counts as a request; the second Ctrl-C
    interrupts, and the second SIGTERM ends the process. Schedulers send SIGTERM some time before they kill.

    Args:
        announce: called in the main thread between two bytecodes, so it must be short.
        on_termination: whether SIGTERM counts. A process that waits for another one, which may have died, runs no
            bytecode and so would outlive the signal.
    """
    requested = threading.Event()
    with ExitStack() as stack:
        installed: list[bool] = []

        def act() -> None:
            requested.set()
            announce()

        def is_requested() -> bool:
            if not installed:
                installed.append(True)
                stack.enter_context(on_first_interrupt(act, replace_any_handler=True))
                if on_termination:
                    stack.enter_context(_on_first_termination(act))
            return requested.is_set()

        yield is_requested


@contextmanager
def _on_first_termination(action: Callable[[], None]) -> Generator[None]:
    """Call `action` at the first SIGTERM while the block runs; the second one is handled as before the block."""
    is_main = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGTERM)
    if not is_main or before is signal.SIG_IGN:
        yield
        return

    def handle(*_: object) -> None:
        signal.signal(signal.SIGTERM, before)
        action()

    signal.signal(signal.SIGTERM, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def interrupt_on_termination() -> Generator[None]:
    """Raise KeyboardInterrupt at SIGTERM and SIGHUP while the block runs, so that it can clean up.

    Schedulers, torchrun and closing terminals send these signals. They interrupt at once, because there may be no time
    to complete a file. Ignored signals (nohup) stay ignored.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {number: signal.getsignal(number) for number in numbers}
    before = {number: handler for number, handler in before.items() if handler is not signal.SIG_IGN}
    for number in before:
        signal.signal(number, signal.default_int_handler)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
