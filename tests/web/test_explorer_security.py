"""Attacks on the explorer: each is refused, and the others are served as before."""

import io
import socket
import struct
import threading
import zlib
from contextlib import ExitStack, suppress
from itertools import product

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from vitreous.web import requests
from vitreous.web.explorer.explorer import Explorer
from vitreous.web.explorer.routes import PAGES, create_explorer_app
from vitreous.web.openapi import OPERATIONS
from vitreous.web.serve import ExplorerServer
from vitreous.web.server import AppServer
from vitreous.web.sessions import Limits

ADDRESS = "http://127.0.0.1:8765"


@pytest.fixture(scope="module")
def explorer(small_classifier):
    made = Explorer({"small": small_classifier}, None, Limits(upload_bytes=100_000, image_pixels=100_000))
    made.queue.start()
    yield made
    made.queue.close()


def png(height=8, width=8, value=0):
    stream = io.BytesIO()
    Image.fromarray(np.full((height, width, 3), value, np.uint8)).save(stream, "PNG")
    return stream.getvalue()


def png_header(width, height):
    """A PNG that announces a size and holds hardly any pixels."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = chunk(b"IDAT", zlib.compress(bytes(1000)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + pixels + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "empty"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>", "not an image"),
        (b"<!doctype html><script>alert(1)</script>", "not an image"),
        (b"\x89PNG\r\n\x1a\n<script>alert(1)</script>", "damaged"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n(/etc/passwd) run", "not an image"),
        (b"GIF89a" + bytes(20), "damaged"),
        (png()[:40], "damaged"),
        (png_header(50_000, 50_000), "pixels, the limit is"),
        (png_header(400, 300), "the limit is 100,000"),
        (png_header(70_000, 1), "the limit is"),
        (b"version https://git-lfs.github.com/spec/v1\n", "not the image"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
@pytest.mark.parametrize("content_type", ["image/png", "text/html"])
def test_uploads_are_believed_only_once_they_are_decoded(data, words, content_type, client):
    response = client.post("/api/images", content=data, headers={"Content-Type": content_type})
    assert response.status_code == 400 and words in response.json()["error"]
    assert response.headers["content-type"] == "application/json"


def test_uploads_that_are_too_large_are_refused_before_they_are_read(client):
    assert client.post("/api/images", content=bytes(100_001)).status_code == 413
    assert client.post("/api/images", content=iter([bytes(60_000)] * 3)).status_code == 413
    assert (
        client.post("/api/jobs", content=b" " * 70_000, headers={"Content-Type": "application/json"}).status_code == 413
    )


@pytest.mark.parametrize(
    "path",
    [
        "/static/../server.py", "/static/%2e%2e/server.py", "/static/..%2fserver.py", "/static//etc/passwd",
        "/static/%00", "/api/images/..%2f..%2fetc%2fpasswd/pixels", "/api/images/data-0/pixels",
        "/api/images/data--1/pixels", "/api/images/data-99999999999999999999/pixels", "/api/images/data-%D9%A1/pixels",
        "/api/jobs/..%2f..%2f", "/api/images/%00/thumbnail", "/../../etc/passwd",
    ],
)  # fmt: skip
def test_nothing_of_a_request_becomes_a_path(path, client):
    client.post("/api/images", content=png())
    response = client.get(path)
    assert response.status_code in (400, 404) and b"import" not in response.content and b"root:" not in response.content


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"}, {"Origin": "null"}, {"Origin": "http://127.0.0.1:9999"},
        {"Origin": "http://127.0.0.1:8765.evil.example"}, {"Host": "evil.example"}, {"Host": "evil.example:8765"},
        {"Host": "127.0.0.1.evil.example"}, {"Host": ""}, {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "cors"},
    ],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/api/images"), ("GET", "/api/start"), ("DELETE", "/api/session")]
)
def test_pages_of_other_sites_get_nothing(headers, method, path, client):
    response = client.request(method, path, headers=headers, content=png() if method == "POST" else None)
    assert response.status_code == 403 and "models" not in response.text and "set-cookie" not in response.headers
    (line,) = response.json().values()
    assert line in (
        "requests from pages of other sites are refused",
        "open this page at the address that vitreous printed",
    )


def test_refusals_are_as_the_api_describes_them(explorer):
    """Below /api an error is JSON with one line; a person who opens a page reads text."""
    app = create_explorer_app(explorer, served_host="0.0.0.0", token="secret")
    with TestClient(app, "http://192.168.0.7:8765") as visitor:
        described = visitor.get("/api", headers={"Authorization": "Bearer secret"}).json()
        schema = described["components"]["schemas"]["Error"]
        for (method, path, *_), (headers, status) in product(OPERATIONS, [({}, 401), ({"Host": "evil.example"}, 403)]):
            if path == "/healthz" and status == 401:
                continue
            response = visitor.request(method, path, headers=headers)
            assert response.status_code == status
            ((media_type, content),) = described["paths"][path][method]["responses"][str(status)]["content"].items()
            assert response.headers["content-type"].partition(";")[0] == media_type, path
            if path.startswith("/api"):
                assert content["schema"] == {"$ref": "#/components/schemas/Error"}
                assert list(response.json()) == schema["required"] == list(schema["properties"])
        for path in ("/", "/training", "/static/explorer.js", "/apiary"):
            page = visitor.get(path)
            assert page.text == "open this page at the address that vitreous printed, with its token\n"
            assert page.headers["content-type"].startswith("text/plain")


def test_the_page_itself_may(client):
    origin = {"Origin": ADDRESS, "Sec-Fetch-Site": "same-origin"}
    assert client.post("/api/images", content=png(), headers=origin).status_code == 201
    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    assert client.get("/", headers=link).status_code == 200


def test_a_form_of_another_site_can_not_start_a_job(client):
    key = client.post("/api/images", content=png()).json()["image"]
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""):
        body = f'{{"image": "{key}"}}'
        assert client.post("/api/jobs", content=body, headers={"Content-Type": kind}).status_code == 415
    for body in (b"{", b"[]", b'"x"', b"[" * 60_000, b"\xff"):
        assert client.post("/api/jobs", content=body, headers={"Content-Type": "application/json"}).status_code == 400


def test_headers_of_every_response(client):
    for path in ("/", "/api/start", "/static/explorer.js", "/nowhere", "/metrics"):
        headers = client.get(path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy and "http" not in policy
        assert headers["x-content-type-options"] == "nosniff" and headers["x-frame-options"] == "DENY"
        assert "access-control-allow-origin" not in headers and headers["cache-control"]
    cookie = client.post("/api/images", content=png()).headers["set-cookie"]
    assert "HttpOnly" in cookie and "samesite=lax" in cookie.lower()


def test_the_page_loads_nothing_from_elsewhere_and_is_small():
    files = list(PAGES.iterdir())
    assert sum(path.stat().st_size for path in files) < 300_000
    for path in files:
        text = path.read_text().replace("http://www.w3.org/2000/svg", "")
        assert "http:" not in text and "https:" not in text, path
        assert "innerHTML" not in text and "eval(" not in text and "insertAdjacent" not in text, path
        assert " style=" not in text and not any(f" on{event}=" in text for event in ("click", "load", "error")), path


def test_a_server_that_others_reach_needs_its_token(explorer):
    app = create_explorer_app(explorer, served_host="0.0.0.0", token="secret")
    with TestClient(app, "http://192.168.0.7:8765", follow_redirects=False) as visitor:
        for path in ("/", "/api/start", "/metrics", "/static/explorer.js", "/?token=wrong", "/?token="):
            assert visitor.get(path).status_code == 401
        assert visitor.post("/api/images", content=png()).status_code == 401
        assert visitor.get("/healthz").status_code == 200
        assert visitor.get("/api/start", headers={"Authorization": "Bearer secret"}).status_code == 200
        moved = visitor.get("http://192.168.0.7:8765//evil.example/?token=secret&x=1")
        assert moved.status_code == 303 and moved.headers["location"] == "/evil.example/?x=1", "not //evil.example"
        assert "secret" not in moved.headers["set-cookie"]
        assert visitor.get("/api/start").status_code == 200
    with TestClient(app, "http://192.168.0.7:8765") as thief:
        assert thief.get("/api/start", headers={"Cookie": "vitreous-token-8765=secret"}).status_code == 401
    with TestClient(app, "http://evil.example:8765") as rebound:
        assert rebound.get("/?token=secret").status_code == 403


def test_names_of_classes_and_models_can_not_inject_headers(client):
    response = client.get("/api/gallery?class=a%0d%0aSet-Cookie:%20x=1")
    assert "x=1" not in response.headers.get("set-cookie", "")
    response = client.get("/api/start", headers={"If-None-Match": "a\tb"})
    assert response.status_code == 200


@pytest.fixture(scope="module")
def running(explorer_of_server):
    with ExplorerServer(explorer_of_server, AppServer(port=0)) as server:
        yield server


@pytest.fixture(scope="module")
def explorer_of_server(small_classifier):
    return Explorer({"small": small_classifier}, None, Limits(upload_bytes=100_000))


def request(running, head, body=b"", timeout=5.0):
    with socket.create_connection(("127.0.0.1", running.server.port), timeout) as connection:
        connection.sendall(head.replace(b"\n", b"\r\n") + body)
        received = b""
        while part := connection.recv(65_536):
            received += part
        return received


def test_broken_requests_are_refused_and_the_next_one_is_served(running):
    host = b"Host: 127.0.0.1\nConnection: close\n"
    bad = [
        b"GET / HTTP/1.1\n" + host + b"Origin: http://127.0.0.1\n X: y\n\n",
        b"POST /api/images HTTP/1.1\n" + host + b"Content-Length: 9999999999\n\n",
        b"POST /api/images HTTP/1.1\n" + host + b"Content-Length: -1\n\n",
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\n" + host + b"\n",
        b"\x16\x03\x01\x02\x00\x01",
        b"GET / HTTP/1.1\n" + host + b"Host: evil.example\n\n",
    ]
    for head in bad:
        with suppress(ConnectionError):
            assert b"200 OK" not in request(running, head)[:20], head[:60]
        assert b"200 OK" in request(running, b"GET /healthz HTTP/1.1\n" + host + b"\n")


def test_two_hundred_connections_and_slow_clients_leave_the_service_alive(running, monkeypatch):
    monkeypatch.setattr(requests, "BODY_SECONDS", 0.3)
    slow = b"POST /api/images HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 5000\r\n\r\nabc"
    with ExitStack() as open_ones:
        for _ in range(200):
            connection = open_ones.enter_context(socket.socket())
            connection.setblocking(False)
            connection.connect_ex(("127.0.0.1", running.server.port))
        dripping = open_ones.enter_context(socket.create_connection(("127.0.0.1", running.server.port), 10))
        dripping.sendall(slow)
        status = dripping.recv(200).split(b" ")[1:2]
        assert status in ([b"408"], [b"503"])
    end = threading.Event()
    for _ in range(100):
        try:
            if b"200 OK" in request(running, b"GET /healthz HTTP/1.1\nHost: 127.0.0.1\nConnection: close\n\n"):
                return
        except OSError:
            pass
        end.wait(0.05)
    raise AssertionError("the server is no longer served")


def test_an_error_of_our_own_is_one_line_and_in_the_log(client, monkeypatch, caplog):
    def full(*arguments, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("vitreous.web.clips.stored_clip.store_temporarily", full)
    response = client.post("/api/clips", content=b"video")
    assert response.status_code == 500 and response.json() == {
        "error": "something went wrong on the server: its log says what"
    }
    assert "default-src 'none'" in response.headers["content-security-policy"]
    assert "No space left on device" in caplog.text
