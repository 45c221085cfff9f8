"""The live view, tested through real requests: newest image first, no lag, nothing left behind."""

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
from contextlib import contextmanager
from fractions import Fraction
from functools import partial

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient
from video_clips import record_with_audio

from vitreous.cli import run
from vitreous.cli.live import live as live_command
from vitreous.errors import InputError
from vitreous.pretrained.load import load
from vitreous.video.camera import Camera, LiveFrame, VideoFileSource, fit_long_side
from vitreous.video.decode import read_frames
from vitreous.web.explorer.explorer import Explorer
from vitreous.web.explorer.routes import create_explorer_app
from vitreous.web.latest_value import LatestValue
from vitreous.web.serve import ExplorerServer
from vitreous.web.server import AppServer
from vitreous.web.sessions import LIVE_IMAGES, StoredImage

ADDRESS = "http://127.0.0.1:8765"


class Noise:
    """A camera that gives a number's image at 50 a second."""

    name = "noise"

    def __init__(self):
        self.given, self.closed = 0, False

    def frames(self, stop):
        while not stop.wait(0.02):
            self.given += 1
            yield LiveFrame(np.full((36, 64, 3), self.given % 256, np.uint8), time.monotonic())

    def close(self):
        self.closed = True


@contextmanager
def showing(small_classifier, source):
    """A client of an app with a live source, of which nothing may be left at the end."""
    before, explorer = threads(), Explorer({"small": small_classifier}, live=source)
    with ExplorerServer(explorer, AppServer(port=0)), TestClient(create_explorer_app(explorer), ADDRESS) as client:
        yield client, explorer
    assert threads() <= before


def threads():
    """The threads of web apps, those of other tests among them."""
    return {one for one in threading.enumerate() if one.name in ("live camera", "web server", "web jobs")}


def newest(client, after=0):
    response = client.get(f"/api/live?after={after}")
    assert response.status_code == 200, response.text
    return response.json()


def until_it_ends(client):
    after = 0
    for _ in range(200):
        found = newest(client, after)
        if found["number"] is None:
            return after, found
        after = found["number"]
    raise AssertionError("the source did not end")


def test_each_request_gets_the_newest_image_and_old_ones_are_dropped(small_classifier):
    with showing(small_classifier, source := Noise()) as (client, explorer):
        assert client.get("/api/start").json()["live"] == "noise"
        first = newest(client)
        assert (first["width"], first["height"], first["name"]) == (64, 36, "noise") and first["age_ms"] < 2000
        time.sleep(0.5)
        second = newest(client, first["number"])
        assert second["number"] >= first["number"] + 5 and source.given - second["number"] < 20
        shown = np.asarray(Image.open(io.BytesIO(client.get(f"/api/images/{second['image']}/pixels").content)))
        assert (shown == second["number"] % 256).all(), "the image is the one with this number"
        job = client.post("/api/jobs", json={"image": second["image"]})
        assert job.status_code == 202
        seen = [newest(client)["image"] for _ in range(12) if not time.sleep(0.03)]
        (session,) = explorer.sessions._sessions.values()
        assert len(session.images) == LIVE_IMAGES and seen[-1] in session.images
    assert source.closed


def test_images_of_a_browsers_camera_do_not_fill_the_session(small_classifier):
    explorer = Explorer({"small": small_classifier})
    with TestClient(create_explorer_app(explorer), ADDRESS) as client:

        def upload(value, query):
            stream = io.BytesIO()
            Image.fromarray(np.full((8, 8, 3), value, np.uint8)).save(stream, "JPEG")
            return client.post(f"/api/images{query}", content=stream.getvalue()).json()["image"]

        kept = upload(200, "")
        last = [upload(value, "?live=1") for value in range(0, 100, 10)][-1]
        (session,) = explorer.sessions._sessions.values()
        assert len(session.images) == LIVE_IMAGES + 1 and kept in session.images and last in session.images


def test_a_video_plays_at_its_own_rate_and_ends(small_classifier, clip):
    with showing(small_classifier, VideoFileSource(clip)) as (client, explorer):
        started = time.monotonic()
        last, end = until_it_ends(client)
        assert end == {"number": None, "has_ended": True, "error": ""} and last == explorer.live.frames.count == 25
        assert time.monotonic() - started < 5
        assert newest(client)["number"] == 25, "whoever comes later sees the last image"


