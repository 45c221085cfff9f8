"""Clips in the explorer: every frame is the one that `vitreous video` writes, in whatever order they are asked for."""

import gc
import io
import time
from fractions import Fraction

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient
from video_clips import moving_square, record_with_audio

from vitreous.clips.explain import explain_video
from vitreous.errors import InputError
from vitreous.pretrained.fingerprint import weights_fingerprint
from vitreous.video.decode import read_frames
from vitreous.video.encode import write_video
from vitreous.web.clips import classes as clip_classes
from vitreous.web.clips.stored_clip import StoredClip
from vitreous.web.explorer.explorer import Explorer
from vitreous.web.explorer.routes import create_explorer_app
from vitreous.web.sessions import Limits

ADDRESS = "http://127.0.0.1:8765"


@pytest.fixture(scope="module")
def explorer(small_classifier):
    made = Explorer({"small": small_classifier}, None, Limits(clip_bytes=3_000_000, clip_frames=900, clip_seconds=40))
    made.queue.start()
    yield made
    made.queue.close()


def uploaded(client, path):
    response = client.post("/api/clips", content=path.read_bytes())
    assert response.status_code == 201, response.text
    return response.json()


def run_job(client, response):
    assert response.status_code == 202, response.text
    job, after, end = response.json()["job"], 0, time.monotonic() + 30
    while time.monotonic() < end:
        status = client.get(f"/api/jobs/{job}?after={after}").json()
        after = status["number"]
        if status["state"] not in ("queued", "running"):
            return status, client.get(f"/api/jobs/{job}/data").content
    raise AssertionError("the job did not end")


def pixels_of(client, image):
    return np.asarray(Image.open(io.BytesIO(client.get(f"/api/images/{image}/pixels").content)).convert("RGB"))


@pytest.mark.parametrize("name", ["clip.mp4", "clip.webm", "clip.mov", "clip.gif"])
def test_frames_are_those_that_the_command_writes(name, client, small_classifier, tmp_path):
    path = tmp_path / name
    write_video(path, moving_square(21), Fraction(10))
    clip = uploaded(client, path)
    explain_video(small_classifier, path, tmp_path / "frames", format="png", opacity=0.0, legend=False, smooth=0.0)
    written = [np.asarray(Image.open(one)) for one in sorted((tmp_path / "frames").glob("*.png"))]
    assert len(clip["times"]) == len(written) == 21 and (clip["width"], clip["height"]) == (64, 36)
    assert clip["times"] == pytest.approx(np.arange(21) / 10, abs=1e-3) and clip["end"] == pytest.approx(2.1, abs=1e-3)
    for number in (20, 0, 7, 6, 5, 19, 1):
        assert np.array_equal(pixels_of(client, f"{clip['clip']}-{number}"), written[number]), number


@pytest.mark.parametrize("name", ["variable-rate-rotated-180.mp4", "no-duration.webm", "odd-314x273.gif", "bikes.mp4"])
def test_frames_of_real_clips_in_any_order(name, shared):
    path = shared / "video" / name
    clip = StoredClip(path.read_bytes(), Limits())
    frames = {}
    for number, frame in enumerate(read_frames(path)):
        assert frame.time_seconds == clip.times[number]
        if number % 11 == 5 or number >= len(clip.times) - 2:
            frames[number] = frame.image_u8
    for number in np.random.default_rng(0).permutation(list(frames)):
        assert np.array_equal(clip.frame(int(number)), frames[number]), number
    assert clip.stored_bytes < 60 << 20


def test_frames_after_a_seek_are_the_same(tmp_path):
    """Decoding starts at a key frame only from the tenth second on."""
    path = tmp_path / "long.mp4"
    write_video(path, moving_square(180, (48, 64)), Fraction(10))
    expected = [frame.image_u8 for frame in read_frames(path)]
    clip = StoredClip(path.read_bytes(), Limits())
    for number in (179, 120, 119, 140, 0, 175):
        assert np.array_equal(clip.frame(number), expected[number]), number
    with pytest.raises(InputError, match="no frame 180: there are 180"):
        clip.frame(180)


def test_a_frame_is_explained_like_any_image(client, explorer, small_classifier, clip, png):
    found = uploaded(client, clip)
    image = f"{found['clip']}-3"
    described = client.get(f"/api/images/{image}").json()
    assert (described["width"], described["height"], described["truth"]) == (64, 36, None)
    assert described["seconds"] == found["times"][3] == pytest.approx(3 / 25)
    status, _ = run_job(client, client.post("/api/jobs", json={"image": image}))
    expected = small_classifier(list(read_frames(clip))[3].image_u8)
    assert status["result"]["prediction"]["scores"] == [[one, pytest.approx(score)] for one, score in expected.scores]
    for wrong in ("99", "-1", "x", "٣", "1/..", "99999999999"):
        assert client.get(f"/api/images/{found['clip']}-{wrong}/pixels").status_code in (400, 404)
    assert client.get(f"/api/clips/{found['clip']}").json() == found
    with TestClient(create_explorer_app(explorer), ADDRESS) as other:
        assert other.post("/api/images", content=png).status_code == 201
        assert other.get(f"/api/clips/{found['clip']}").status_code == 404
        assert other.get(f"/api/images/{image}").status_code == 404


