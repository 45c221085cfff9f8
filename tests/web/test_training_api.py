"""Runs while they train: what the server says is what the folder holds, and nothing is sent twice."""

import base64
import io
import threading
import time
from functools import partial

import numpy as np
import pytest
from PIL import Image
from running import paused_training
from starlette.testclient import TestClient

from vitreous.errors import InputError
from vitreous.pretrained.load import load
from vitreous.runs.run_folder import RunFolder, read_metrics
from vitreous.training_film.kept_maps import read_kept_maps
from vitreous.web.explorer.explorer import Explorer
from vitreous.web.explorer.routes import create_explorer_app
from vitreous.web.training import routes as training_api
from vitreous.web.training import watched_run
from vitreous.web.training.watched_run import WatchedRun

ADDRESS = "http://127.0.0.1:8765"


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    monkeypatch.setattr(watched_run, "REFRESH_SECONDS", 0.0)
    monkeypatch.setattr(training_api, "WAIT_SECONDS", 0.3)


def watch(path, name="run"):
    return WatchedRun(name, path, partial(load, path))


def client_of(*runs):
    explorer = Explorer({}, runs=runs)
    explorer.queue.start()
    return explorer, TestClient(create_explorer_app(explorer), ADDRESS)


class Reader:
    """What a page has of one run: it asks again with its cursor, and joins what it gets."""

    def __init__(self, client):
        self.client, self.cursor, self.received = client, "", 0
        self.metrics, self.maps, self.status, self.description = {}, [], {}, {}

    def ask(self):
        found = self.client.get("/api/runs", params={"after": self.cursor})
        assert found.status_code == 200
        self.received = len(found.content)
        content = found.json()
        self.cursor = content["cursor"]
        (change,) = content["runs"]
        self.description = change.get("description", self.description)
        self.status = change.get("status", self.status)
        if "metrics" in change:
            start = change["metrics"].pop("start")
            self.metrics = {key: [*self.metrics.get(key, [])[:start], *more] for key, more in change["metrics"].items()}
        if "maps" in change:
            self.maps = [*self.maps[: change["maps"]["start"]], *change["maps"]["steps"]]
        return change

    def ask_all(self):
        while self.ask():
            pass


def assert_same(reader, path):
    """What a page has joined is what the files hold."""
    lines, kept = read_metrics(RunFolder(path)), read_kept_maps(RunFolder(path))
    assert reader.metrics["step"] == [line["step"] for line in lines]
    assert reader.metrics["loss"] == [line["loss"] for line in lines]
    assert reader.metrics["score"] == [line["top1"] for line in lines]
    assert reader.metrics["validation"] == [line["split"] == "validation" for line in lines]
    assert [step["step"] for step in reader.maps] == [step.step for step in kept.steps]
    for sent, stored in zip(reader.maps, kept.steps, strict=True):
        for method, values in stored.maps.items():
            bits = base64.b64decode(sent["maps"][method])
            assert np.array_equal(np.frombuffer(bits, "<f2").reshape(values.shape), values.astype(np.float16))


def test_a_run_is_followed_from_its_start_to_its_end_and_nothing_is_sent_twice(colored_folder, tmp_path):
    path = tmp_path / "run"
    with paused_training(colored_folder, path, pause_at=1) as training:
        _, client = client_of(watch(path))
        reader = Reader(client)
        reader.ask_all()
        assert reader.status["state"] == "starting" and reader.status["step"] == 0
        assert reader.description["metric"]["name"] == "top1" and reader.maps[0]["step"] == 0
        training.go_on(12)
        change = reader.ask()
        assert "description" not in change and change["maps"]["steps"][0]["step"] > 0
        reader.ask_all()
        assert reader.status["state"] == "training" and reader.status["step"] == 10
        assert 0 < reader.status["seconds_left"] < 60 and reader.status["steps"] > 13
        assert_same(reader, path)
        assert reader.ask() == {} and reader.received < 200
        training.go_on()
        reader.ask_all()
        assert reader.status["state"] == "finished" and reader.status["step"] == reader.status["steps"]
        assert reader.status["seconds_left"] is None
        assert reader.status["checkpoint_step"] == reader.status["steps"]
        assert_same(reader, path)
        image = client.get("/api/runs/0/images/2")
        shown = np.asarray(Image.open(io.BytesIO(image.content)))
        assert np.array_equal(shown, read_kept_maps(RunFolder(path)).images.images_u8[2])


