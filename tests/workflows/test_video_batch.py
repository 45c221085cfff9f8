"""A folder of clips: all but the bad ones are written, and what is complete is not done again."""

import json
import os
import signal
import time
from fractions import Fraction

import pytest
import torch
from video_clips import moving_square

from vitreous.cli import run
from vitreous.cli.video import interrupted_by_termination
from vitreous.clips.folder import explain_folder, jobs_of
from vitreous.clips.request import request_from
from vitreous.errors import InputError
from vitreous.pretrained.load import load
from vitreous.video.encode import write_clip
from vitreous.video.info import read_info


@pytest.fixture
def clips(tmp_path):
    folder = tmp_path / "clips"
    folder.mkdir()
    for name in ("a.mp4", "c.mp4"):
        write_clip(folder / name, moving_square(4), Fraction(10))
    (folder / "b.mp4").write_bytes(b"no clip at all")
    (folder / "notes.txt").write_text("not meant")
    return folder


def states(model, clips, output, resume=True, **given):
    return [one.state for one in explain_folder(model, clips, output, request_from("attention", given), resume=resume)]


def test_a_bad_clip_stops_nothing_and_what_is_done_is_skipped(trained_run, clips, tmp_path):
    model, output = load(trained_run), tmp_path / "out"
    assert states(model, clips, output) == ["written", "failed", "written"]
    assert sorted(path.name for path in output.iterdir()) == ["a.json", "a.mp4", "c.json", "c.mp4"]
    record = json.loads((output / "a.json").read_text())
    assert record["frames"] == 4 and record["size_hw"] == [36, 64] and "mean of logits" in record["answers"]
    assert states(model, clips, output) == ["skipped", "failed", "skipped"]
    assert states(model, clips, output, resume=False) == ["written", "failed", "written"]


def test_what_changed_is_done_again(trained_run, clips, tmp_path):
    (clips / "b.mp4").unlink()
    model, output = load(trained_run), tmp_path / "out"
    assert states(model, clips, output) == ["written"] * 2
    (output / "a.mp4").unlink()
    assert states(model, clips, output) == ["written", "skipped"]
    write_clip(clips / "c.mp4", moving_square(5), Fraction(10))
    assert states(model, clips, output) == ["skipped", "written"]
    (output / "a.json").write_text("{")
    assert states(model, clips, output) == ["written", "skipped"]
    assert states(model, clips, output, strip=True) == ["written"] * 2


def test_other_weights_under_the_same_name_are_another_model(trained_run, clips, tmp_path):
    (clips / "b.mp4").unlink()
    model, output = load(trained_run), tmp_path / "out"
    assert states(model, clips, output) == ["written"] * 2
    assert states(load(trained_run), clips, output) == ["skipped"] * 2
    with torch.no_grad():
        list(model.model.parameters())[-1].view(-1)[0] += 1e-3
    assert states(model, clips, output) == ["written"] * 2


