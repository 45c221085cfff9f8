"""A folder of clips: all but the bad ones are written, and what is complete is not done again."""

import json
from fractions import Fraction

import pytest
from video_clips import moving_square

from vitreous.cli import run
from vitreous.errors import InputError
from vitreous.video.encode import write_clip
from vitreous.workflows.load import load
from vitreous.workflows.video_batch import explain_folder, jobs_of
from vitreous.workflows.video_request import request_from


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