def test_a_stopped_run_is_said_to_be_stopped_and_a_resume_that_rewinds_is_shown(colored_folder, tmp_path):
    path = tmp_path / "run"
    with paused_training(colored_folder, path, pause_at=11, checkpoint_seconds=0.0) as training:
        _, client = client_of(watch(path))
        reader = Reader(client)
        reader.ask_all()
        assert reader.status["checkpoint_step"] == 10
        saved = (path / "checkpoint" / "state.safetensors").read_bytes()
        training.go_on(10)
    (path / "checkpoint" / "state.safetensors").write_bytes(saved)  # as if the run had been killed before the next one
    reader.ask_all()
    assert reader.status["state"] == "stopped" and reader.status["step"] == 21
    assert reader.status["checkpoint_step"] == 10 and reader.status["seconds_left"] is None
    later = [step["step"] for step in reader.maps]
    with paused_training(colored_folder, path, pause_at=2, resume=True, checkpoint_seconds=1000.0) as training:
        reader.ask_all()
        assert reader.status["state"] == "training" and reader.status["step"] == 10
        assert max(reader.metrics["step"]) == 10 and max(step["step"] for step in reader.maps) < max(later)
        assert_same(reader, path)
        training.go_on()
    reader.ask_all()
    assert reader.status["state"] == "finished"
    assert_same(reader, path)


