"""Workers share a folder of clips: each clip is done once, again where its worker was killed, and all know the end."""

import json
import os
import signal
import subprocess
import sys
import time
from fractions import Fraction

import pytest
import torch
from video_clips import moving_square, stamps_of

from vitreous.cli import run
from vitreous.clips import leases
from vitreous.clips import workers as video_shared
from vitreous.clips.folder import explain_folder
from vitreous.clips.leases import this_process
from vitreous.clips.request import request_from
from vitreous.clips.workers import share_folder, summary_of
from vitreous.imaging.preprocessing import Preprocessing
from vitreous.model.classifier import ImageClassifier
from vitreous.model.config import ViTConfig
from vitreous.model.serialization import save_config, save_weights
from vitreous.model.vit import ViT
from vitreous.pretrained.load import load
from vitreous.video.encode import write_clip

FRAMES = 40


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    torch.manual_seed(0)
    vit = ViT(ViTConfig((12, 20), 4, embed_dim=16, depth=2, num_heads=2, num_classes=2))
    preprocessing = Preprocessing((12, 20), "squash", (0.5,) * 3, (0.25,) * 3, 4)
    save_config(ImageClassifier(vit, preprocessing, ["cat", "dog"]), folder)
    save_weights(vit, folder)
    return folder


@pytest.fixture
def clips(tmp_path):
    folder = tmp_path / "clips"
    folder.mkdir()
    for name in "abcdef":
        write_clip(folder / f"{name}.mp4", moving_square(FRAMES), Fraction(20))
    return folder


@pytest.fixture
def two_clips(clips):
    for name in "cdef":
        (clips / f"{name}.mp4").unlink()
    return clips


def outcomes(model, clips, output, **given):
    return list(share_folder(load(model), clips, output, request_from("attention", given)))


def states(model, clips, output, **given):
    return [one.state for one in outcomes(model, clips, output, **given)]


def left(folder):
    return sorted(path.name for path in folder.iterdir())


def rows(output):
    return [json.loads(line) for line in (output / "summary.jsonl").read_text().splitlines()]


def leave_claim(output, number=1):
    """The claim of a process of this machine that is gone."""
    output.mkdir(exist_ok=True)
    claim = {**this_process(), "token": f"dead{number}", "started": "1"}
    (output / f".a.{number}.claim").write_text(json.dumps(claim))


def test_all_is_done_once_and_failures_are_recorded(model_folder, two_clips, tmp_path):
    (two_clips / "bad.mp4").write_bytes(b"no clip at all")
    output, given = tmp_path / "out", {"data_out": tmp_path / "data", "timeline": tmp_path / "lines"}
    assert states(model_folder, two_clips, output, **given) == ["written", "written", "failed"]
    assert left(output) == ["a.json", "a.mp4", "b.json", "b.mp4", "bad.json", "summary.jsonl"]
    assert left(tmp_path / "data") == ["a.csv", "a.npz", "b.csv", "b.npz"]
    assert left(tmp_path / "lines") == ["a.png", "b.png"]
    files = json.loads((output / "a.json").read_text())["files"]
    assert files == [str(tmp_path / place) for place in ("data/a.npz", "data/a.csv", "lines/a.png")]
    summary = (output / "summary.jsonl").read_bytes()
    assert states(model_folder, two_clips, output, **given) == ["skipped"] * 3
    assert (output / "summary.jsonl").read_bytes() == summary
    assert summary_of(output) == {"written": 2, "failed": 1} and "bad.mp4" in rows(output)[2]["notes"][0]
    alone = explain_folder(load(model_folder), two_clips, output, request_from("attention", given), resume=True)
    assert [one.state for one in alone] == ["skipped", "skipped", "failed"], "without sharing it is tried again"


def test_what_the_dead_left_is_done_or_cleared(model_folder, two_clips, tmp_path):
    output = tmp_path / "out"
    leave_claim(output)
    (output / ".a.dead1.part").mkdir()
    (output / ".a.dead1.part" / "a.mp4").write_text("half")
    assert states(model_folder, two_clips, output) == ["written"] * 2
    assert left(output) == ["a.json", "a.mp4", "b.json", "b.mp4", "summary.jsonl"]
    leave_claim(output)  # killed after the record, before the claim was removed
    assert states(model_folder, two_clips, output) == ["skipped"] * 2 and ".a.1.claim" not in left(output)


def test_a_clip_that_kills_its_workers_is_given_up(model_folder, two_clips, tmp_path):
    for number in (1, 2, 3):
        leave_claim(tmp_path / "out", number)
    first, second = outcomes(model_folder, two_clips, tmp_path / "out")
    assert first.state == "failed" and "3 workers died while they worked on it" in first.words
    assert second.state == "written" and left(tmp_path / "out") == ["a.json", "b.json", "b.mp4", "summary.jsonl"]


def test_a_folder_of_images_is_replaced_only_after_a_death(model_folder, two_clips, tmp_path):
    output = tmp_path / "out"
    (output / "a").mkdir(parents=True)
    (output / "a" / "frame-000000.png").write_text("old")
    assert states(model_folder, two_clips, output, format="png") == ["failed", "written"]
    (output / "a.json").unlink()
    leave_claim(output)
    assert states(model_folder, two_clips, output, format="png") == ["written", "skipped"]
    assert len(left(output / "a")) == FRAMES + 1
    assert left(output) == ["a", "a.json", "b", "b.json", "summary.jsonl"]


