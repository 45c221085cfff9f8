"""A slot for the newest value that one thread produces, which any number of threads and tasks can wait for."""

import asyncio
from contextlib import suppress
from threading import Condition
from typing import Generic, TypeVar

Value = TypeVar("Value")


class LatestValue(Generic[Value]):
    """Holds one value, the newest; values are numbered from 1.

    Putting a value never waits. A value that nobody took in time is replaced. Taking a value leaves it for others.
    """

    def __init__(self) -> None:
        self.count = 0
        self.is_finished = False
        self._value: Value | None = None
        self._error: BaseException | None = None
        self._changed = Condition()
        self._waiting: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    @property
    def newest(self) -> Value | None:
        """The newest value; None before the first."""
        return self._value

    def put(self, value: Value) -> None:
        """Replace the value by a newer one."""
        with self._changed:
            self.count, self._value = self.count + 1, value
            self._notify()

    def wait(self, number: int, timeout_seconds: float) -> tuple[int, Value] | None:
        """Wait for a value beyond `number` and return it with its number, or None if none came in time.

        Raises:
            the error that was given to `finish`, once there is no newer value.
        """
        with self._changed:
            self._changed.wait_for(lambda: self.count > number or self.is_finished, timeout_seconds)
            return self._after(number)

    async def next(self, number: int, timeout_seconds: float) -> tuple[int, Value] | None:
        """Do the same as `wait` in a task, without blocking its event loop."""
        event = asyncio.Event()
        entry = asyncio.get_running_loop(), event
        with self._changed:
            if self.count > number or self.is_finished:
                return self._after(number)
            self._waiting.append(entry)
        try:
            with suppress(TimeoutError):
                await asyncio.wait_for(event.wait(), timeout_seconds)
        finally:
            with self._changed:
                if entry in self._waiting:
                    self._waiting.remove(entry)
        with self._changed:
            return self._after(number)

    def has_ended(self, number: int) -> bool:
        """Return whether no value follows the one with this number, and there is no error to raise."""
        with self._changed:
            return self.is_finished and self.count <= number and self._error is None

    def finish(self, error: BaseException | None = None) -> None:
        """Announce that no newer value comes, and why; the first reason stays."""
        with self._changed:
            if not self.is_finished:
                self.is_finished, self._error = True, error
            self._notify()

    def _after(self, number: int) -> tuple[int, Value] | None:
        """Return the newest value if its number is beyond `number`; the lock is held."""
        if self.count > number:
            assert self._value is not None
            return self.count, self._value
        if self._error is not None:
            raise self._error
        return None

    def _notify(self) -> None:
        """Wake all who wait; the lock is held."""
        self._changed.notify_all()
        for loop, event in self._waiting:
            with suppress(RuntimeError):  # The loop has been closed meanwhile.
                loop.call_soon_threadsafe(event.set)
        self._waiting.clear()
