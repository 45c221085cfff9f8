"""A bounded queue between two threads in which neither side can wait for the other forever."""

from collections import deque
from collections.abc import Iterator
from threading import Condition
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Cancelled(Exception):  # noqa: N818 - it is not an error
    """The receiver of a channel wants no more items."""


class Channel(Generic[Item]):
    """Passes items from one thread to another, with at most `capacity` of them waiting; either side can end it.

    After `finish` the receiver gets the remaining items, and then the end. After `abort(error)` both sides raise that
    error at their next step, at once if they are waiting. After `cancel` the receiver gets no more items, and the
    sender raises Cancelled.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.items: deque[Item] = deque()
        self.changed = Condition()
        self.is_finished = False
        self.is_cancelled = False
        self.error: BaseException | None = None

    def put(self, item: Item) -> None:
        """Send one item; wait while the channel is full."""
        with self.changed:
            self.changed.wait_for(lambda: self.error or self.is_cancelled or len(self.items) < self.capacity)
            self.raise_if_aborted()
            if self.is_cancelled:
                raise Cancelled
            assert not self.is_finished
            self.items.append(item)
            self.changed.notify_all()

    def __iter__(self) -> Iterator[Item]:
        """Receive items until the other side finishes."""
        while True:
            with self.changed:
                self.changed.wait_for(lambda: self.error or self.items or self.is_finished)
                self.raise_if_aborted()
                if not self.items:
                    return
                item = self.items.popleft()
                self.changed.notify_all()
            yield item

    def finish(self) -> None:
        """Announce that no more items will come."""
        with self.changed:
            self.is_finished = True
            self.changed.notify_all()

    def cancel(self) -> None:
        """Announce that no more items are wanted; safe in a signal handler, because the lock is reentrant."""
        with self.changed:
            self.is_cancelled = self.is_finished = True
            self.items.clear()
            self.changed.notify_all()

    def abort(self, error: BaseException) -> None:
        """End the channel for both sides with `error`; the first error is kept."""
        with self.changed:
            self.error = self.error or error
            self.items.clear()
            self.changed.notify_all()

    def raise_if_aborted(self) -> None:
        if self.error is not None:
            raise self.error
