"""Attacks on a running explorer: they are refused, and what a person does meanwhile works as before, and as soon."""

import http.client
import io
import json
import socket
import statistics
import time
from contextlib import ExitStack, suppress
from threading import Event, Thread

import numpy as np
import pytest
from PIL import Image

from vitreous.web.explorer.attention_export import export_attention
from vitreous.web.explorer.explorer import Explorer
from vitreous.web.serve import ExplorerServer
from vitreous.web.server import AppServer
from vitreous.web.sessions import Limits, SessionTable

JSON = {"Content-Type": "application/json"}
SLOWDOWN, PATIENCE_SECONDS = 10, 15.0
"""Under attack a person may wait so many times as long, or so long: both cores belong to the attackers too."""


@pytest.fixture
def running(small_classifier):
    limits = Limits(upload_bytes=2_000_000, image_pixels=500_000, job_seconds=1.0)
    export_attention(small_classifier, png(0)[1])  # the first time takes longer than a job may
    with ExplorerServer(Explorer({"small": small_classifier}, None, limits), AppServer(port=0)) as server:
        yield server


def png(seed, height=72, width=96):
    stream = io.BytesIO()
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(noise).save(stream, "PNG")
    return stream.getvalue(), noise


class Browser:
    """A client with a session, as a browser is one."""

    def __init__(self, port):
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        self.headers = {}

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.connection.close()

    def request(self, method, path, body=None, headers=()):
        for attempt in (1, 2):  # a browser opens another connection when the server has closed an idle one
            try:
                self.connection.request(method, path, body, self.headers | dict(headers))
                response = self.connection.getresponse()
                data = response.read()
                break
            except (http.client.HTTPException, ConnectionError):
                self.connection.close()
                if attempt == 2:
                    raise
        if cookie := response.getheader("set-cookie"):
            self.headers["Cookie"] = cookie.partition(";")[0]
        return response.status, data

    def explore(self, seed, classifier):
        """Open an image, get its attention, and check that the answer is its own; return the seconds it took."""
        data, image = png(seed)
        started = time.monotonic()
        status, body = self.request("POST", "/api/images", data)
        assert status == 201, body
        key = json.loads(body)["image"]
        status, body = self.request("POST", "/api/jobs", json.dumps({"image": key}), JSON)
        assert status == 202, body
        job = json.loads(body)["job"]
        state = {"state": "queued", "number": 0}
        while state["state"] in ("queued", "running"):
            status, body = self.request("GET", f"/api/jobs/{job}?after={state['number']}")
            assert status == 200, body
            state = json.loads(body)
        assert state["state"] == "done", state
        status, body = self.request("GET", f"/api/jobs/{job}/data")
        assert status == 200 and len(body) > 1000
        seconds = time.monotonic() - started
        prediction = classifier(image)
        assert state["result"]["prediction"]["scores"][0] == [prediction.label, pytest.approx(prediction.score)]
        return seconds


def drip(port, head, count, stop):
    """Hold many connections open, and send another byte on each now and then."""
    with ExitStack() as stack:
        while not stop.is_set():
            connections = []
            for _ in range(count):
                with suppress(OSError):
                    connections.append(stack.enter_context(socket.create_connection(("127.0.0.1", port), 5)))
                    connections[-1].sendall(head)
            for _ in range(20):
                if stop.wait(0.2):
                    return
                for connection in connections:
                    with suppress(OSError):
                        connection.sendall(b"x")


def slow_heads(port, stop):
    drip(port, b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: ", 200, stop)


def slow_bodies(port, stop):
    drip(port, b"POST /api/images HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 5000\r\n\r\n", 200, stop)


def lying_lengths(port, stop):
    """Announce more than is sent, or less."""
    while not stop.is_set():
        for length in (b"5", b"1999999", b"99999999999999999999", b"-1", b"1e3", b"5\r\nContent-Length: 6"):
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), 5) as connection:
                head = b"POST /api/images HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: " + length + b"\r\n\r\n"
                connection.sendall(head + b"\x89PNG not five bytes")
                connection.settimeout(0.1)
                assert b" 201" not in connection.recv(100)[:20]


