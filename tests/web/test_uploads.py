"""Uploads of many clients: together they take a bounded memory, and slow ones keep nobody out."""

import http.client
import io
import json
import socket
import time
from contextlib import ExitStack
from threading import Event
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from vitreous.web import requests, uploads
from vitreous.web.clips import stored_clip
from vitreous.web.explorer import routes
from vitreous.web.explorer.explorer import Explorer
from vitreous.web.serve import ExplorerServer
from vitreous.web.server import AppServer
from vitreous.web.sessions import Limits

LARGEST = 100_000
ROOM = 4 * LARGEST
NO_ROOM = {"error": "too much is being uploaded at once: try again in a few seconds"}


@pytest.fixture
def explorer(small_classifier):
    return Explorer({"small": small_classifier}, None, Limits(upload_bytes=LARGEST, clip_bytes=LARGEST))


@pytest.fixture
def running(explorer):
    with ExplorerServer(explorer, AppServer(port=0)) as server:
        yield server


@pytest.fixture
def stack():
    with ExitStack() as made:
        yield made


def make_png(value=0):
    stream = io.BytesIO()
    Image.fromarray(np.full((8, 8, 3), value, np.uint8)).save(stream, "PNG")
    return stream.getvalue()


def connect(stack, running):
    return stack.enter_context(socket.create_connection(("127.0.0.1", running.server.port), 10))


def send(connection, body, cookie="", path="/api/images", length=None):
    """Send a request with a body, of which more is announced where `length` says so."""
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nCookie: {cookie}\r\nContent-Length: {length or len(body)}"
    connection.sendall(head.encode() + b"\r\n\r\n" + body)


def answer(connection):
    """Read one answer: its status, its JSON, and its headers."""
    response = http.client.HTTPResponse(connection)
    response.begin()
    return response.status, json.loads(response.read()), response.headers


def new_session(stack, running, value):
    """Upload an image, and return the cookie of the session."""
    connection = connect(stack, running)
    send(connection, make_png(value))
    status, _, headers = answer(connection)
    assert status == 201
    return headers["set-cookie"].partition(";")[0]


def wait_until(condition):
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def begin(stack, running, explorer, size, cookie="", replaced=0):
    """Send a part of a body, wait until it is there in place of another one, and return the connection."""
    expected = explorer.uploads.used_bytes - replaced + size
    connection = connect(stack, running)
    send(connection, bytes(size), cookie, length=LARGEST)
    wait_until(lambda: explorer.uploads.used_bytes == expected)
    return connection


def test_one_client_has_half_of_the_room_and_the_oldest_makes_room(stack, running, explorer):
    first, second = (begin(stack, running, explorer, LARGEST - 1) for _ in range(2))
    third = begin(stack, running, explorer, 1000, replaced=LARGEST - 1)
    status, error, headers = answer(first)
    assert (status, error, headers["retry-after"]) == (503, NO_ROOM, "5")
    new_session(stack, running, 1)
    for connection in (second, third):
        connection.close()
    wait_until(lambda: explorer.uploads.used_bytes == 0)


def test_the_slowest_makes_room_before_the_oldest(stack, running, explorer, monkeypatch):
    send(silent := connect(stack, running), b"", length=len(make_png()))
    wait_until(lambda: explorer.uploads._uploads)
    first, second = begin(stack, running, explorer, LARGEST - 1), begin(stack, running, explorer, 500)
    monkeypatch.setattr(uploads, "PATIENCE_SECONDS", 0.0)
    third = begin(stack, running, explorer, LARGEST - 1, replaced=500)
    assert answer(second)[0] == 503
    for connection in (first, third):
        connection.sendall(b"x")
        assert answer(connection)[0] == 400, "it came to its end, and is no image"
    silent.sendall(make_png())
    assert answer(silent)[0] == 201, "it had no memory to give"


