"""The web server by itself: what happens when it doesn't start."""

import socket
import time
from contextlib import closing
from http.client import HTTPConnection
from threading import Event

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from vitreous.errors import InputError
from vitreous.web import server
from vitreous.web.guard import Guard
from vitreous.web.server import AppServer


def served(host):
    """A running server of one page, with the checks of the live view."""
    page = Route("/", lambda request: PlainTextResponse("page"))
    running = AppServer(host, 0)
    running.start(Starlette(routes=[page], middleware=[Middleware(Guard, served_host=host)]))
    return closing(running)


def answer(at, port, host):
    with socket.create_connection((at, port), 5) as client:
        client.sendall(f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        return client.recv(100).split()[1].decode()


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2"])
def test_a_server_on_the_loopback_answers_no_other_name(host):
    with served(host) as running:
        assert running.is_local
        assert [answer(host, running.port, name) for name in (host, "localhost:80", "[::1]")] == ["200"] * 3
        names = ("evil.example", "192.168.0.7", "[", "", socket.gethostname())
        assert [answer(host, running.port, name) for name in names] == ["403"] * 5


def test_a_public_server_answers_addresses_and_its_own_name():
    with served("0.0.0.0") as running:
        assert not running.is_local
        name = socket.gethostname()
        known = ("127.0.0.1", "192.168.0.7:8765", "[fe80::1]", name, name.upper(), f"{name.partition('.')[0]}.local")
        assert [answer("127.0.0.1", running.port, each) for each in known] == ["200"] * 6
        assert [answer("127.0.0.1", running.port, each) for each in ("evil.example", "[", "")] == ["403"] * 3


def test_slow_requests_keep_nobody_out(monkeypatch):
    monkeypatch.setattr(server, "REQUEST_SECONDS", 0.5)
    monkeypatch.setattr(server, "MAX_CONNECTIONS", 4)
    with served("127.0.0.1") as running:
        slow = [socket.create_connection(("127.0.0.1", running.port), 5) for _ in range(6)]
        for client in slow:
            client.sendall(b"GET / HTTP/1.1\r\n")
        until = time.monotonic() + 5
        while answer("127.0.0.1", running.port, "127.0.0.1") != "200":
            assert time.monotonic() < until, "slow connections keep others out"
            for client in slow:
                try:
                    client.sendall(b"X: y\r\n")
                except OSError:
                    continue
            time.sleep(0.1)
        for client in slow:
            client.close()


def test_a_connection_serves_requests_for_longer_than_one_may_take(monkeypatch):
    monkeypatch.setattr(server, "REQUEST_SECONDS", 0.5)
    with served("127.0.0.1") as running, closing(HTTPConnection("127.0.0.1", running.port, timeout=5)) as client:
        client.connect()
        connection = client.sock
        for _ in range(4):
            client.request("GET", "/")
            assert client.getresponse().read() == b"page"
            time.sleep(0.3)
        assert client.sock is connection


def test_a_server_that_ends_at_once_is_an_error(monkeypatch):
    monkeypatch.setattr(AppServer, "_run", lambda self, uvicorn_server: None)
    app_server = AppServer(port=0)
    with pytest.raises(InputError, match=r"^the web server did not start: its thread has ended; try another --port$"):
        app_server.start(Starlette())
    app_server.close()


def test_a_server_that_never_answers_is_an_error(monkeypatch):
    ended = Event()
    monkeypatch.setattr(server, "START_SECONDS", 0.0)
    monkeypatch.setattr(AppServer, "_run", lambda self, uvicorn_server: ended.wait())
    app_server = AppServer(port=0)
    with pytest.raises(InputError, match=r"^the web server did not start: no answer in 0 s"):
        app_server.start(Starlette())
    ended.set()
    app_server.close()
