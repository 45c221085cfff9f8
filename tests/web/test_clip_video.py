"""The video of a clip from the page: what `vitreous video` writes, while others have their turn."""

import threading
import time

import pytest
from explorer_page import drop, python_lines
from page_driver import drop_file, expect, wait_for_text
from starlette.testclient import TestClient
from test_explorer_clips import run_job, uploaded
from video_clips import write_wide_pixels

from vitreous.callbacks import Progress
from vitreous.clips.explain import explain_video
from vitreous.pretrained.load import load
from vitreous.video.decode import read_frames
from vitreous.web.explorer.explorer import Explorer
from vitreous.web.explorer.routes import create_explorer_app
from vitreous.web.jobs import stepwise
from vitreous.web.jobs.memory import size_of_model
from vitreous.web.jobs.queue import Job, JobQueue, JobResult
from vitreous.web.jobs.stepwise import Stepwise
from vitreous.web.serve import ExplorerServer
from vitreous.web.server import AppServer
from vitreous.web.sessions import Limits


@pytest.fixture(scope="module")
def explorer(small_classifier):
    made = Explorer({"small": small_classifier}, None, Limits())
    made.queue.start()
    yield made
    made.queue.close()


@pytest.fixture(scope="module")
def address(tiny_model):
    with ExplorerServer(Explorer({"tiny": load(tiny_model)}), AppServer(port=0)) as server:
        yield server.url


@pytest.mark.parametrize(
    ("fields", "keywords"),
    [
        ({"method": "rollout"}, {"method": "rollout"}),
        (
            {"method": "attention", "options": {"layer": 0, "head": 1}, "query": [30, 20], "opacity": 0.5},
            {"method": "attention", "layer": 0, "head": 1, "query": (30, 20), "opacity": 0.5},
        ),
        ({"method": "gradient-rollout", "target": "class1"}, {"method": "gradient-rollout", "target": "class1"}),
    ],
    ids=lambda value: value["method"],
)
def test_it_is_that_of_the_command(fields, keywords, client, small_classifier, clip, tmp_path):
    found = uploaded(client, clip)
    if "target" in fields:
        fields["target"] = keywords["target"] = small_classifier.class_names[1]
    status, data = run_job(client, client.post(f"/api/clips/{found['clip']}/video", json=fields))
    assert status["state"] == "done", status
    (tmp_path / "page.mp4").write_bytes(data)
    batch_size = stepwise.images_per_step(size_of_model(small_classifier))  # other batches may round otherwise
    explain_video(small_classifier, clip, tmp_path / "command.mp4", batch_size=batch_size, **keywords)
    pairs = zip(*(read_frames(tmp_path / name) for name in ("page.mp4", "command.mp4")), strict=True)
    assert [(one.image_u8 == other.image_u8).all() for one, other in pairs] == [True] * status["result"]["frames"]
    assert status["result"]["frames"] == 25


@pytest.fixture
def wide(tmp_path):
    return write_wide_pixels(tmp_path / "wide.mp4")


def test_a_point_of_wide_pixels_is_that_of_the_page(client, small_classifier, wide, tmp_path):
    found = uploaded(client, wide)
    assert (found["height"], found["width"], found["is_resized"]) == (72, 171, True)
    fields = {"method": "attention", "query": [100, 40]}
    status, data = run_job(client, client.post(f"/api/clips/{found['clip']}/video", json=fields))
    assert status["state"] == "done", status
    (tmp_path / "page.mp4").write_bytes(data)
    explain_video(small_classifier, wide, tmp_path / "command.mp4", query=(100 * 128 / 171, 40))
    pairs = zip(*(read_frames(tmp_path / name) for name in ("page.mp4", "command.mp4")), strict=True)
    assert all((one.image_u8 == other.image_u8).all() for one, other in pairs)


