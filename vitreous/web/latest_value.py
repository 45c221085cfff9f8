"""The newest of what one thread makes, for any number of others: what nobody took in time is gone."""

from threading import Condition
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Latest(Generic[Item]):
    """Holds one item, the newest; items are numbered from 1. Putting never waits, taking takes nothing from others."""

    def __init__(self) -> None:
        self.count = 0
        self.is_finished = False
        self._item: Item | None = None
        self._error: BaseException | None = None
        self._changed = Condition()

    @property
    def newest(self) -> Item | None:
        """The newest item; None before the first."""
        return self._item

    def put(self, item: Item) -> None:
        """Replace the item by a newer one."""
        with self._changed:
            self.count, self._item = self.count + 1, item
            self._changed.notify_all()

    def after(self, number: int, timeout_seconds: float) -> tuple[int, Item] | None:
        """The newest item with its number, as soon as there is one beyond `number`; None if none came in time.

        Raises:
            the error that was given to `finish`, once there is no newer item.
        """
        with self._changed:
            self._changed.wait_for(lambda: self.count > number or self.is_finished, timeout_seconds)
            if self.count > number:
                assert self._item is not None
                return self.count, self._item
            if self._error is not None:
                raise self._error
            return None

    def has_ended(self, number: int) -> bool:
        """Whether nothing follows the item of this number, and there is no error to tell."""
        with self._changed:
            return self.is_finished and self.count <= number and self._error is None

    def finish(self, error: BaseException | None = None) -> None:
        """Say that no newer item comes, and why; the first reason stays."""
        with self._changed:
            if not self.is_finished:
                self.is_finished, self._error = True, error
            self._changed.notify_all()