def test_uploads_of_all_clients_are_bounded(stack, running, explorer):
    cookies = [new_session(stack, running, value) for value in range(3)]
    held = [begin(stack, running, explorer, LARGEST - 1, cookies[number // 2]) for number in range(4)]
    held.append(begin(stack, running, explorer, LARGEST - 2, cookies[2], replaced=LARGEST - 1))
    assert answer(held[0])[:2] == (503, NO_ROOM) and explorer.uploads.used_bytes == ROOM - 5
    send(connection := connect(stack, running), make_png())
    assert answer(connection)[0] == 201, "who comes later is served"
    assert "\nvitreous_upload_bytes " in metrics(stack, running)


def metrics(stack, running):
    connection = http.client.HTTPConnection("127.0.0.1", running.server.port)
    stack.callback(connection.close)
    connection.request("GET", "/metrics")
    return connection.getresponse().read().decode()


@pytest.mark.parametrize(
    ("body", "length", "status"),
    [(b"no image", None, 400), (bytes(1000), LARGEST, 408), (bytes(1000), LARGEST + 1, 413), (make_png(), None, 201)],
)
def test_the_room_is_given_back(body, length, status, stack, running, explorer, monkeypatch):
    monkeypatch.setattr(requests, "BODY_SECONDS", 0.2)
    send(connection := connect(stack, running), body, length=length)
    assert answer(connection)[0] == status and explorer.uploads.used_bytes == 0


def test_an_upload_that_waits_to_be_decoded_takes_room(stack, running, explorer, monkeypatch):
    begun, go_on, decode = Event(), Event(), routes.decode_upload

    def slow(data, max_pixels):
        begun.set()
        go_on.wait(10)
        return decode(data, max_pixels)

    monkeypatch.setattr(routes, "decode_upload", slow)
    send(connection := connect(stack, running), make_png())
    assert begun.wait(10) and explorer.uploads.used_bytes == len(make_png())
    go_on.set()
    assert answer(connection)[0] == 201 and explorer.uploads.used_bytes == 0


@pytest.fixture
def slow_decoding(monkeypatch):
    """Images whose file begins with "slow" are decoded once `go_on` is set; `begun` lists them."""
    decode, slow_decoding = routes.decode_upload, SimpleNamespace(begun=[], go_on=Event())

    def decode_slowly(data, max_pixels):
        if data.startswith(b"slow"):
            slow_decoding.begun.append(data)
            slow_decoding.go_on.wait(30)
        return decode(data, max_pixels)

    monkeypatch.setattr(routes, "decode_upload", decode_slowly)
    yield slow_decoding
    slow_decoding.go_on.set()


@pytest.mark.parametrize("has_session", [True, False])
def test_slow_images_of_one_client_keep_nobody_else_out(has_session, stack, running, explorer, slow_decoding):
    mine, yours = (new_session(stack, running, value) for value in range(2))
    bodies = [b"slow 1", b"slow 2", b"slow 3"]
    connections = [connect(stack, running) for _ in bodies]
    for connection, body in zip(connections, bodies, strict=True):
        send(connection, body, mine if has_session else "")
    wait_until(lambda: explorer.uploads.used_bytes == sum(map(len, bodies)))
    send(other := connect(stack, running), make_png(), yours)
    other.settimeout(5)
    assert answer(other)[0] == 201 and len(slow_decoding.begun) == 1
    waiting = bodies.index(next(one for one in bodies if one not in slow_decoding.begun))
    connections.pop(waiting).close()
    wait_until(lambda: explorer.uploads.used_bytes == 12)
    slow_decoding.go_on.set()
    for connection in connections:
        assert answer(connection)[0] == 400, "these were decoded, and are no images"
    assert len(slow_decoding.begun) == 2 and bodies[waiting] not in slow_decoding.begun, "whose client has left is not"


def test_frames_are_decoded_one_at_a_time_for_each_client(stack, running, clip, png, monkeypatch):
    """Two panes ask for frames of a clip that takes long; somebody else opens an image."""
    begun, go_on, frame = [], Event(), stored_clip.StoredClip.frame

    def slow(self, number):
        begun.append(number)
        go_on.wait(30)
        return frame(self, number)

    send(connection := connect(stack, running), clip.read_bytes(), path="/api/clips")
    status, found, headers = answer(connection)
    assert status == 201
    cookie = headers["set-cookie"].partition(";")[0]
    monkeypatch.setattr(stored_clip.StoredClip, "frame", slow)
    asking = [connect(stack, running) for _ in range(3)]
    for number, one in enumerate(asking):
        path = f"/api/images/{found['clip']}-{number}/pixels"
        one.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nCookie: {cookie}\r\n\r\n".encode())
    wait_until(lambda: begun)
    send(other := connect(stack, running), png)
    other.settimeout(5)
    assert answer(other)[0] == 201 and len(begun) == 1
    go_on.set()
    assert [one.recv(12) for one in asking] == [b"HTTP/1.1 200"] * 3


def test_a_clip_is_not_decoded_to_its_end_once_its_client_has_left(stack, running, clip, monkeypatch):
    begun, ended, frames = Event(), Event(), list(stored_clip.read_frames(clip))

    def slow(*_):
        try:
            for _ in range(3000):
                begun.set()
                time.sleep(0.01)
                yield frames[0]
        finally:
            ended.set()

    monkeypatch.setattr(stored_clip, "read_frames", slow)
    send(connection := connect(stack, running), clip.read_bytes(), path="/api/clips")
    assert begun.wait(10)
    connection.close()
    assert ended.wait(5)