def slow_readers(port, stop):
    """Ask for large images, and never take them."""
    with ExitStack() as stack:
        browser = stack.enter_context(Browser(port))
        key = json.loads(browser.request("POST", "/api/images", png(1, 600, 700)[0])[1])["image"]
        cookie = browser.headers["Cookie"]
        head = f"GET /api/images/{key}/pixels HTTP/1.1\r\nHost: 127.0.0.1\r\nCookie: {cookie}\r\n\r\n"
        for _ in range(60):
            connection = stack.enter_context(socket.socket())
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            with suppress(OSError):
                connection.connect(("127.0.0.1", port))
                connection.sendall(head.encode())
        stop.wait()


def many_jobs(port, stop):
    """Ask for more than there is time for, as three people."""
    statuses = set()
    with ExitStack() as stack:
        browsers = [stack.enter_context(Browser(port)) for _ in range(3)]
        keys = [json.loads(one.request("POST", "/api/images", png(7)[0])[1])["image"] for one in browsers]
        while not stop.wait(0.01):
            for browser, key in zip(browsers, keys, strict=True):
                body = {"kind": "map", "image": key, "method": "rise", "options": {"n_samples": 256}}
                statuses.add(browser.request("POST", "/api/jobs", json.dumps(body), JSON)[0])
    assert statuses == {202, 429}, statuses


def bombs_and_strangers(port, stop):
    """Send what isn't an image, what would be a huge one, and what comes from other sites; each as a new stranger."""
    huge = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(huge, "PNG")
    small, evil = png(9)[0], "http://evil.example"
    bodies = [(huge.getvalue(), {}, 400), (b"<svg xmlns='http://www.w3.org/2000/svg'/>", {}, 400), (small, {}, 201),
              (small, {"Origin": evil}, 403), (small, {"Host": "evil.example"}, 403)]  # fmt: skip
    while not stop.wait(0.01):
        for body, headers, expected in bodies:
            with Browser(port) as browser:
                status, text = browser.request("POST", "/api/images", body, headers)
                assert status == expected, (status, text)
        for path in ("/static/../server.py", "/static/%2e%2e/%2e%2e/etc/passwd", "/api/images/..%2f/pixels"):
            with Browser(port) as browser:
                assert browser.request("GET", path)[0] in (400, 404)


@pytest.mark.parametrize(
    "attack", [slow_heads, slow_bodies, lying_lengths, slow_readers, many_jobs, bombs_and_strangers]
)
def test_others_are_served_during_an_attack(attack, running, small_classifier):
    port, stop, failures = running.server.port, Event(), []

    def run():
        try:
            attack(port, stop)
        except BaseException as error:  # noqa: BLE001 - reported by the test's own thread
            failures.append(error)

    with Browser(port) as person, Browser(port) as newcomer:
        alone = statistics.median(person.explore(seed, small_classifier) for seed in range(4))
        attacker = Thread(target=run)
        attacker.start()
        try:
            stop.wait(1.0)
            times = [person.explore(10 + seed, small_classifier) for seed in range(5)]
            assert newcomer.request("GET", "/healthz")[0] == 200
        finally:
            stop.set()
            attacker.join(20)
    assert not failures, failures
    assert max(times) < max(PATIENCE_SECONDS, SLOWDOWN * alone), (alone, times)


def test_strangers_do_not_push_out_a_session_that_is_in_use():
    table = SessionTable(Limits(sessions=4))
    used = table.open()
    table.find(used.id)
    for _ in range(20):
        table.open()
    assert len(table) == 4 and table.find(used.id) is used


def test_the_connections_of_an_attack_are_closed(running):
    """More connections than there may be: the oldest that sent nothing whole are closed, a new one is answered."""
    with ExitStack() as stack:
        held = [
            stack.enter_context(socket.create_connection(("127.0.0.1", running.server.port), 5)) for _ in range(400)
        ]
        for connection in held:
            with suppress(OSError):
                connection.sendall(b"GET / HTTP/1.1\r\n")
        with Browser(running.server.port) as browser:
            assert browser.request("GET", "/healthz")[0] == 200
        held[0].settimeout(5)
        with pytest.raises((ConnectionError, AssertionError)):
            assert held[0].recv(10) != b"", "closed"
