"""How errors become responses: JSON in one line, whoever's fault they are."""

import logging
from collections.abc import Callable

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vitreous.errors import InputError
from vitreous.web.jobs.queue import JobLimitError

Handler = Callable[[Request, Exception], Response]


def error_response(status: int, message: str, **headers: str) -> Response:
    """Return an error as JSON, in one line."""
    return JSONResponse({"error": " ".join(message.split())}, status, headers=headers)


def respond_to_limit(request: Request, error: Exception) -> Response:
    """Say that there are too many jobs: 429 if they are the client's own, else 503."""
    assert isinstance(error, JobLimitError)
    return error_response(429 if error.is_own else 503, str(error), **{"Retry-After": "2"})


def respond_to_http_error(request: Request, error: Exception) -> Response:
    """Say what is wrong with a request."""
    assert isinstance(error, HTTPException)
    return error_response(error.status_code, error.detail, **(error.headers or {}))


HANDLERS: dict[int | type[Exception], Handler] = {
    InputError: lambda _, error: error_response(400, str(error)),
    JobLimitError: respond_to_limit,
    HTTPException: respond_to_http_error,
    ClientDisconnect: lambda _, error: Response(status_code=400),
}
"""Errors that say what the client can do."""


class UnexpectedErrors:
    """Middleware for all other errors: the log says what happened, the client that something did."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Respond to one request."""
        has_started = False

        async def send_noted(message: Message) -> None:
            nonlocal has_started
            has_started = has_started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self.app(scope, receive, send_noted)
        except Exception as error:
            logging.getLogger("vitreous").error("a request to the web app failed", exc_info=error)
            if has_started:
                raise
            await error_response(500, "something went wrong on the server: its log says what")(scope, receive, send)