def test_what_is_cut_short_by_control_c_is_done_again(trained_run, tmp_path):
    """Its record of a whole clip must not speak for the short one; the reader waits with a batch that is not full."""
    clips, output, model = tmp_path / "clips", tmp_path / "out", load(trained_run)
    clips.mkdir()
    write_clip(clips / "a.mp4", moving_square(40), Fraction(10))
    assert states(model, clips, output) == ["written"]

    def interrupt(*_):
        time.sleep(0.3)
        os.kill(os.getpid(), signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        request = request_from("attention", {})
        assert [one.state for one in explain_folder(model, clips, output, request, interrupt)] == ["interrupted"]
    finally:
        signal.signal(signal.SIGINT, before)
    assert read_info(output / "a.mp4").frame_count == 16 and not (output / "a.json").exists()
    assert states(model, clips, output) == ["written"] and read_info(output / "a.mp4").frame_count == 40


@pytest.mark.parametrize("by", ["SIGTERM", "SIGHUP", "SIGINT"])
def test_the_end_of_one_clip_leaves_no_partial_file(by, trained_run, clips, tmp_path, monkeypatch, capsys):
    """What the system sends leaves nothing; Ctrl-C leaves a whole file with what was drawn."""
    write_clip(clips / "a.mp4", moving_square(40), Fraction(10))
    number = getattr(signal, by)

    def end(*_):
        while not list((tmp_path / "out").glob(".a.*.part.mp4")) and by != "SIGINT":
            time.sleep(0.01)
        os.kill(os.getpid(), number)

    monkeypatch.setattr("vitreous.cli.video.teller", lambda *_: end)
    # What started the tests may have them ignore any of these: a shell in the background, nohup, a service.
    usual = {"SIGINT": signal.default_int_handler, "SIGTERM": signal.SIG_DFL, "SIGHUP": signal.SIG_DFL}
    before = {name: signal.signal(getattr(signal, name), handler) for name, handler in usual.items()}
    try:
        assert run(["video", str(trained_run), str(clips / "a.mp4"), "-o", str(tmp_path / "out" / "a.mp4")]) == 130
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    finally:
        for name, handler in before.items():
            signal.signal(getattr(signal, name), handler)
    assert [path.name for path in (tmp_path / "out").iterdir()] == (["a.mp4"] if by == "SIGINT" else [])
    assert "Traceback" not in capsys.readouterr().err


def test_a_signal_that_is_ignored_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    ended = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        with interrupted_by_termination():
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
            assert signal.getsignal(signal.SIGTERM) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGHUP, before)
        signal.signal(signal.SIGTERM, ended)


def test_data_and_timelines_go_into_folders(trained_run, clips, tmp_path):
    (clips / "b.mp4").unlink()
    given = {"data_out": tmp_path / "data", "timeline": tmp_path / "lines"}
    assert states(load(trained_run), clips, tmp_path / "out", **given) == ["written"] * 2
    assert sorted(p.name for p in (tmp_path / "data").iterdir()) == ["a.csv", "a.npz", "c.csv", "c.npz"]
    (tmp_path / "data" / "a.csv").unlink()
    assert states(load(trained_run), clips, tmp_path / "out", **given) == ["written", "skipped"]


def test_the_command_goes_on_and_its_exit_code_says_so(trained_run, clips, tmp_path, capsys):
    arguments = ["video", str(trained_run), str(clips), "-o", str(tmp_path / "out"), "--resume"]
    assert run(arguments) == 3
    said = capsys.readouterr()
    assert "2 written, 1 failed" in said.out and "b.mp4" in said.err
    (clips / "b.mp4").unlink()
    assert run(arguments) == 0 and "2 skipped" in capsys.readouterr().out


def test_what_can_not_be_asked_of_a_folder(trained_run, clips, tmp_path, capsys):
    request = request_from("attention", {})
    with pytest.raises(InputError, match="folder of the clips themselves"):
        jobs_of(clips, clips, request)
    with pytest.raises(InputError, match="there is no clip in"):
        jobs_of(tmp_path, tmp_path / "out", request)
    with pytest.raises(InputError, match=r"out\.mp4 is the name of a file"):
        jobs_of(clips, tmp_path / "out.mp4", request)
    with pytest.raises(InputError, match="is a file, and there are 3 clips"):
        jobs_of(clips, clips / "a.mp4", request)
    with pytest.raises(InputError, match="one pipe"):
        jobs_of(clips, tmp_path / "out", request_from("attention", {"format": "-"}))
    assert run(["video", str(trained_run), str(clips)]) == 2 and "-o" in capsys.readouterr().err
    assert run(["video", str(trained_run), str(clips / "a.mp4"), "--resume"]) == 2


def test_clips_of_one_name_keep_their_endings(clips, tmp_path):
    (clips / "a.GIF").write_bytes(b"")
    names = [job.target.name for job in jobs_of(clips, tmp_path, request_from("attention", {"format": "webm"}))]
    assert names == ["a-gif.webm", "a-mp4.webm", "b.webm", "c.webm"]
