"""A live view, tested through real requests: newest image first, no lag, viewers independent, nothing left behind."""

import io
import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from contextlib import contextmanager, suppress
from fractions import Fraction
from functools import partial

import numpy as np
import pytest
from PIL import Image
from video_clips import record_with_audio

from vitreous.callbacks import Callback
from vitreous.cli import run
from vitreous.errors import InputError
from vitreous.model.prediction import Prediction
from vitreous.render.theme import LABEL_INK, LABEL_MUTED, LABEL_PAPER
from vitreous.video.camera import Camera, LiveFrame, VideoFileSource, fit_long_side
from vitreous.video.decode import read_frames
from vitreous.web import app
from vitreous.web.latest_value import LatestValue
from vitreous.web.live import LiveFrameResult, LiveView
from vitreous.web.server import AppServer

SCORES = (("dog", 0.87), ("cat", 0.11), ("cow", 0.02))


class Noise:
    """A camera that gives large images, which compress badly, at 50 a second."""

    name = "noise"

    def __init__(self):
        self.image = np.random.default_rng(0).integers(0, 256, (480, 640, 3), np.uint8)
        self.closed = False

    def frames(self, stop):
        while not stop.wait(0.02):
            yield LiveFrame(self.image, time.monotonic())

    def close(self):
        self.closed = True


def render(frame):
    return LiveFrameResult(frame.image_u8, Prediction(SCORES), "stand-in")


class Started(Callback):
    """Notices that the view has announced its address."""

    def __init__(self):
        self.event = threading.Event()

    def on_note(self, text):
        self.event.set()


@contextmanager
def showing(source, render=render):
    """A live view on a thread, ended at the end, after which nothing may be left of it."""
    view, results, started = LiveView(source, render, AppServer(port=0), "model"), [], Started()
    thread = threading.Thread(target=lambda: results.append(view.run(started)), name="live test")
    thread.start()
    assert started.event.wait(5)
    try:
        yield view, results
    finally:
        view.stop.set()
        thread.join(5)
    assert results and not left_over()


def left_over():
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("live")]


def get(view, path, **headers):
    request = urllib.request.Request(view.server.url + path.lstrip("/"), headers=headers)
    with urllib.request.urlopen(request, timeout=5) as answer:
        return answer.headers.get_content_type(), answer.read()


def state(view):
    return json.loads(get(view, "/state")[1])