def test_a_slow_worker_writes_nothing_once_its_clip_is_anothers(model_folder, two_clips, tmp_path, monkeypatch):
    """While the first is at clip a, a second, to whom it seems dead, takes that over; and is waited for."""
    output, model, usual = tmp_path / "out", load(model_folder), video_shared.explained
    monkeypatch.setattr(video_shared, "LOOK_SECONDS", 0.1)
    other, notes = [], []

    def overtaken(*arguments):
        outcome = usual(*arguments)
        if not other:
            monkeypatch.setattr(leases, "has_ended", lambda owner: True)
            other.append(leases.Claims(output, [output], notes.append).take("a", "another"))
            monkeypatch.setattr(leases, "has_ended", lambda owner: False)
            other[0].__enter__()
        return outcome

    def note(text):
        notes.append(text)
        if "waiting" in text:
            assert left(output) == [".a.1.claim", ".a.2.claim", "b.json", "b.mp4"]
            other[0].done()
            other[0].__exit__(None, None, None)

    monkeypatch.setattr(video_shared, "explained", overtaken)
    found = [one.job.source.stem for one in share_folder(model, two_clips, output, request_from("attention", {}),
                                                         on_note=note)]  # fmt: skip
    assert found == ["b", "a"] and left(output) == ["a.json", "a.mp4", "b.json", "b.mp4", "summary.jsonl"]
    assert ["same command" in text for text in notes] == [True, False]


def test_a_lost_claim_ends_the_work_at_the_next_batch(model_folder, two_clips, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(leases, "BEAT_SECONDS", 0.01)

    def lose(job, done, total):
        seen.append((job.source.stem, done))
        for claim in (tmp_path / "out").glob(".*.claim") if len(seen) == 1 else ():
            claim.unlink()
            time.sleep(0.1)

    request = request_from("attention", {"batch_size": 4})
    found = [one.state for one in share_folder(load(model_folder), two_clips, tmp_path / "out", request, lose)]
    assert found == ["written"] * 2 and seen[:2] == [("a", 16), ("b", 16)] and seen[-1] == ("a", FRAMES)


@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_worker_gives_its_clip_back(by, model_folder, two_clips, tmp_path, monkeypatch, capsys):
    write_clip(two_clips / "a.mp4", moving_square(300), Fraction(20))
    before, usual = signal.signal(signal.SIGINT, signal.default_int_handler), video_shared.Worker.outcome

    def interrupted(worker, job, claim):
        started = []
        tell = lambda *_: started or started.append(os.kill(os.getpid(), by))  # noqa: E731
        return usual(video_shared.replace(worker, on_progress=tell), job, claim)

    monkeypatch.setattr(video_shared.Worker, "outcome", interrupted)
    command = ["video", str(model_folder), str(two_clips), "-o", str(tmp_path / "out"), "--shared"]
    assert run(command) == 130
    signal.signal(signal.SIGINT, before)
    assert left(tmp_path / "out") == [] and "Traceback" not in capsys.readouterr().err
    monkeypatch.undo()
    assert run(command) == 0 and "2 clips in all: 2 written" in capsys.readouterr().out


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


def claimed_by(worker, output):
    """The clip that a worker is writing."""
    for path in output.glob(".*.claim"):
        claim = leases.values(leases.read(path))
        name = path.name[1]
        if claim.get("process") == worker.pid and (output / f".{name}.{claim['token']}.part").exists():
            return name
    return None


def stopped_in_its_work(worker, output):
    """Whether a worker could be stopped (SIGSTOP) while it is at a clip."""
    if claimed_by(worker, output) is None:
        return False
    os.kill(worker.pid, signal.SIGSTOP)
    name = claimed_by(worker, output)
    if name is not None and not (output / f"{name}.json").exists():
        return True
    os.kill(worker.pid, signal.SIGCONT)
    return False


def test_the_clip_of_a_killed_worker_is_done_by_another(model_folder, clips, tmp_path):
    """The worker is stopped in its work first: so the other does all the rest, and this clip not until it is dead."""
    output = tmp_path / "out"
    workers = victim, other = start(model_folder, clips, output), start(model_folder, clips, output)
    until(lambda: stopped_in_its_work(victim, output), *workers)
    lost = claimed_by(victim, output)
    until(lambda: len(list(output.glob("?.json"))) == 5, *workers)
    assert not (output / f"{lost}.json").exists() and other.poll() is None
    victim.kill()
    said, errors = other.communicate(timeout=60)
    assert other.returncode == 0, errors
    before, after = written_by(victim.communicate()[0], output), written_by(said, output)
    assert sorted(before + after) == list("abcdef") and lost in after
    check_all_is_there(output)
    assert said.splitlines()[-1].endswith("6 clips in all: 6 written")


def test_torchrun_shares_and_starts_again_after_a_death(model_folder, clips, tmp_path):
    output = tmp_path / "out"
    launcher = ("-m", "torch.distributed.run", "--nproc-per-node=2", "--max-restarts=1", "--standalone")
    torchrun = start(model_folder, clips, output, *launcher)
    seen = []
    until(lambda: seen.extend(owners(output)) or seen, torchrun)
    os.kill(seen[0], signal.SIGKILL)
    said, errors = torchrun.communicate(timeout=80)
    assert torchrun.returncode == 0, errors
    assert said.count("6 clips in all: 6 written") == 2, "both were started again"
    check_all_is_there(output)


def owners(output):
    """The processes that have a clip."""
    claims = [leases.values(leases.read(path)) for path in output.glob(".*.claim")]
    return [claim["process"] for claim in claims if claim]


def check_all_is_there(output):
    """All clips are whole, and nothing else is left."""
    assert left(output) == sorted(
        [f"{name}{end}" for name in "abcdef" for end in (".json", ".mp4")] + ["summary.jsonl"]
    )
    assert [row["clip"] for row in rows(output)] == [f"{name}.mp4" for name in "abcdef"]
    assert {row["state"] for row in rows(output)} == {"written"}
    assert all(len(stamps_of(output / f"{name}.mp4")) == FRAMES for name in "abcdef")