def test_python_makes_the_map_of_a_frame_of_wide_pixels(open_page, wide, monkeypatch):
    page = open_page()
    drop_file(page, wide.read_bytes(), "wide.mp4", "video/mp4")
    wait_for_text(page, "#clip-time", "frame 1 of 3")
    monkeypatch.chdir(wide.parent)
    names = {}
    exec(python_lines(page), names)
    assert names["frame"].shape == (72, 171, 3) and (wide.parent / "map.png").is_file()


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"method": "rolout"}, "rollout"),
        ({"method": "rollout", "options": {"n_samples": 5}}, "n_samples"),
        ({"method": "smoothgrad", "options": {"n_samples": 5000}}, "the limit is 4096"),
        ({"method": "gradient-rollout", "target": "no such class"}, "no such class"),
        ({"opacity": 2}, "opacity"),
        ({"query": [1, 2, 3]}, "query"),
        ({"query": [1000, 20]}, "1000"),
        ({"model": 7}, "7"),
        ({"speed": 3}, "speed"),
        ({"method": "smoothgrad", "options": {"n_samples": "5000"}}, "the limit is 4096"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_what_it_cannot_do_is_refused_in_one_line(fields, words, client, clip):
    found = uploaded(client, clip)
    response = client.post(f"/api/clips/{found['clip']}/video", json=fields)
    message = response.json().get("error") or run_job(client, response)[0]["message"]
    assert words in message and "\n" not in message and "/tmp" not in message


def test_a_clip_of_somebody_else_is_not_found(client, explorer, clip, png):
    found = uploaded(client, clip)
    with TestClient(create_explorer_app(explorer), "http://127.0.0.1:8765") as other:
        assert other.post("/api/images", content=png).status_code == 201
        assert other.post(f"/api/clips/{found['clip']}/video", json={}).status_code == 404


def test_one_video_at_a_time_which_can_be_cancelled_within_a_step(client, small_classifier, clip):
    found = uploaded(client, clip)
    hook = small_classifier.model.register_forward_pre_hook(lambda *_: time.sleep(0.2))
    path = f"/api/clips/{found['clip']}/video"
    job = client.post(path, json={"method": "rise", "options": {"n_samples": 4000}}).json()["job"]
    second = client.post(path, json={})
    assert second.status_code == 429 and "is being written" in second.json()["error"]
    image = client.post("/api/jobs", json={"image": f"{found['clip']}-0"})
    assert run_job(client, image)[0]["state"] == "done", "others have their turn between two passes"
    assert client.delete(f"/api/jobs/{job}").status_code == 204
    hook.remove()
    wait_for(lambda: not [one for one in threading.enumerate() if one.name == "web job in steps"])
    status, _ = run_job(client, client.post(path, json={}))
    assert status["state"] == "done"


def test_the_video_of_a_large_model_gives_way_after_each_frame(client, small_classifier, clip, monkeypatch):
    monkeypatch.setattr(stepwise, "STEP_GMACS", 1e-6)
    found, passes = uploaded(client, clip), []
    hook = small_classifier.model.register_forward_pre_hook(lambda _, inputs: passes.append(len(inputs[0])))
    status, _ = run_job(client, client.post(f"/api/clips/{found['clip']}/video", json={"method": "attention"}))
    hook.remove()
    assert status["state"] == "done" and passes == [1] * 25


def test_the_limit_of_time_holds_for_a_video(small_classifier, clip):
    made = Explorer({"small": small_classifier}, None, Limits(job_seconds=1.0))
    made.queue.start()
    hook = small_classifier.model.register_forward_pre_hook(lambda *_: time.sleep(0.1))
    try:
        with TestClient(create_explorer_app(made), "http://127.0.0.1:8765") as client:
            found = uploaded(client, clip)
            fields = {"method": "rise", "options": {"n_samples": 4000}}
            status, _ = run_job(client, client.post(f"/api/clips/{found['clip']}/video", json=fields))
    finally:
        hook.remove()
        made.queue.close()
    assert status["state"] == "failed" and "longer than 1 seconds" in status["message"]
    wait_for(lambda: not [one for one in threading.enumerate() if one.name == "web job in steps"])


def test_background_work_that_fails_leaves_the_thread_alive():
    def fail():
        yield 1
        raise RuntimeError("weights that are not numbers")

    queue = JobQueue(background=fail())
    queue.start()
    time.sleep(0.2)
    job = Job("a", lambda job: JobResult({}), 60)
    queue.put(job)
    wait_for(lambda: job.state.is_final)
    queue.close()
    assert job.state.state == "done"


def in_steps(log, name, steps=3):
    def work(callback):
        for step in range(steps):
            log.append(f"{name}{step}")
            callback.on_progress(Progress(step + 1, steps))
        return JobResult({"thread": threading.current_thread().name})

    return Stepwise(work)


def wait_for(condition):
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_others_have_their_turn_between_two_steps():
    log, queue = [], JobQueue()
    jobs = [Job(name, in_steps(log, name), 60) for name in "ab"]
    for job in jobs:
        queue.put(job)
    queue.start()
    wait_for(lambda: all(job.state.is_final for job in jobs))
    queue.close()
    assert log == ["a0", "b0", "a1", "b1", "a2", "b2"]
    assert [job.state.state for job in jobs] == ["done", "done"] and jobs[0].result.description["thread"] != "web jobs"


def test_a_job_that_is_cancelled_between_two_steps_ends_its_thread():
    def named():
        return [one for one in threading.enumerate() if one.name == "web job in steps"]

    log, before = [], named()
    work = in_steps(log, "a")
    job = Job("a", work, 60)
    assert work(job) is None and len(named()) == len(before) + 1
    job.cancel()
    wait_for(lambda: named() == before)
    assert log == ["a0"]


def test_an_error_of_the_work_is_the_jobs():
    def fail(callback):
        callback.on_progress(Progress(1, 2))
        raise ValueError("inside")

    work = Stepwise(fail)
    job = Job("a", work, 60)
    assert work(job) is None
    with pytest.raises(ValueError, match="inside"):
        work(job)


def test_the_page_saves_the_clip_with_the_map_that_it_shows(open_page, clip, png, tmp_path):
    page = open_page()
    drop(page, png)
    page.click("#save")
    expect(page.locator("#save-video")).to_be_hidden()  # an image is no clip
    page.keyboard.press("Escape")
    drop_file(page, clip.read_bytes(), "walk.mp4", "video/mp4")
    wait_for_text(page, "#clip-time", "frame 1 of 25")
    page.click("#save")
    with page.expect_download() as download:
        page.click("#save-video")
    assert download.value.suggested_filename == "walk-rollout.mp4"
    saved = download.value.path().rename(tmp_path / "saved.mp4")
    assert len(list(read_frames(saved))) == 25
    page.click("#intervene summary")
    page.click("#switch-heads")
    page.locator("#multiples-canvas").click(position={"x": 5, "y": 5})
    wait_for_text(page, "#heads-off", "layer 0 head 0")
    page.click("#save")
    page.click("#save-video")
    wait_for_text(page, "#toast", "clear the changes first")
