"""Uploads of all clients together: the memory that they take until they have been decoded."""

import math
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from anyio import CancelScope
from starlette.exceptions import HTTPException
from starlette.requests import Request

from vitreous.web.requests import read_body

PATIENCE_SECONDS = 1.0
"""The time after which an upload may be a slow one."""


@dataclass(eq=False)
class Upload:
    """The body of a request that arrives, or has arrived.

    Attributes:
        client: who sends it.
        size: bytes that are here.
        is_arriving: whether more may come.
        scope: ends its arrival.
    """

    client: str
    size: int = 0
    is_arriving: bool = True
    scope: CancelScope = field(default_factory=CancelScope)
    began_seconds: float = field(default_factory=time.monotonic)

    @property
    def bytes_per_second(self) -> float:
        """How fast it has come so far; none counts as slow at first."""
        seconds = time.monotonic() - self.began_seconds
        return self.size / seconds if seconds > PATIENCE_SECONDS else math.inf


class UploadMemory:
    """Bounds the bytes of all uploads, of which one client has at most half.

    Where they don't fit, the slowest makes room, or the oldest if none is slow. So many clients that send a little now
    and then keep nobody out. It is used on the event loop's thread only.

    Args:
        max_bytes: of all of them.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._uploads: list[Upload] = []

    @property
    def used_bytes(self) -> int:
        """The bytes that are here."""
        return sum(one.size for one in self._uploads)

    @asynccontextmanager
    async def receive(self, request: Request, client: str, max_bytes: int) -> AsyncGenerator[bytes]:
        """Read the body of a request; its memory counts until the context ends, however it does.

        Raises:
            HTTPException: it is too large, comes too slowly, or has to make room for others.
        """
        upload = Upload(client)
        self._uploads.append(upload)
        try:
            with upload.scope:
                data = await read_body(request, max_bytes, lambda size: self._add(upload, size))
                upload.is_arriving = False
            if upload.scope.cancelled_caught:
                raise no_room()
            yield data
        finally:
            self._uploads.remove(upload)

    def _add(self, upload: Upload, size: int) -> None:
        """Count bytes that have come; where they don't fit, refuse the slowest uploads.

        Raises:
            HTTPException: this one is the slowest, or has been refused.
        """
        if not upload.is_arriving:
            raise no_room()
        upload.size += size
        own = [one for one in self._uploads if one.client == upload.client]
        for uploads, limit in ((own, self.max_bytes // 2), (self._uploads, self.max_bytes)):
            while sum(one.size for one in uploads) > limit:
                arriving = (one for one in uploads if one.is_arriving and one.size)
                slowest = min(arriving, key=lambda one: one.bytes_per_second)
                slowest.size, slowest.is_arriving = 0, False
                if slowest is upload:
                    raise no_room()
                slowest.scope.cancel()


def no_room() -> HTTPException:
    """Return the error for an upload that has to make room."""
    return HTTPException(503, "too much is being uploaded at once: try again in a few seconds", {"Retry-After": "5"})
