"""What the routes of the web app read from a request: its body, numbers, and the session of its browser."""

import asyncio
import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import fields
from typing import TypeVar

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from vitreous.errors import unknown
from vitreous.records import from_dict
from vitreous.web.sessions import SessionTable, WebSession

Record = TypeVar("Record")

BODY_SECONDS = 60.0
"""Time for the body of a request to arrive."""
JSON_BYTES = 64 << 10
"""Size of a body that is JSON."""


async def read_body(request: Request, max_bytes: int, on_part: Callable[[int], object] = lambda size: None) -> bytes:
    """Read the body of a request, and not one byte more than is allowed.

    Args:
        request: whose body hasn't been read.
        max_bytes: that are allowed.
        on_part: called with the number of bytes that have come; it may raise to refuse the rest.

    Raises:
        HTTPException: it is too large, or comes too slowly.
    """
    too_large = HTTPException(413, f"the limit is {max_bytes >> 10:,} KB: make it smaller first")
    announced = request.headers.get("content-length", "0")
    if announced.isdecimal() and int(announced) > max_bytes:
        raise too_large
    parts, received = [], 0
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for part in request.stream():
                received += len(part)
                if received > max_bytes:
                    raise too_large
                on_part(len(part))
                parts.append(part)
    except TimeoutError:
        raise HTTPException(408, f"the body did not arrive within {BODY_SECONDS:g} seconds") from None
    return b"".join(parts)


async def read_json(request: Request) -> dict[str, object]:
    """Read the body of a request as a JSON object.

    Raises:
        HTTPException: it is something else, or too large.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        raise HTTPException(415, "send the request as application/json")
    try:
        values = json.loads(await read_body(request, JSON_BYTES))
    except (ValueError, RecursionError):
        raise HTTPException(400, "the body is not JSON") from None
    if not isinstance(values, dict):
        raise HTTPException(400, "the body must be a JSON object")
    return values


def read_record(kind: type[Record], values: dict[str, object]) -> Record:
    """Build a record, such as `MapRequest`, of the fields of a request.

    Raises:
        InputError: there is no field of this name, or a value doesn't fit.
    """
    known = [one.name for one in fields(kind)]  # ty: ignore[invalid-argument-type]
    if wrong := next((name for name in values if name not in known), None):
        raise unknown("field", wrong, known)
    return from_dict(kind, values, "request")


def read_number(request: Request, name: str) -> int:
    """Read a whole number of the query; 0 if it isn't there.

    Raises:
        HTTPException: it is something else.
    """
    text = request.query_params.get(name, "0")
    with suppress(ValueError):
        if text.isascii() and text.isdecimal() and len(text) < 10:
            return int(text)
    raise HTTPException(400, f"{name} must be a whole number")


def find_session(sessions: SessionTable, request: Request) -> WebSession:
    """Return the client's session.

    Raises:
        HTTPException: it has none.
    """
    session = sessions.find(request.cookies.get(cookie_name(request), ""))
    if session is None:
        raise HTTPException(404, "this session has ended: open the image again")
    return session


def open_session(sessions: SessionTable, request: Request) -> WebSession:
    """Return the client's session; a new one if it has none."""
    return sessions.find(request.cookies.get(cookie_name(request), "")) or sessions.open()


def name_client(sessions: SessionTable, request: Request) -> str:
    """Return what tells clients apart: the session; the address of one that has none."""
    session = sessions.find(request.cookies.get(cookie_name(request), ""))
    return f"address {request.client.host if request.client else ''}" if session is None else session.id


def cookie_name(request: Request) -> str:
    """Return the name of the session's cookie; browsers share cookies between the ports of a host."""
    return f"vitreous-session-{request.url.port or 80}"


def set_session_cookie(request: Request, response: Response, session: WebSession) -> None:
    """Tell the browser the secret of its session, which no script can read.

    Other sites can send it by a link to this page alone; what comes from their pages is refused by `Guard`.
    """
    response.set_cookie(cookie_name(request), session.id, httponly=True, samesite="lax")
