"""A live view over HTTP: a page, the images as one endless stream (MJPEG), the newest alone, the numbers as JSON."""

import errno
import json
import os
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from threading import Lock, Thread
from typing import Any
from urllib.parse import urlsplit

from vitreous.errors import InputError
from vitreous.files import reason
from vitreous.web.latest_value import Latest
from vitreous.web.stats import LiveState

MOST_VIEWERS = 8
MOST_CONNECTIONS = 64
STALLED_SECONDS = 10.0  # a viewer that takes nothing for so long is let go
GRACE_SECONDS = 0.4  # at the end, for viewers to get the last image
SEND_BUFFER_BYTES = 65_536  # an image or two: more waiting to be sent would be lag, not safety
BOUNDARY = b"--frame\r\n"
LOOPBACK = ("127.0.0.1", "localhost", "::1")
CLIENT_LEFT = (ConnectionError, TimeoutError)


@dataclass(frozen=True)
class LiveImage:
    """An image as JPEG, and when its frame was taken, on the clock `time.monotonic`."""

    jpeg: bytes
    taken_seconds: float


@dataclass(frozen=True)
class Program:
    """What a server shows: the page (HTML), the images, the numbers; `sent` is told what viewers were sent."""

    page: str
    images: Latest[LiveImage]
    state: Callable[[], LiveState]
    sent: Callable[[int, float], object]


class LiveServer(ThreadingHTTPServer):
    """Serves one live view; each viewer has a thread of its own and takes the newest image whenever it can.

    It listens from the start, and answers from `start` on; `close` ends it and every connection within a second.

    Raises:
        InputError: the port is in use (names another), or it or the host can't be used.
    """

    daemon_threads = True
    allow_reuse_address = os.name == "posix"  # Elsewhere it would take a port from the program that has it.

    def __init__(self, host: str = "127.0.0.1", port: int = 8765) -> None:
        self.host, self.program, self.viewers = host, None, 0
        self.lock, self.connections, self.threads = Lock(), set(), []
        if not 0 <= port <= 65_535:
            raise InputError(f"port {port} is none: give one from 1024 to 65535, or 0 for any that is free")
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            super().__init__((host, port), Answer)
        except OSError as error:
            raise unusable(host, port, error) from error

    program: Program | None
    connections: set[socket.socket]
    threads: list[Thread]

    def server_bind(self) -> None:
        """Bind without asking a name server for this machine's name, which can take seconds."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = self.host, self.server_address[1]

    @property
    def url(self) -> str:
        """Where a browser on this machine finds the page."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(self.host, self.host)
        return f"http://{f'[{host}]' if ':' in host else host}:{self.server_port}/"

    @property
    def is_private(self) -> bool:
        """Whether only programs on this machine can reach it."""
        return self.host in LOOPBACK

    def start(self, program: Program) -> None:
        """Begin to answer, on a thread of its own."""
        self.program = program
        self.threads.append(Thread(target=self.serve_forever, args=(0.1,), name="live server", daemon=True))
        self.threads[0].start()

    def close(self) -> None:
        """End what is served; connections that don't end by themselves are cut."""
        if self.program is not None:
            self.program.images.finish()
            self.shutdown()
        self.server_close()
        deadline = time.monotonic() + GRACE_SECONDS
        for thread in self.threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        with self.lock:
            for connection in self.connections:
                cut(connection)
        for thread in self.threads:
            thread.join(GRACE_SECONDS)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer on a thread that `close` knows of; one connection too many is closed at once."""
        with self.lock:
            self.threads = [thread for thread in self.threads if thread.is_alive()]
            refused = len(self.connections) >= MOST_CONNECTIONS
            if not refused:
                self.connections.add(request)
                arguments = (request, client_address)
                thread = Thread(target=self.process_request_thread, args=arguments, name="live viewer", daemon=True)
                self.threads.append(thread)
        if refused:
            self.shutdown_request(request)
        else:
            thread.start()

    def shutdown_request(self, request: Any) -> None:
        """Close a connection that is done."""
        with self.lock:
            self.connections.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A viewer that went away is no error; anything else is a bug, and told as one."""
        if not isinstance(sys.exception(), CLIENT_LEFT):
            super().handle_error(request, client_address)


