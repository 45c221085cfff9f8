"""Workers share a folder of videos: each is processed once, or again if its worker was killed, and all know the end."""

import json
import os
import signal
import subprocess
import sys
import time
from fractions import Fraction

import pytest
import torch
from video_clips import moving_square, timestamps_of
from video_requests import Notes, OnProgress, make_request

from vitreous.cli import run
from vitreous.clips import leases, workers
from vitreous.clips.folder import explain_folder
from vitreous.clips.leases import current_process
from vitreous.clips.workers import count_states, explain_shared_folder
from vitreous.imaging.preprocessing import Preprocessing
from vitreous.model.classifier import ImageClassifier
from vitreous.model.config import ViTConfig
from vitreous.model.serialization import WEIGHTS, save_config, write_weights
from vitreous.model.vit import ViT
from vitreous.pretrained.load import load
from vitreous.video.encode import write_video

FRAMES = 40


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    torch.manual_seed(0)
    vit = ViT(ViTConfig((12, 20), 4, embed_dim=16, depth=2, num_heads=2, num_classes=2))
    preprocessing = Preprocessing((12, 20), "squash", (0.5,) * 3, (0.25,) * 3, 4)
    save_config(ImageClassifier(vit, preprocessing, ["cat", "dog"]), folder)
    write_weights(vit.state_dict(), folder / WEIGHTS)
    return folder


@pytest.fixture
def clips(tmp_path):
    folder = tmp_path / "clips"
    folder.mkdir()
    for name in "abcdef":
        write_video(folder / f"{name}.mp4", moving_square(FRAMES), Fraction(20))
    return folder


@pytest.fixture
def two_clips(clips):
    for name in "cdef":
        (clips / f"{name}.mp4").unlink()
    return clips


def outcomes(model, clips, output, **given):
    return list(explain_shared_folder(load(model), clips, output, make_request("attention", **given)))


def states(model, clips, output, **given):
    return [one.state for one in outcomes(model, clips, output, **given)]


def left(folder):
    return sorted(path.name for path in folder.iterdir())


def rows(output):
    return [json.loads(line) for line in (output / "summary.jsonl").read_text().splitlines()]


def leave_lease(output, number=1):
    """The lease of a process of this machine that is gone."""
    output.mkdir(exist_ok=True)
    lease = {**current_process(), "token": f"dead{number}", "started": "1"}
    (output / f".a.{number}.lease").write_text(json.dumps(lease))


def test_each_video_is_processed_once_and_failures_are_recorded(model_folder, two_clips, tmp_path):
    (two_clips / "bad.mp4").write_bytes(b"no clip at all")
    output, given = tmp_path / "out", {"save_maps": tmp_path / "data", "timeline": tmp_path / "lines"}
    assert states(model_folder, two_clips, output, **given) == ["written", "written", "failed"]
    assert left(output) == ["a.json", "a.mp4", "b.json", "b.mp4", "bad.json", "summary.jsonl"]
    assert left(tmp_path / "data") == ["a.csv", "a.npz", "b.csv", "b.npz"]
    assert left(tmp_path / "lines") == ["a.png", "b.png"]
    files = json.loads((output / "a.json").read_text())["files"]
    assert files == [str(tmp_path / name) for name in ("data/a.npz", "data/a.csv", "lines/a.png")]
    summary = (output / "summary.jsonl").read_bytes()
    assert states(model_folder, two_clips, output, **given) == ["skipped"] * 3
    assert (output / "summary.jsonl").read_bytes() == summary
    assert count_states(output) == {"written": 2, "failed": 1} and "bad.mp4" in rows(output)[2]["notes"][0]
    alone = explain_folder(load(model_folder), two_clips, output, make_request("attention", **given), resume=True)
    assert [one.state for one in alone] == ["skipped", "skipped", "failed"], "without sharing it is tried again"


def test_files_of_dead_workers_are_replaced_or_removed(model_folder, two_clips, tmp_path):
    output = tmp_path / "out"
    leave_lease(output)
    (output / ".a.dead1.part").mkdir()
    (output / ".a.dead1.part" / "a.mp4").write_text("half")
    assert states(model_folder, two_clips, output) == ["written"] * 2
    assert left(output) == ["a.json", "a.mp4", "b.json", "b.mp4", "summary.jsonl"]
    leave_lease(output)  # killed after the record, before the lease was removed
    assert states(model_folder, two_clips, output) == ["skipped"] * 2 and ".a.1.lease" not in left(output)


