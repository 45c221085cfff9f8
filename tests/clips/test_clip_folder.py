"""A folder of videos: all but the bad ones are written, and finished ones are not processed again."""

import json
import os
import signal
import time
import unicodedata
from fractions import Fraction

import pytest
import torch
from video_clips import moving_square
from video_requests import OnProgress, make_request

from vitreous.cli import run
from vitreous.clips.folder import explain_folder, list_jobs
from vitreous.errors import InputError
from vitreous.pretrained.load import load
from vitreous.video.encode import write_video
from vitreous.video.info import read_info


def states(model, clips, output, resume=True, **given):
    return [
        one.state for one in explain_folder(model, clips, output, make_request("attention", **given), resume=resume)
    ]


def test_a_bad_video_stops_nothing_and_finished_ones_are_skipped(trained_run, clips, tmp_path):
    model, output = load(trained_run), tmp_path / "out"
    assert states(model, clips, output) == ["written", "failed", "written"]
    assert sorted(path.name for path in output.iterdir()) == ["a.json", "a.mp4", "c.json", "c.mp4"]
    record = json.loads((output / "a.json").read_text())
    assert record["frames"] == 4 and record["size_hw"] == [36, 64] and "mean of logits" in record["predictions"]
    assert states(model, clips, output) == ["skipped", "failed", "skipped"]
    assert states(model, clips, output, resume=False) == ["written", "failed", "written"]


def test_changed_videos_are_processed_again(trained_run, clips, tmp_path):
    (clips / "b.mp4").unlink()
    model, output = load(trained_run), tmp_path / "out"
    assert states(model, clips, output) == ["written"] * 2
    (output / "a.mp4").unlink()
    assert states(model, clips, output) == ["written", "skipped"]
    write_video(clips / "c.mp4", moving_square(5), Fraction(10))
    assert states(model, clips, output) == ["skipped", "written"]
    (output / "a.json").write_text("{")
    assert states(model, clips, output) == ["written", "skipped"]
    assert states(model, clips, output, class_strip=True) == ["written"] * 2


def test_other_weights_under_the_same_name_are_another_model(trained_run, clips, tmp_path):
    (clips / "b.mp4").unlink()
    model, output = load(trained_run), tmp_path / "out"
    assert states(model, clips, output) == ["written"] * 2
    assert states(load(trained_run), clips, output) == ["skipped"] * 2
    with torch.no_grad():
        list(model.model.parameters())[-1].view(-1)[0] += 1e-3
    assert states(model, clips, output) == ["written"] * 2


def test_an_interrupted_video_is_processed_again(trained_run, tmp_path):
    """The record of the whole video must not count for the short one. The reader waits with a batch that isn't full."""
    clips, output, model = tmp_path / "clips", tmp_path / "out", load(trained_run)
    clips.mkdir()
    write_video(clips / "a.mp4", moving_square(40), Fraction(10))
    assert states(model, clips, output) == ["written"]

    def interrupt(*_):
        time.sleep(0.3)
        os.kill(os.getpid(), signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        request = make_request("attention")
        assert [one.state for one in explain_folder(model, clips, output, request, OnProgress(interrupt))] == [
            "interrupted"
        ]
    finally:
        signal.signal(signal.SIGINT, before)
    assert read_info(output / "a.mp4").frame_count == 16 and not (output / "a.json").exists()
    assert states(model, clips, output) == ["written"] and read_info(output / "a.mp4").frame_count == 40


def test_maps_and_timelines_go_into_folders(trained_run, clips, tmp_path):
    (clips / "b.mp4").unlink()
    given = {"save_maps": tmp_path / "data", "timeline": tmp_path / "lines"}
    assert states(load(trained_run), clips, tmp_path / "out", **given) == ["written"] * 2
    assert sorted(p.name for p in (tmp_path / "data").iterdir()) == ["a.csv", "a.npz", "c.csv", "c.npz"]
    (tmp_path / "data" / "a.csv").unlink()
    assert states(load(trained_run), clips, tmp_path / "out", **given) == ["written", "skipped"]


def test_bad_requests_for_a_folder(trained_run, clips, tmp_path, capsys):
    request = make_request("attention")
    with pytest.raises(InputError, match="folder of the videos themselves"):
        list_jobs(clips, clips, request)
    with pytest.raises(InputError, match="there is no video in"):
        list_jobs(tmp_path, tmp_path / "out", request)
    with pytest.raises(InputError, match=r"out\.mp4 is the name of a file"):
        list_jobs(clips, tmp_path / "out.mp4", request)
    with pytest.raises(InputError, match="is a file, and there are 3 videos"):
        list_jobs(clips, clips / "a.mp4", request)
    with pytest.raises(InputError, match="one pipe"):
        list_jobs(clips, tmp_path / "out", make_request("attention", format="-"))
    assert run(["video", str(trained_run), str(clips)]) == 2 and "-o" in capsys.readouterr().err
    assert run(["video", str(trained_run), str(clips / "a.mp4"), "--resume"]) == 2


def test_videos_of_one_name_keep_their_suffixes(clips, tmp_path):
    (clips / "a.GIF").write_bytes(b"")
    names = [job.output.name for job in list_jobs(clips, tmp_path, make_request("attention", format="webm"))]
    assert names == ["a-gif.webm", "a-mp4.webm", "b.webm", "c.webm"]


def test_no_two_videos_have_one_output(small_classifier, tmp_path):
    folder, model = tmp_path / "in", small_classifier
    folder.mkdir()
    write_video(folder / "a.mp4", moving_square(3), Fraction(10))
    copies = ["a.MP4", "a-mp4.mkv", "A.mov", "a-mp4-2.avi", "caf\u00e9.mp4", "cafe\u0301.mp4"]
    for name in copies:
        (folder / name).write_bytes((folder / "a.mp4").read_bytes())
    jobs = list_jobs(folder, tmp_path / "out", make_request("attention"))
    for files in ([job.output for job in jobs], [job.record for job in jobs]):
        assert len({unicodedata.normalize("NFC", file.name).casefold() for file in files}) == len(copies) + 1
    assert states(model, folder, tmp_path / "out") == ["written"] * (len(copies) + 1)
    assert len(list((tmp_path / "out").glob("*.mp4"))) == len(copies) + 1
    assert states(model, folder, tmp_path / "out") == ["skipped"] * (len(copies) + 1)
