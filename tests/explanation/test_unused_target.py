"""A target on which no map depends is answered with one note that names the methods which use it."""

import inspect
import logging
from fractions import Fraction

import numpy as np
import pytest
from PIL import Image

from vitreous.cli import run
from vitreous.cli.options import ExplainOptions
from vitreous.explanation.registry import METHODS
from vitreous.explanation.target_parsing import _log_once, note_unused_target
from vitreous.video.encode import write_video
from vitreous.workflows.explain import explain

USED = [name for name, method in METHODS.items() if method.is_class_specific]


class Notes:
    """Keeps every note."""

    def __init__(self):
        self.lines = []

    def on_note(self, text):
        self.lines.append(text)


@pytest.mark.parametrize("name", METHODS)
def test_the_note_follows_the_table(name):
    notes = Notes()
    note_unused_target([name], "cat", notes)
    expected = f"{name} doesn't depend on the target; these methods do: {', '.join(USED)}"
    assert notes.lines == ([] if METHODS[name].is_class_specific else [expected])


def test_several_methods_and_no_target():
    notes = Notes()
    note_unused_target(["attention", "grad-cam"], "cat", notes)
    note_unused_target(["attention"], None, notes)
    assert notes.lines == []
    note_unused_target(["attention", "rollout"], 0, notes)
    assert notes.lines[0].startswith("attention and rollout don't depend on the target; these methods do: attention-g")


@pytest.mark.parametrize("arguments", [["--target", "red"], ["--target", "red", "--method", "legrad"], []])
def test_the_command_line_says_it_once(arguments, trained_run, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Image.fromarray(np.full((40, 60, 3), 90, np.uint8)).save("photo.png")
    assert run(["explain", str(trained_run), "photo.png", "photo.png", *arguments]) == 0
    assert capsys.readouterr().err.count("depend on the target") == (arguments == ["--target", "red"])


@pytest.mark.parametrize("arguments", [["clip.mp4", "-o", "out.mp4"], ["clips", "-o", "out"]])
def test_a_video_and_a_folder_of_videos_say_it_once(arguments, trained_run, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name in ("clip.mp4", "clips/a.mp4", "clips/b.mp4"):
        write_video(name, np.zeros((2, 32, 48, 3), np.uint8), Fraction(10))
    assert run(["video", str(trained_run), *arguments, "--target", "red"]) == 0
    assert capsys.readouterr().err.count("attention doesn't depend on the target") == 1


def test_the_help_names_the_methods_that_do_not_use_it():
    text = " ".join(inspect.getsource(ExplainOptions).split())
    names = [name for name in METHODS if name not in USED]
    assert f"The maps of {', '.join(names[:-1])} and {names[-1]} don't depend on it." in text


def test_python_logs_it_once(trained_run, caplog):
    _log_once.cache_clear()
    photo = np.full((40, 60, 3), 90, np.uint8)
    with caplog.at_level(logging.WARNING, "vitreous"):
        for _ in range(2):
            assert explain(trained_run, photo, target="red").target == "red"
    assert [one.message.split(";")[0] for one in caplog.records] == ["attention doesn't depend on the target"]
