"""Threads that decode for many clients: whoever asks for long work keeps nobody else out."""

import asyncio
from collections.abc import Callable
from functools import partial
from threading import Event
from typing import TypeVar
from weakref import WeakValueDictionary

from anyio import CancelScope, CapacityLimiter, to_thread
from starlette.requests import ClientDisconnect, Request

Result = TypeVar("Result")


class FairThreads:
    """Does one piece of work at a time for each client; the others of this client wait in its own line.

    It is used on the event loop's thread only.

    Args:
        count: threads; the lines have them in turn.
    """

    def __init__(self, count: int) -> None:
        self._limiter = CapacityLimiter(count)
        self._lines: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def run(self, request: Request, client: str, work: Callable[[Callable[[], bool]], Result]) -> Result:
        """Do work on a thread when it is the client's turn, unless the client leaves before.

        Args:
            request: what the work is for; its body has been read.
            client: as `name_client` names it.
            work: gets a function that says whether the client has left.

        Raises:
            ClientDisconnect: it has, so the work was not begun.
        """
        has_left = Event()
        line = self._lines.setdefault(client, asyncio.Lock())
        with CancelScope() as waiting:
            watching = asyncio.create_task(_watch(request, has_left, waiting))
            try:
                async with line:
                    return await to_thread.run_sync(partial(work, has_left.is_set), limiter=self._limiter)
            finally:
                watching.cancel()
        raise ClientDisconnect


async def _watch(request: Request, has_left: Event, waiting: CancelScope) -> None:
    """Note that the client has left, and end its waiting; work that runs goes on unless it looks."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
    has_left.set()
    waiting.cancel()