def test_a_response_waits_for_a_change(colored_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(training_api, "WAIT_SECONDS", 30.0)
    path = tmp_path / "run"
    with paused_training(colored_folder, path, pause_at=9) as training:
        monkeypatch.setattr(training_api, "WAIT_SECONDS", 0.2)
        _, client = client_of(watch(path))
        reader = Reader(client)
        reader.ask_all()
        monkeypatch.setattr(training_api, "WAIT_SECONDS", 30.0)
        threading.Timer(0.5, training.go_on, (3,)).start()
        started = time.monotonic()
        assert reader.ask() and time.monotonic() - started > 0.4
        training.wait()


def test_a_run_without_metrics_keeps_a_browser_waiting(colored_folder, tmp_path):
    path = tmp_path / "run"
    with paused_training(colored_folder, path, pause_at=9) as training:
        training.wait()
    (path / "metrics.jsonl").unlink()
    reader = Reader(client_of(watch(path))[1])
    reader.ask_all()
    assert reader.ask() == {} and reader.ask() == {}


def test_lines_of_metrics_are_parsed_once(colored_folder, tmp_path, monkeypatch):
    path = tmp_path / "run"
    with paused_training(colored_folder, path, pause_at=9) as training:
        training.wait()
    run = watch(path)
    run.refresh()
    monkeypatch.setattr("vitreous.diagnostics.evaluation_set.read_metrics", None)  # all of the file
    with (path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 999, "epoch": 9.0, "split": "train", "loss": 1.0}\n')
    run.refresh()
    assert run.status.step == 999 and run.status.problem is None


def test_the_newest_weights_are_loaded_when_somebody_says_so(colored_folder, tmp_path):
    path = tmp_path / "run"
    with paused_training(colored_folder, path, pause_at=8, checkpoint_seconds=0.0) as training:
        explorer, client = client_of(watch(path))
        assert client.get("/", follow_redirects=False).headers["location"] == "/training"
        assert end_job(client, client.post("/api/runs/0/model"))["message"] == (
            "run has no checkpoint yet: wait until it has saved one"
        )
        training.go_on(4)
        assert end_job(client, client.post("/api/runs/0/model"))["result"] == {"model": 0, "step": 10}
        assert client.get("/api/start").json()["models"][0]["class_names"] == ["blue", "green", "red"]
        assert client.get("/", follow_redirects=False).status_code == 200
        image = np.full((12, 20, 3), (220, 50, 40), np.uint8)
        before = dict(explorer.models.get(0)(image).scores)
        assert before == dict(load(path)(image).scores)
        training.go_on(10)
        reader = Reader(client)
        reader.ask_all()
        assert (reader.status["loaded_step"], reader.status["checkpoint_step"], reader.status["model"]) == (10, 20, 0)
        assert end_job(client, client.post("/api/runs/0/model"))["result"] == {"model": 0, "step": 20}
        assert before != dict(explorer.models.get(0)(image).scores) == dict(load(path)(image).scores)
        explorer.queue.close()


def end_job(client, response):
    assert response.status_code == 202, response.text
    after, job = 0, response.json()["job"]
    while (status := client.get(f"/api/jobs/{job}?after={after}").json())["state"] in ("queued", "running"):
        after = status["number"]
    return status


def test_the_strip_is_predicted_again_by_newer_weights(trained_run, colored_folder):
    from vitreous.web.explorer.image_gallery import ImageGallery

    run = watch(trained_run)
    explorer = Explorer({}, ImageGallery(f"folder:{colored_folder}", 6, print), runs=[run])
    steps = explorer._score_gallery()
    assert next(steps) is None
    explorer.start_reload(explorer.sessions.open(), run).run()
    while next(steps) is not None:
        pass
    first = explorer.gallery.scored(0)
    assert len(first) == 6
    explorer.models.replace(0, load(trained_run))
    assert next(steps) is not None and explorer.gallery.scored(0) is not first
    while next(steps) is not None:
        pass
    assert explorer.gallery.scored(0) == first


def test_several_runs_are_sent_together_and_only_what_has_changed(colored_folder, trained_run, tmp_path):
    path = tmp_path / "run"
    with paused_training(colored_folder, path, pause_at=5) as training:
        _, client = client_of(watch(path, "new"), watch(trained_run, "old"))
        found = client.get("/api/runs").json()
        assert [run["description"]["name"] for run in found["runs"]] == ["new", "old"]
        while any(found["runs"]):
            found = client.get("/api/runs", params={"after": found["cursor"]}).json()
        training.go_on(6)
        changed = client.get("/api/runs", params={"after": found["cursor"]}).json()["runs"]
        assert changed[0]["metrics"]["step"][-1] == 10 and changed[1] == {}


@pytest.mark.parametrize("cursor", ["x", "a_b_c_d", "1_2_3.9_4.5,,,", "-_-_-.99999999999999_-", "é" * 500])
def test_a_cursor_of_nobody_begins_anew(cursor, trained_run):
    _, client = client_of(watch(trained_run))
    (change,) = client.get("/api/runs", params={"after": cursor}).json()["runs"]
    assert change["metrics"]["start"] == 0 and change["maps"]["start"] == 0 and change["description"]["name"] == "run"


@pytest.mark.parametrize("path", ["runs/1/images/0", "runs/0/images/99", "runs/0/images/..%2f", "runs/-1/images/0"])
def test_what_is_not_there_is_refused_in_one_line(path, trained_run):
    _, client = client_of(watch(trained_run))
    response = client.get(f"/api/{path}")
    assert response.status_code == 404 and "error" in response.json()
    assert client.post("/api/runs/7/model").status_code == 404
    with TestClient(create_explorer_app(Explorer({})), ADDRESS) as other:
        assert "vitreous serve RUN" in other.get("/api/runs").json()["error"]


def test_damage_is_said_and_what_can_be_read_is_shown(colored_folder, tmp_path):
    path = tmp_path / "run"
    with paused_training(colored_folder, path, pause_at=11):
        _, client = client_of(watch(path))
        reader = Reader(client)
        reader.ask_all()
        with (path / "maps.jsonl").open("a") as file:
            file.write("{}\n")
        reader.ask_all()
        assert "maps.jsonl" in reader.status["problem"] and reader.status["state"] == "training"
        assert reader.metrics["step"][-1] == 10
    with pytest.raises(InputError, match="is gone"):
        watch(tmp_path / "elsewhere")