def until(condition, seconds=5.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "this did not come about in time"
        time.sleep(0.01)


def streamed(view, count):
    """The first images of the stream, as a browser takes them apart."""
    with urllib.request.urlopen(view.server.url + "stream", timeout=5) as answer:
        boundary = answer.headers.get_boundary().encode()
        assert answer.readline().strip() == b"--" + boundary
        for _ in range(count):
            head = dict(line.split(b": ") for line in iter(lambda: answer.readline().strip(), b""))
            assert head[b"Content-Type"] == b"image/jpeg"
            yield Image.open(io.BytesIO(answer.read(int(head[b"Content-Length"]))))
            assert (answer.readline(), answer.readline().strip()) == (b"\r\n", b"--" + boundary)


def connected(view, path="/stream", receive_bytes=None):
    """A viewer that asks for the stream, and does nothing more."""
    viewer = socket.socket()
    if receive_bytes:
        viewer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    viewer.connect((view.server.host, view.server.port))
    viewer.sendall(f"GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode())
    return viewer


def test_images_and_numbers_are_served(clip):
    with showing(VideoFileSource(clip, loop=True)) as (view, _):
        images = list(streamed(view, 3))
        for image in images:
            assert (image.format, image.size) == ("JPEG", (64, 36))
            image.load()
        assert len({image.tobytes() for image in images}) == 3, "the square moves"
        kind, data = get(view, "/frame.jpg")
        assert kind == "image/jpeg" and Image.open(io.BytesIO(data)).size == (64, 36)
        found = state(view)
        assert found["scores"] == [list(one) for one in SCORES] and found["caption"] == "stand-in"
        assert found["received"] >= found["rendered"] >= 3 and found["dropped"] == found["received"] - found["rendered"]
        assert 0 < found["latency_ms"] < 1000
        until(lambda: state(view)["fps"] > 10)


def test_the_page_loads_nothing_from_elsewhere_and_shows_names_as_text(clip):
    with showing(VideoFileSource(clip, loop=True)) as (view, _):
        kind, data = get(view, "/")
        assert kind == "text/html" and not re.search(rb"https?:", data)
        links = re.findall(r'(?:src|href)="(?!data:)([^"]+)"', data.decode())
        files = [get(view, link)[1] for link in links]
        assert {link.rpartition(".")[2] for link in links} == {"css", "js"} and all(files)
        assert any(b"/stream" in file for file in files) and not any(re.search(rb"https?:", file) for file in files)
        assert not any(b"innerHTML" in file for file in files), "names are set as text"
        assert (state(view)["source"], state(view)["model"]) == ("clip.mp4", "model")
        with urllib.request.urlopen(view.server.url, timeout=5) as answer:
            policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy


def test_the_page_has_the_colors_of_the_labels():
    text = (app.PAGES / "live.css").read_text()
    assert f"--paper: {LABEL_PAPER}; --ink: {LABEL_INK}; --muted: {LABEL_MUTED};" in text


def test_a_video_plays_at_its_own_rate_and_ends(clip):
    with showing(VideoFileSource(clip)) as (view, results):
        started = time.monotonic()
        last = list(streamed(view, 5))[-1]
        until(lambda: results)
        assert 0.5 < time.monotonic() - started < 3 and last.size == (64, 36)
    (summary,) = results
    assert summary.received == 25 and summary.rendered + summary.dropped == 25 and summary.rendered >= 5
    assert not summary.is_interrupted and summary.error is None and summary.latency_ms is not None


def test_a_slow_model_drops_frames_and_does_not_lag(clip):
    ages = []

    def slow(frame):
        ages.append(time.monotonic() - frame.captured_seconds)
        time.sleep(0.2)
        return render(frame)

    with showing(VideoFileSource(clip, loop=True), slow) as (view, results):
        until(lambda: view.feed.images.count >= 6)
        assert state(view)["latency_ms"] < 400
    summary = results[0]
    assert summary.dropped > 2 * summary.rendered and summary.latency_ms < 400 and np.median(ages) < 0.1


def test_a_viewer_that_stops_reading_does_not_slow_others():
    with showing(Noise()) as (view, _), connected(view, receive_bytes=4096):
        until(lambda: view.feed.viewers == 1 and view.feed.images.count > 10)
        before = view.feed.images.count
        assert sum(image.size == (640, 480) for image in streamed(view, 10)) == 10
        assert view.feed.images.count >= before + 9
        started = time.monotonic()
        view.stop.set()
        until(lambda: not left_over() or left_over() == ["live test"])
        assert time.monotonic() - started < 2
    assert view.source.closed


def test_a_viewer_that_stops_reading_is_disconnected_after_a_while(monkeypatch):
    monkeypatch.setattr(app, "STALLED_SECONDS", 0.3)
    with showing(Noise()) as (view, _), connected(view, receive_bytes=4096) as viewer:
        until(lambda: view.feed.viewers == 1)
        until(lambda: view.feed.viewers == 0)
        viewer.settimeout(5)
        with suppress(ConnectionResetError):
            while viewer.recv(65_536):  # The rest of what was sent comes, and then the end.
                pass


def test_a_viewer_that_disconnects_is_no_longer_counted():
    with showing(Noise()) as (view, _):
        with connected(view) as viewer:
            assert viewer.recv(100)
            until(lambda: view.feed.viewers == 1)
        until(lambda: view.feed.viewers == 0)


def test_one_viewer_too_many_is_refused(monkeypatch):
    monkeypatch.setattr(app, "MAX_VIEWERS", 1)
    with showing(Noise()) as (view, _), connected(view):
        until(lambda: view.feed.viewers == 1)
        with pytest.raises(urllib.error.HTTPError) as refused:
            get(view, "/stream")
        assert refused.value.code == 503 and b"1 viewers" in refused.value.read()
        refused.value.close()


@pytest.mark.parametrize(
    ("path", "host", "code"),
    [("/", "evil.example", 403), ("/", "[", 403), ("/", "192.168.0.7", 403), ("/etc/passwd", "localhost", 404)],
)
def test_requests_that_are_refused(path, host, code):
    with showing(Noise()) as (view, _), pytest.raises(urllib.error.HTTPError) as refused:
        get(view, path, Host=f"{host}:{view.server.port}")
    assert refused.value.code == code
    refused.value.close()


def test_a_model_that_fails_ends_everything():
    def fail(frame):
        raise InputError("there is no class 'dgo'")

    source = Noise()
    with pytest.raises(InputError, match="dgo"):
        LiveView(source, fail, AppServer(port=0)).run()
    assert source.closed and not left_over()


def test_a_truncated_video_ends_with_an_error(tmp_path):
    broken = record_with_audio(tmp_path / "clip.mkv", "aac", seconds=2)
    broken.write_bytes(broken.read_bytes()[: broken.stat().st_size * 3 // 10])
    summary = LiveView(VideoFileSource(broken), render, AppServer(port=0)).run()
    assert "is truncated after" in summary.error and summary.rendered > 3 and not left_over()


def test_frames_of_a_video_come_on_time_and_upright(shared):
    path = shared / "video" / "variable-rate-rotated-180.mp4"
    stop, start, frames = threading.Event(), time.monotonic(), []
    for frame in VideoFileSource(path, 320).frames(stop):
        frames.append(frame)
        if len(frames) == 8:
            stop.set()
    intended = [float(frame.time_seconds) for frame, _ in zip(read_frames(path), range(8), strict=False)]
    taken = [frame.captured_seconds - start for frame in frames]
    assert len(frames) == 8 and all(0 <= t - due < 0.5 for t, due in zip(taken, intended, strict=True))
    assert frames[0].image_u8.shape == (180, 320, 3)
    sideways = next(VideoFileSource(shared / "video" / "rotated-sound.mp4").frames(threading.Event()))
    assert sideways.image_u8.shape == (480, 270, 3)


def test_pixels_become_square():
    assert fit_long_side((256, 340), 640, Fraction(1024, 765)) == (256, 455)
    with pytest.raises(InputError, match="size 3"):
        fit_long_side((100, 100), 3)


def test_latest_value_keeps_only_the_newest():
    latest = LatestValue[str]()
    assert latest.wait(0, 0.001) is None and latest.newest is None
    for item in ("a", "b", "c"):
        latest.put(item)
    assert latest.wait(0, 0.001) == (3, "c") and latest.wait(3, 0.001) is None
    latest.put("d")
    latest.finish(ValueError("broken"))
    assert latest.wait(3, 0.001) == (4, "d") and not latest.has_ended(4)
    with pytest.raises(ValueError, match="broken"):
        latest.wait(4, 0.001)


def test_ports_and_hosts_that_can_not_be_used(clip, capsys):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert run(["live", "no-model", "--source", str(clip), "--port", str(port)]) == 2
        stderr = capsys.readouterr().err
        another = int(re.fullmatch(rf"vitreous: port {port} is in use: take another with --port (\d+)\n", stderr)[1])
    AppServer(port=another).close()
    for host, port, words in [("127.0.0.1", 70_000, "port 70000"), ("192.0.2.1", 0, "host '192.0.2.1'")]:
        with pytest.raises(InputError, match=words):
            AppServer(host, port)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--camera", "9"], "there is no camera 9: "),
        (["--camera", "/dev/null"], "camera /dev/null can't be opened"),
        (["--source", "missing.mp4"], "missing.mp4"),
        (["--camera", "0", "--source", "a.mp4"], "can't both"),
        (["--loop"], "--loop"),
    ],
)
@pytest.mark.skipif(sys.platform != "linux", reason="cameras are called otherwise elsewhere")
def test_sources_that_can_not_be_opened(arguments, words, capsys):
    assert run(["live", "no-model", *arguments]) == 2
    stderr = capsys.readouterr().err
    assert words in stderr and stderr.count("\n") == 1 and "Traceback" not in stderr


def test_a_camera_is_read_until_stopped(monkeypatch):
    monkeypatch.setattr("vitreous.video.camera.CAPTURE_FORMATS", {sys.platform: "lavfi"})
    camera, stop, frames = Camera("testsrc=size=1280x720:rate=25", 320), threading.Event(), []
    for frame in camera.frames(stop):
        frames.append(frame)
        if len(frames) == 3:
            stop.set()
    camera.close()
    assert len(frames) == 3 and all(frame.image_u8.shape == (180, 320, 3) for frame in frames)
    assert frames[0].captured_seconds < frames[2].captured_seconds and frames[0].image_u8.std() > 50


def test_a_missing_camera_names_the_existing_ones(monkeypatch):
    monkeypatch.setattr("vitreous.video.camera.list_cameras", lambda: [("/dev/video4", "Webcam")])
    with pytest.raises(InputError, match=r"there are /dev/video4 \(Webcam\)"):
        Camera("9")


def test_ctrl_c_ends_the_view_within_a_second_and_leaves_no_process(tiny_model, clip):
    command = [
        sys.executable,
        "-u",
        "-m",
        "vitreous",
        "live",
        str(tiny_model),
        "--source",
        str(clip),
        "--loop",
        "--port",
        "0",
    ]
    # A shell that starts the tests in the background has them, and all they start, ignore Ctrl-C.
    listening = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=listening
    ) as process:
        url = next(found[0] for line in process.stderr if (found := re.search(r"http://\S+", line)))
        with urllib.request.urlopen(url + "stream", timeout=10) as answer:
            answer.read(1000)
            process.send_signal(signal.SIGINT)
            started = time.monotonic()
            out = process.stdout.readline()
            assert time.monotonic() - started < 1.5
            _, err = process.communicate(timeout=20)  # PyTorch alone may take seconds to end on a busy machine.
        assert process.returncode == 0, err
    assert re.search(r"^clip.mp4: \d+ frames received, \d+ shown, \d+ dropped, median latency \d+ ms", out)
    assert "Traceback" not in err


def test_the_command_shows_a_model(tiny_model, clip, capsys):
    assert run(["live", str(tiny_model), "--source", str(clip), "--port", "0", "--method", "rollout"]) == 0
    out, err = capsys.readouterr()
    assert re.fullmatch(r"clip.mp4: 25 frames received, \d+ shown, \d+ dropped, median latency .* images/s\n", out), err
    assert run(["live", str(tiny_model), "--source", str(clip), "--port", "0", "--method", "rolout"]) == 2
    assert "did you mean 'rollout'" in capsys.readouterr().err and not left_over()