def test_a_video_that_kills_its_workers_is_given_up(model_folder, two_clips, tmp_path):
    for number in (1, 2, 3):
        leave_lease(tmp_path / "out", number)
    first, second = outcomes(model_folder, two_clips, tmp_path / "out")
    assert first.state == "failed" and "3 workers died while processing it" in first.message
    assert second.state == "written" and left(tmp_path / "out") == ["a.json", "b.json", "b.mp4", "summary.jsonl"]


def test_a_folder_of_images_is_replaced_only_after_a_worker_died(model_folder, two_clips, tmp_path):
    output = tmp_path / "out"
    (output / "a").mkdir(parents=True)
    (output / "a" / "frame-000000.png").write_text("old")
    assert states(model_folder, two_clips, output, format="png") == ["failed", "written"]
    (output / "a.json").unlink()
    leave_lease(output)
    assert states(model_folder, two_clips, output, format="png") == ["written", "skipped"]
    assert len(left(output / "a")) == FRAMES + 1
    assert left(output) == ["a", "a.json", "b", "b.json", "summary.jsonl"]


def test_a_slow_worker_writes_nothing_once_it_lost_the_lease(model_folder, two_clips, tmp_path, monkeypatch):
    """While the first is at clip a, a second, to whom it seems dead, takes that over; and is waited for."""
    output, model, process_clip = tmp_path / "out", load(model_folder), workers.process_clip
    monkeypatch.setattr(workers, "POLL_SECONDS", 0.1)
    other, notes = [], []

    def overtaken(*arguments):
        outcome = process_clip(*arguments)
        if not other:
            monkeypatch.setattr(leases, "owner_is_dead", lambda owner: True)
            other.append(leases.LeaseStore(output, [output], notes.append).acquire("a", "another"))
            monkeypatch.setattr(leases, "owner_is_dead", lambda owner: False)
            other[0].__enter__()
        return outcome

    def note(text):
        notes.append(text)
        if "waiting" in text:
            assert left(output) == [".a.1.lease", ".a.2.lease", "b.json", "b.mp4"]
            other[0].complete()
            other[0].__exit__(None, None, None)

    monkeypatch.setattr(workers, "process_clip", overtaken)
    shared = explain_shared_folder(model, two_clips, output, make_request("attention"), Notes(note))
    found = [one.job.source.stem for one in shared]
    assert found == ["b", "a"] and left(output) == ["a.json", "a.mp4", "b.json", "b.mp4", "summary.jsonl"]
    assert ["same command" in text for text in notes] == [True, False]


def test_a_lost_lease_ends_the_work_at_the_next_batch(model_folder, two_clips, tmp_path, monkeypatch):
    progress = []
    monkeypatch.setattr(leases, "HEARTBEAT_SECONDS", 0.01)

    def lose(event):
        progress.append((event.message, event.done))
        for lease in (tmp_path / "out").glob(".*.lease") if len(progress) == 1 else ():
            lease.unlink()
            time.sleep(0.1)

    request = make_request("attention", batch_size=4)
    shared = explain_shared_folder(load(model_folder), two_clips, tmp_path / "out", request, OnProgress(lose))
    assert [one.state for one in shared] == ["written"] * 2
    assert progress[:2] == [("a.mp4", 16), ("b.mp4", 16)] and progress[-1] == ("a.mp4", FRAMES)


@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_worker_gives_its_lease_back(by, model_folder, two_clips, tmp_path, monkeypatch, capsys):
    write_video(two_clips / "a.mp4", moving_square(300), Fraction(20))
    before, write_staged = signal.signal(signal.SIGINT, signal.default_int_handler), workers.Worker.write_staged

    def interrupted(worker, job, lease):
        started = []
        callback = OnProgress(lambda progress: started or started.append(os.kill(os.getpid(), by)))
        return write_staged(workers.replace(worker, callback=callback), job, lease)

    monkeypatch.setattr(workers.Worker, "write_staged", interrupted)
    command = ["video", str(model_folder), str(two_clips), "-o", str(tmp_path / "out"), "--shared"]
    assert run(command) == 130
    signal.signal(signal.SIGINT, before)
    assert left(tmp_path / "out") == [] and "Traceback" not in capsys.readouterr().err
    monkeypatch.undo()
    assert run(command) == 0 and "2 videos in total: 2 written" in capsys.readouterr().out