@pytest.mark.parametrize("most", [240, 10])
def test_classes_over_time_are_those_of_the_frames(most, client, small_classifier, clip, monkeypatch, tmp_path):
    monkeypatch.setattr(clip_classes, "MAX_CLASS_FRAMES", most)
    found = uploaded(client, clip)
    status, data = run_job(client, client.post(f"/api/clips/{found['clip']}/classes"))
    result, every = status["result"], 1 if most == 240 else 3
    key = client.get(f"/api/fingerprints/{result['weights']}").json()
    assert key["fingerprint"] == weights_fingerprint(small_classifier)
    assert result["every"] == every and result["frames"] == list(range(0, 25, every))
    frames = list(read_frames(clip))
    values = np.frombuffer(data, np.float32).reshape(len(result["classes"]), -1)
    for column, number in enumerate(result["frames"]):
        scores = dict(small_classifier(frames[number].image_u8).scores)
        assert [scores[name] for name in result["classes"]] == pytest.approx(list(values[:, column]), abs=1e-5)
    written = explain_video(small_classifier, clip, tmp_path / "o.mp4", every=every)
    assert result["pooled"][0] == [
        "mean of logits", written.predictions[0].label, pytest.approx(written.predictions[0].score, abs=1e-4)
    ]  # fmt: skip
    assert [one[2] for one in result["segments"]] == [one.label for one in written.segments]


def test_the_classes_of_a_clip_can_be_cancelled(client, small_classifier, clip):
    found = uploaded(client, clip)
    hook = small_classifier.model.register_forward_pre_hook(lambda *_: time.sleep(0.3))
    job = client.post(f"/api/clips/{found['clip']}/classes").json()["job"]
    seen = 0
    while seen == 0:
        status = client.get(f"/api/jobs/{job}?after=2").json()
        assert status["state"] in ("queued", "running") and status["total"] in (None, 25)
        seen = status["done"]
    assert client.delete(f"/api/jobs/{job}").status_code == 204
    hook.remove()
    assert client.get(f"/api/jobs/{job}").status_code == 404


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "this file is empty"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "this file can't be read as a video"),
        (b"#EXTM3U\n#EXTINF:1,\n/etc/passwd\n", "this file can't be read as a video"),
        (b"ffconcat version 1.0\nfile /etc/passwd\n", "this file can't be read as a video"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
        (b"GIF89a" + bytes(20), "this file"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_what_is_no_clip_is_refused_in_one_line(data, words, client):
    response = client.post("/api/clips", content=data)
    message = response.json()["error"]
    assert response.status_code == 400 and words in message and "/tmp" not in message and "\n" not in message


def test_limits_of_clips(client, clip, small_classifier):
    assert client.post("/api/clips", content=bytes(3_000_001)).status_code == 413
    data = clip.read_bytes()
    for limits, words in (
        (Limits(clip_frames=24), "more than 24 frames"),
        (Limits(clip_seconds=0.5), "longer than 0.5 s"),
        (Limits(clip_pixels=2000), "64 x 36 pixels, the limit is 2,000"),
        (Limits(job_seconds=0), "took longer than 0 s"),
    ):
        with pytest.raises(InputError, match=words):
            StoredClip(data, limits)


def test_a_clip_that_lies_about_its_length_is_stopped_while_it_is_decoded(shared):
    data = (shared / "video" / "no-duration.webm").read_bytes()
    with pytest.raises(InputError, match="more than 7 frames"):
        StoredClip(data, Limits(clip_frames=7))


def test_a_truncated_clip_is_shown_as_far_as_it_goes(client, tmp_path):
    path = record_with_audio(tmp_path / "clip.mkv", "aac", seconds=2)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 3 // 10])
    found = uploaded(client, path)
    assert len(found["times"]) > 3 and any("truncated after" in note for note in found["notes"])
    assert pixels_of(client, f"{found['clip']}-{len(found['times']) - 1}").shape == (36, 64, 3)
    status, _ = run_job(client, client.post(f"/api/clips/{found['clip']}/classes"))
    assert status["state"] == "done" and len(status["result"]["frames"]) == len(found["times"])


def test_the_file_goes_with_its_session(client, explorer, clip):
    found = uploaded(client, clip)
    session = explorer.sessions.find(client.cookies["vitreous-session-8765"])
    path = session.clips[found["clip"]].path
    assert path.is_file() and session.stored_bytes >= path.stat().st_size
    del session
    client.delete("/api/session")
    gc.collect()
    assert not path.exists()


def test_the_file_of_what_is_no_clip_goes_too(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(InputError):
        StoredClip(b"no clip", Limits())
    gc.collect()
    assert not list(tmp_path.iterdir())


def test_a_session_keeps_what_fits():
    from vitreous.web.sessions import SessionTable

    class Clip:
        def __init__(self, key):
            self.key, self.stored_bytes = key, 600

    session = SessionTable(Limits(session_bytes=1000)).open()
    for key in ("a", "b", "c"):
        session.add_clip(Clip(key))
    assert list(session.clips) == ["c"]