class Answer(BaseHTTPRequestHandler):
    """The answer to one request."""

    timeout = STALLED_SECONDS

    @property
    def ours(self) -> LiveServer:
        assert isinstance(self.server, LiveServer)
        return self.server

    def do_GET(self) -> None:
        """Answer a path, to whoever is meant to see it."""
        program = self.ours.program
        assert program is not None
        path = urlsplit(self.path).path
        if not self.is_meant_for_us():
            self.refuse(HTTPStatus.FORBIDDEN, "ask for this page by the address that vitreous live printed")
        elif path == "/":
            self.whole(program.page.encode(), "text/html; charset=utf-8")
        elif path == "/state":
            state = program.state()
            self.whole(json.dumps({**asdict(state), "dropped": state.dropped}).encode(), "application/json")
        elif path == "/frame.jpg":
            newest = program.images.newest
            if newest is None:
                self.refuse(HTTPStatus.SERVICE_UNAVAILABLE, "there is no image yet")
            else:
                self.whole(newest.jpeg, "image/jpeg")
        elif path == "/stream":
            self.watched(program)
        else:
            self.refuse(HTTPStatus.NOT_FOUND, "there are /, /stream, /frame.jpg and /state")

    def is_meant_for_us(self) -> bool:
        """Whether the address asked for is this machine's own, where only this machine may see the images.

        Otherwise a page from elsewhere could have its own name point here, and read the camera (DNS rebinding).
        """
        name = urlsplit(f"//{self.headers.get('Host', '')}").hostname
        return not self.ours.is_private or name in LOOPBACK

    def watched(self, program: Program) -> None:
        """Let one viewer watch, if there is a place."""
        with self.ours.lock:
            is_full = self.ours.viewers >= MOST_VIEWERS
            self.ours.viewers += not is_full
        if is_full:
            self.refuse(HTTPStatus.SERVICE_UNAVAILABLE, f"{MOST_VIEWERS} viewers are watching, no more fit")
            return
        try:
            self.stream(program)
        finally:
            with self.ours.lock:
                self.ours.viewers -= 1

    def stream(self, program: Program) -> None:
        """Send the newest image, each after the last one was taken, until there are no more."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.begin(HTTPStatus.OK, "multipart/x-mixed-replace; boundary=frame")
        self.wfile.write(BOUNDARY)
        number = 0
        while not program.images.has_ended(number):
            newest = program.images.after(number, 1.0)
            if newest is not None:
                number, image = newest
                head = f"Content-Type: image/jpeg\r\nContent-Length: {len(image.jpeg)}\r\n\r\n".encode()
                # The boundary comes with the image: a browser shows none before it.
                self.wfile.write(head + image.jpeg + b"\r\n" + BOUNDARY)
                program.sent(number, image.taken_seconds)

    def whole(self, content: bytes, kind: str, status: HTTPStatus = HTTPStatus.OK) -> None:
        """Send something of known length."""
        self.begin(status, kind, len(content))
        self.wfile.write(content)

    def refuse(self, status: HTTPStatus, why: str) -> None:
        """Say in one line why not."""
        self.whole(f"{why}\n".encode(), "text/plain; charset=utf-8", status)

    def begin(self, status: HTTPStatus, kind: str, length: int | None = None) -> None:
        """Send the head of an answer; nothing may be stored, or shown inside another site's page."""
        self.send_response(status)
        self.send_header("Content-Type", kind)
        if length is not None:
            self.send_header("Content-Length", str(length))
        self.send_header("Cache-Control", "no-store")
        self.send_header("Cross-Origin-Resource-Policy", "same-origin")
        self.send_header("X-Frame-Options", "DENY")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name that http.server gives
        """Say nothing of single requests."""


def cut(connection: socket.socket) -> None:
    """End a connection under whoever waits on it."""
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # It has ended meanwhile.


def unusable(host: str, port: int, error: OSError) -> InputError:
    """The error for a host and port that can't be listened on."""
    if error.errno == errno.EADDRINUSE:
        return InputError(f"port {port} is in use: take another with --port {free_port(host, port)}")
    if error.errno in (errno.EACCES, errno.EPERM):
        return InputError(
            f"port {port} may not be used (permission denied): take one from 1024 on, such as --port 8765"
        )
    return InputError(f"can't serve at host '{host}' ({reason(error)}): give an address of this machine")


def free_port(host: str, port: int) -> int:
    """A port after this one that is free, or any."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for candidate in [*range(port + 1, min(port + 20, 65_536)), 0]:
        with socket.socket(family) as tried:
            try:
                tried.bind((host, candidate))
            except OSError:
                continue
            return tried.getsockname()[1]
    return 0