def test_a_truncated_video_ends_with_what_is_wrong(small_classifier, tmp_path):
    broken = record_with_audio(tmp_path / "clip.mkv", "aac", seconds=2)
    broken.write_bytes(broken.read_bytes()[: broken.stat().st_size * 3 // 10])
    with showing(small_classifier, VideoFileSource(broken)) as (client, _):
        assert "is truncated after" in until_it_ends(client)[1]["error"]


def test_a_source_that_fails_leaves_the_service_alive(small_classifier):
    class Broken(Noise):
        def frames(self, stop):
            raise InputError("noise gives no more images: check that it is still connected")
            yield

    class Wrong(Noise):
        def frames(self, stop):
            raise ZeroDivisionError("/secret/path")
            yield

    for source, words in ((Broken(), "still connected"), (Wrong(), "the log of the server")):
        with showing(small_classifier, source) as (client, _):
            assert words in newest(client)["error"] and client.get("/healthz").status_code == 200


def test_without_a_source_there_is_nothing_live(small_classifier):
    explorer = Explorer({"small": small_classifier})
    with TestClient(create_explorer_app(explorer), ADDRESS) as client:
        response = client.get("/api/live")
        assert response.status_code == 404 and "vitreous live" in response.json()["error"]
        assert client.get("/api/start").json()["live"] is None


def test_only_the_page_may_use_the_camera(small_classifier):
    with TestClient(create_explorer_app(Explorer({"small": small_classifier})), ADDRESS) as client:
        assert "camera=(self)" in client.get("/").headers["permissions-policy"]
        for path in ("/static/explorer.js", "/api/start", "/nowhere"):
            policy = client.get(path).headers["permissions-policy"]
            assert "microphone=()" in policy and "camera=()" in policy, path


def test_the_address_begins_with_what_the_command_says(small_classifier):
    server = ExplorerServer(
        Explorer({"small": small_classifier}), AppServer(port=0), {"live": "server", "target": "a b"}
    )
    assert server.url.endswith("/#live=server&target=a+b")
    server.server.close()


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


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--method", "rolout"], "did you mean 'rollout'"),
        (["--method", "rollout", "--layer", "1"], "doesn't use the option layer"),
        (["--target", "cow"], "no class 'cow'"),
        (["--layout", "heads"], "live has no --layout any more"),
        (["--smooth=0"], "live has no --smooth any more"),
    ],
    ids=str,
)
def test_bad_requests_for_a_live_view(options, words, tiny_model, clip, capsys):
    assert run(["live", str(tiny_model), "--source", str(clip), "--port", "0", *options]) == 2
    stderr = capsys.readouterr().err
    assert words in stderr and "Traceback" not in stderr and stderr.count("\n") == 1


def test_the_command_passes_on_what_it_was_told(tiny_model, clip, monkeypatch):
    given = {}
    monkeypatch.setattr("vitreous.web.serve.serve", lambda models, **keywords: given.update(keywords, models=models))
    assert live_command(str(tiny_model), source=clip, method="gradient-rollout", target="red - blue", port=0) == 0
    assert list(given["models"]) == [tiny_model.name], "as serve calls it"
    assert given["live"].name == "clip.mp4" and given["precision"] == "auto"
    assert given["view"] == {"live": "server", "method": "gradient-rollout", "target": "red", "contrast": "blue"}
    given["server"].close()
    assert live_command(str(tiny_model), layer=1, head=0, port=0) == 0
    assert given["live"] is None and given["view"] == {"live": "browser", "method": "attention", "layer": 1, "heads": 0}
    given["server"].close()


def test_precision_is_that_of_the_models(tiny_model):
    image_u8 = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    exact, rough = (export(load(tiny_model), precision, image_u8) for precision in ("fp32", "bf16"))
    assert exact != rough and np.abs(scores_of(exact) - scores_of(rough)).max() < 0.02


def scores_of(result):
    return np.array([score for _, score in sorted(result.description["prediction"]["scores"])])


def export(classifier, precision, image_u8):
    explorer = Explorer({"tiny": classifier}, precision=precision)
    explorer.queue.start()
    session = explorer.sessions.open()
    job = explorer.start_attention(session, 0, StoredImage("noise", image_u8))
    for _ in range(200):
        if job.state.is_final:
            break
        time.sleep(0.05)
    explorer.queue.close()
    assert job.result is not None, job.state
    return job.result


def test_ctrl_c_ends_the_view_and_leaves_no_process(tiny_model, clip):
    command = [sys.executable, "-u", "-m", "vitreous", "live", str(tiny_model), "--source", str(clip), "--loop",
               "--port", "0"]  # fmt: skip
    # A shell that starts the tests in the background has them, and all they start, ignore Ctrl-C.
    listening = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=listening
    ) as process:
        url = next(found[0] for line in process.stderr if (found := re.search(r"http://\S+", line)))
        assert url.endswith("#live=server&method=attention")
        with urllib.request.urlopen(url.partition("#")[0] + "api/live", timeout=20) as answer:
            assert json.load(answer)["name"] == "clip.mp4"
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)  # PyTorch alone may take seconds to end on a busy machine.
        assert process.returncode == 0, err
    assert "Traceback" not in err
