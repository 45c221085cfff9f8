"""A web server for one app on a thread of its own: uvicorn, with connections that end when the server does."""

import asyncio
import errno
import os
import socket
import time
from collections.abc import Callable
from threading import Thread

import h11
import uvicorn
from starlette.applications import Starlette
from uvicorn.protocols.http.h11_impl import H11Protocol

from vitreous.errors import InputError
from vitreous.files import os_error_reason
from vitreous.web.guard import is_loopback

MAX_CONNECTIONS = 256
"""When there are more, the one that has kept the server waiting for longest makes room."""
GRACE_SECONDS = 0.4
"""Time that responses get at the end."""
START_SECONDS = 10.0
REQUEST_SECONDS = 10.0
"""Time for the whole head of a request; a connection that takes longer would keep others out."""
SEND_BUFFER_BYTES = 65_536
"""What a slow client makes the operating system hold."""


class Connection(H11Protocol):
    """A connection whose sender waits until the operating system has taken everything, and whose requests come soon."""

    _timer: asyncio.TimerHandle | None = None
    _since: float = 0.0
    """When the request, or its body, began to be awaited, on the loop's clock."""

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Set up a new connection."""
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=0)
        self._since = self.loop.time()
        self._make_room()
        self._limit_request()

    def data_received(self, data: bytes) -> None:
        """Handle what has arrived."""
        super().data_received(data)
        self._limit_request()

    def connection_lost(self, exc: Exception | None) -> None:
        """Release the connection."""
        self._stop_timer()
        super().connection_lost(exc)

    def _make_room(self) -> None:
        """If there are too many connections, close the one whose client has sent or taken nothing whole for longest."""
        others = [one for one in self.connections if isinstance(one, Connection) and not one.transport.is_closing()]
        waited_for = [one for one in others if one is not self and one.is_waiting_for_client()]
        if len(others) > MAX_CONNECTIONS and waited_for:
            min(waited_for, key=lambda one: one._since).transport.abort()

    def is_waiting_for_client(self) -> bool:
        """Return whether a request isn't complete, or an answer not taken."""
        return self.conn.their_state in (h11.IDLE, h11.SEND_BODY) or self.transport.get_write_buffer_size() > 0

    def _limit_request(self) -> None:
        """Close the connection after a while, counted from the first time that the head of a request is awaited."""
        if self.conn.their_state is not h11.IDLE:
            self._stop_timer()
        elif self._timer is None:
            self._timer = self.loop.call_later(REQUEST_SECONDS, self.transport.abort)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer, self._since = None, self.loop.time()


class AppServer:
    """Serves an app at an address; `close` ends it and every connection within a second.

    It accepts connections from the beginning, and answers from `start` on.

    Raises:
        InputError: the port is in use (names a free one), or the port or host can't be used.
    """

    def __init__(self, host: str = "127.0.0.1", port: int = 8765) -> None:
        if not 0 <= port <= 65_535:
            raise InputError(f"port {port} does not exist: give one from 1024 to 65535, or 0 for any free port")
        self.host, self._thread, self._server, self._end = host, None, None, None
        self._socket = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        try:
            if os.name == "posix":  # Elsewhere the option would take a port from the program that has it.
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)  # Connections inherit it.
            self._socket.bind((host, port))
            self._socket.listen(MAX_CONNECTIONS)
        except OSError as error:
            self._socket.close()
            raise bind_error(host, port, error) from error
        self.port: int = self._socket.getsockname()[1]

    _thread: Thread | None
    _server: uvicorn.Server | None
    _end: Callable[[], object] | None

    @property
    def url(self) -> str:
        """The address that a browser on this machine opens."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(self.host, self.host)
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}/"

    @property
    def is_local(self) -> bool:
        """Whether only programs on this machine can reach it."""
        return is_loopback(self.host)

    def start(self, app: Starlette) -> None:
        """Start to answer, on a thread of its own, and return when it does.

        Raises:
            InputError: the server doesn't start.
        """
        config = uvicorn.Config(
            app, http=Connection, ws="none", loop="asyncio", lifespan="off", log_config=None, access_log=False,
            log_level="critical", limit_concurrency=2 * MAX_CONNECTIONS, server_header=False, proxy_headers=False,
            timeout_graceful_shutdown=1,
        )  # fmt: skip
        self._server = uvicorn.Server(config)
        self._thread = Thread(target=self._run, args=(self._server,), name="web server", daemon=True)
        self._thread.start()
        deadline = time.monotonic() + START_SECONDS
        while not self._server.started and self._thread.is_alive() and time.monotonic() < deadline:
            time.sleep(0.005)
        if not self._server.started:
            reason = f"no answer in {START_SECONDS:.0f} s" if self._thread.is_alive() else "its thread has ended"
            raise InputError(f"the web server did not start: {reason}; try another --port")

    def close(self) -> None:
        """End the server; connections that don't end by themselves are aborted."""
        if self._thread is not None and self._end is not None:
            self._end()
            self._thread.join(START_SECONDS)
        self._socket.close()

    def _run(self, server: uvicorn.Server) -> None:
        """Run the event loop of the server until it ends."""

        async def serve() -> None:
            loop, ended = asyncio.get_running_loop(), asyncio.Event()
            self._end = lambda: loop.call_soon_threadsafe(ended.set)
            serving = asyncio.create_task(server.serve(sockets=[self._socket]))
            await ended.wait()
            server.should_exit = True
            deadline = time.monotonic() + GRACE_SECONDS
            while server.server_state.tasks and time.monotonic() < deadline:
                await asyncio.sleep(0.02)
            for connection in list(server.server_state.connections):
                connection.transport.abort()
            await serving

        asyncio.run(serve())


def bind_error(host: str, port: int, error: OSError) -> InputError:
    """Return the error for a host and port that can't be used."""
    if error.errno == errno.EADDRINUSE:
        return InputError(f"port {port} is in use: take another with --port {free_port(host, port)}")
    if error.errno in (errno.EACCES, errno.EPERM):
        return InputError(f"port {port} is not permitted: take one from 1024 on, such as --port 8765")
    return InputError(f"can't serve at host '{host}' ({os_error_reason(error)}): give an address of this machine")


def free_port(host: str, port: int) -> int:
    """Return a free port, if possible one soon after this one."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for candidate in [*range(port + 1, min(port + 20, 65_536)), 0]:
        with socket.socket(family) as attempt:
            try:
                attempt.bind((host, candidate))
            except OSError:
                continue
            return attempt.getsockname()[1]
    return 0