def test_what_only_goes_with_a_folder_and_torchrun(model_folder, clips, tmp_path, monkeypatch, capsys):
    assert run(["video", str(model_folder), str(clips / "a.mp4"), "--shared"]) == 2
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert run(["video", str(model_folder), str(clips), "-o", str(tmp_path / "out"), "--resume"]) == 2
    assert "add --shared" in capsys.readouterr().err and not (tmp_path / "out").exists()


def start(model, clips, output, *launcher):
    """Start a worker, or several by a launcher."""
    command = [sys.executable, *launcher, "-m", "vitreous", "video", str(model), str(clips), "-o", str(output)]
    quiet = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(
        [*command, "--resume", "--shared", "--batch-size", "2"],
        env={**os.environ, **quiet}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def written_by(said, output):
    return [name for name in "abcdef" if f"{output / name}.mp4: {FRAMES} frames" in said]


def until(condition, *workers):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline and all(one.poll() is None for one in workers)
        time.sleep(0.005)


def leased_by(worker, output):
    """The clip that a worker is writing."""
    for path in output.glob(".*.lease"):
        lease = leases.parse_lease(leases.read_lease(path))
        name = path.name[1]
        if lease.get("process") == worker.pid and (output / f".{name}.{lease['token']}.part").exists():
            return name
    return None


def stopped_in_its_work(worker, output):
    """Whether a worker could be stopped (SIGSTOP) while it is at a clip."""
    if leased_by(worker, output) is None:
        return False
    os.kill(worker.pid, signal.SIGSTOP)
    name = leased_by(worker, output)
    if name is not None and not (output / f"{name}.json").exists():
        return True
    os.kill(worker.pid, signal.SIGCONT)
    return False


def test_another_worker_takes_over_from_a_killed_one(model_folder, clips, tmp_path):
    """The worker is stopped in its work first: so the other does all the rest, and this clip not until it is dead."""
    output = tmp_path / "out"
    workers = victim, other = start(model_folder, clips, output), start(model_folder, clips, output)
    until(lambda: stopped_in_its_work(victim, output), *workers)
    lost = leased_by(victim, output)
    until(lambda: len(list(output.glob("?.json"))) == 5, *workers)
    assert not (output / f"{lost}.json").exists() and other.poll() is None
    victim.kill()
    said, errors = other.communicate(timeout=60)
    assert other.returncode == 0, errors
    before, after = written_by(victim.communicate()[0], output), written_by(said, output)
    assert sorted(before + after) == list("abcdef") and lost in after
    check_all_is_there(output)
    assert said.splitlines()[-1].endswith("6 videos in total: 6 written")


def test_torchrun_restarts_workers_after_a_kill(model_folder, clips, tmp_path):
    output = tmp_path / "out"
    launcher = ("-m", "torch.distributed.run", "--nproc-per-node=2", "--max-restarts=1", "--standalone")
    torchrun = start(model_folder, clips, output, *launcher)
    seen = []
    until(lambda: seen.extend(owners(output)) or seen, torchrun)
    os.kill(seen[0], signal.SIGKILL)
    said, errors = torchrun.communicate(timeout=80)
    assert torchrun.returncode == 0, errors
    assert said.count("6 videos in total: 6 written") == 2, "both were started again"
    check_all_is_there(output)


def owners(output):
    """The processes that have a clip."""
    leases_found = [leases.parse_lease(leases.read_lease(path)) for path in output.glob(".*.lease")]
    return [lease["process"] for lease in leases_found if lease]


def check_all_is_there(output):
    """All clips are whole, and nothing else is left."""
    assert left(output) == sorted(
        [f"{name}{end}" for name in "abcdef" for end in (".json", ".mp4")] + ["summary.jsonl"]
    )
    assert [row["clip"] for row in rows(output)] == [f"{name}.mp4" for name in "abcdef"]
    assert {row["state"] for row in rows(output)} == {"written"}
    assert all(len(timestamps_of(output / f"{name}.mp4")) == FRAMES for name in "abcdef")
