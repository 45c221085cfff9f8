"""vitreous evaluate, compare and models, from the command line to the files."""

import errno
import json
import os
import shutil
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from runs import make_folder, tiny_recipe
from safetensors.torch import load_file, save_file

from vitreous.cli import run
from vitreous.diagnostics.robustness.corruptions import KINDS
from vitreous.workflows.evaluate import evaluate
from vitreous.workflows.train import Listener, train


@pytest.fixture
def here(tmp_path, monkeypatch, trained_run) -> Path:
    """A folder to stand in, with a copy of a run."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(trained_run, "run")
    return tmp_path


@pytest.fixture(scope="module")
def worse_run(colored_folder, tmp_path_factory) -> Path:
    """A run on the same data that learned less."""
    path = tmp_path_factory.mktemp("worse") / "less"
    train(tiny_recipe(colored_folder, epochs=0.3, seed=1), path)
    return path


def said(capsys, *arguments: object, code: int = 0) -> str:
    """What the command line printed; on standard error if it refused."""
    assert run([str(argument) for argument in arguments]) == code
    captured = capsys.readouterr()
    return captured.err if code else captured.out


def size(path: str) -> tuple[int, int]:
    """An image file's width and height."""
    with Image.open(path) as image:
        image.load()
        return image.size


def test_evaluate_keeps_the_plain_keys_and_adds_intervals(here, capsys):
    scores = json.loads(said(capsys, "evaluate", "run", "--json"))
    assert all(isinstance(scores[key], float) for key in ("top1", "loss"))
    assert "top5" not in scores and "top5_interval" not in scores, "of three classes it says nothing"
    assert scores["step"] == scores["steps"]
    for key in ("top1", "loss"):
        low, high = scores[f"{key}_interval"]
        assert low <= scores[key] <= high
    assert {"precision", "precision_interval", "f1_interval", "recall_interval"} <= set(scores["classes"][0])
    assert scores["calibration"]["bins"] and scores["temperature"] is None
    written = json.loads(Path("run/evaluation.json").read_text())
    assert {key: written[key] for key in scores} == scores
    for name in ("confusion", "reliability", "selective"):
        assert min(size(f"run/figures/{name}.png")) > 600
    assert scores["top1"] == 1 and not Path("run/figures/mistakes.png").exists()


def test_mistakes_are_shown_where_there_are_some(here, worse_run, capsys):
    shutil.copytree(worse_run, "less")
    words = said(capsys, "evaluate", "less")
    assert "95 %:" in words and "calibration error" in words and "surest 50%" in words
    assert size("less/figures/mistakes.png")[0] > 200
    assert np.ptp(np.asarray(Image.open("less/figures/mistakes.png").convert("L"))) > 100


def test_temperature_is_fitted_on_validation_and_kept(here, capsys):
    words = said(capsys, "evaluate", "run", "--temperature")
    assert "fitted on 6 validation images" in words
    kept = json.loads(Path("run/evaluation.json").read_text())
    scaling = kept["temperature"]
    assert scaling["loss_after"] < scaling["loss_before"] == pytest.approx(kept["loss"], rel=1e-6)
    assert scaling["error_before"] == kept["calibration"]["error"] and scaling["fitted_on"] == 6
    assert "can't be judged on validation" in said(
        capsys, "evaluate", "run", "--temperature", "--split", "validation", code=2
    )


def test_corruptions_and_shifts(here, capsys):
    arguments = ("evaluate", "run", "--corruptions", "--shifts", "--count", "12")
    result = json.loads(said(capsys, *arguments, "--json"))
    first = result["corruptions"]
    assert [one["kind"] for one in first["kinds"]] == list(KINDS) and first["count"] == 12
    strengths = [each for one in first["kinds"] for each in one["strengths"]]
    assert first["mean"]["value"] == pytest.approx(np.mean([each["value"] for each in strengths]))
    assert len(strengths) == 75 and all(each["low"] <= each["value"] <= each["high"] for each in strengths)
    assert [one["amount"] for one in result["shifts"]["shifts"]] == list(range(9))
    assert result["shifts"]["shifts"][0] == next(one for one in result["shifts"]["rotations"] if one["amount"] == 0)
    assert json.loads(Path("run/corruptions.json").read_text()) == first
    assert json.loads(Path("run/shifts.json").read_text()) == result["shifts"]
    assert size("run/figures/corruptions.png")[0] > 1000 and size("run/figures/shifts.png")[0] == 1600
    words = said(capsys, *arguments)
    assert "mean corruption accuracy" in words and "turned, degrees" in words and "12 test images" in words


def test_a_smaller_sample_does_not_replace_a_larger_one(here, capsys):
    assert run(["evaluate", "run", "--shifts", "--count", "12"]) == 0
    assert "run/shifts.json and run/figures/shifts.png written" in capsys.readouterr().err
    for name in ("corruptions", "shifts"):
        Path(f"run/{name}.json").write_text('{"count": 7}')
    assert run(["evaluate", "run", "--corruptions", "--shifts", "--count", "6"]) == 0
    said = capsys.readouterr()
    for name in ("corruptions", "shifts"):
        assert f"nothing written: run/{name}.json is of more images and stays" in said.err
        assert Path(f"run/{name}.json").read_text() == '{"count": 7}'
    assert "6 test images" in said.out and not Path("run/figures/corruptions.png").exists()
    assert run(["evaluate", "run", "--shifts"]) == 0
    assert json.loads(Path("run/shifts.json").read_text())["count"] == 30
    os.utime("run/model.safetensors", (4e9, 4e9))  # trained on since
    assert run(["evaluate", "run", "--shifts", "--count", "6"]) == 0
    assert json.loads(Path("run/shifts.json").read_text())["count"] == 6


def test_only_what_is_written_is_said_to_be(here, tmp_path, capsys):
    assert run(["evaluate", "run"]) == 0
    assert "run/evaluation.json and 3 images in run/figures written" in capsys.readouterr().err
    Path("run/evaluation.json").write_text("kept")
    others = make_folder(tmp_path / "others", 8)
    assert run(["evaluate", "run", "--data", f"folder:{others}"]) == 0
    assert "written" not in capsys.readouterr().err and Path("run/evaluation.json").read_text() == "kept"
    assert evaluate("run", f"folder:{others}").files == ()
    assert evaluate("run", split="validation").files == ()
    assert all(path.is_file() for path in evaluate("run").files)


def test_own_images_are_known_by_a_relative_name(here, worse_run, colored_folder, monkeypatch, capsys):
    own = evaluate("run")
    monkeypatch.chdir(colored_folder.parent)
    named = evaluate(here / "run", f"folder:{colored_folder.name}")
    assert named == replace(own, files=named.files) and len(named.files) == 4
    assert named.data == f"folder:{colored_folder}"
    out = str(here / "comparison.png")
    said(capsys, "compare", here / "run", worse_run, "--data", f"folder:{colored_folder.name}", "-o", out)


def test_own_images_are_known_wherever_they_lie(here, colored_folder, capsys):
    own = evaluate("run", split="validation")
    shutil.copytree(colored_folder, "moved")
    header = json.loads(Path("run/recipe.json").read_text())
    header["recipe"]["data"] = header["data"]["source"] = "folder:/gone"
    Path("run/recipe.json").write_text(json.dumps(header))
    words = said(capsys, "evaluate", "run", "--data", "folder:moved", "--temperature")
    assert "fitted on 6 validation images" in words
    assert json.loads(Path("run/evaluation.json").read_text())["data"] == f"folder:{here / 'moved'}"
    assert evaluate("run", "folder:moved", split="validation") == replace(own, data=f"folder:{here / 'moved'}")


def refuse_to_write(monkeypatch) -> None:
    """Let the disk be one that can't be written."""

    def refuse(descriptor: int) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(os, "fsync", refuse)


@pytest.mark.parametrize("options", ["", "--json", "--corruptions --count 2", "--shifts --count 2 --json"])
def test_scores_that_cannot_be_kept_are_printed(options, here, monkeypatch, capsys):
    refuse_to_write(monkeypatch)
    assert run(["evaluate", "run", *options.split()]) == 2
    captured = capsys.readouterr()
    assert "top-1 100.00%" in captured.out or "right in %" in captured.out or json.loads(captured.out)
    assert captured.err.splitlines()[-1].startswith("vitreous: can't write run/")
    assert captured.err.endswith("read-only file system\n") and ".part" not in captured.err
    assert evaluate("run").files == ()


def test_a_comparison_that_cannot_be_drawn_is_printed(here, worse_run, monkeypatch, capsys):
    refuse_to_write(monkeypatch)
    assert run(["compare", "run", str(worse_run)]) == 2
    captured = capsys.readouterr()
    assert "run is better by" in captured.out and "can't write comparison.png: read-only" in captured.err


def test_an_unfinished_run_says_so(tmp_path, monkeypatch, colored_folder, capsys):
    monkeypatch.chdir(tmp_path)
    asked = iter([False] * 5 + [True] * 9)
    stopper = Listener(stoppable=lambda: nullcontext(lambda: next(asked)))
    result = train(tiny_recipe(colored_folder, epochs=2), tmp_path / "run", listener=stopper)
    words = f"unfinished: step 5 of {result.steps}"
    assert not result.finished and words in said(capsys, "evaluate", "run")
    kept = json.loads(Path("run/evaluation.json").read_text())
    assert (kept["step"], kept["steps"]) == (5, result.steps)
    assert words in said(capsys, "evaluate", "run", "--shifts", "--count", "2")
    train(tiny_recipe(colored_folder), tmp_path / "run", resume=True)
    assert "unfinished" not in said(capsys, "evaluate", "run")


REFUSED = {
    "run --count 3": "--count is for --corruptions and --shifts",
    "run --corruptions --count 0": "0 images can't be measured",
    "run --corruptions --temperature": "--temperature is for the images as they are",
    "run/model.safetensors --temperature": "name the images with --data",
}


@pytest.mark.parametrize("arguments", REFUSED)
def test_evaluations_that_cannot_be(arguments, here, capsys):
    assert REFUSED[arguments] in said(capsys, "evaluate", *arguments.split(), code=2)


def test_compare_says_which_is_better(here, worse_run, capsys):
    result = json.loads(said(capsys, "compare", worse_run, "run", "--json"))
    one = result["comparison"]
    assert one["top1"]["value"] > 0 and one["count"] == 30 and one["p_value"] < 0.05
    assert one["only_second_right"] + one["both_right"] == 30
    assert result["words"].startswith("run is better by")
    assert size("comparison.png")[0] == 1600
    assert "run is better by" in said(capsys, "compare", "run", worse_run, "-o", "other.png")


def test_comparisons_that_cannot_be(here, tmp_path, capsys):
    assert "are the same run" in said(capsys, "compare", "run", "../" + here.name + "/run", code=2)
    assert "let its name end in .png" in said(capsys, "compare", "run", "run", "-o", "x.jpg", code=2)
    assert "there is no model at nowhere" in said(capsys, "compare", "run", "nowhere", code=2)
    make_folder(tmp_path / "images", 20)
    train(tiny_recipe(tmp_path / "images", epochs=0.2), tmp_path / "elsewhere")
    assert "name with --data what to compare them on" in said(capsys, "compare", "run", "elsewhere", code=2)
    for part in ("train", "test"):
        (tmp_path / "images" / part / "red").rename(tmp_path / "images" / part / "pink")
    train(tiny_recipe(tmp_path / "images", epochs=0.2), tmp_path / "pink")
    complaint = said(capsys, "compare", "elsewhere", "pink", code=2)
    assert "different classes (3 and 3; only in elsewhere: red; only in pink: pink)" in complaint
    mixed = said(capsys, "compare", "run", "pink", code=2)
    assert "they can't be compared" in mixed and "--data" not in mixed
    assert "(3 and 3; only in the data: pink; only in the model: red)" in said(
        capsys, "evaluate", "run", "--data", f"folder:{tmp_path / 'images'}", code=2
    )
    assert not Path("comparison.png").exists()


def test_models_are_listed(capsys):
    words = said(capsys, "models", "Ti/16", "nano/4-28", "--measure")
    assert "5.72 M" in words and "1.25" in words and "images/s: in" in words
    listed = json.loads(said(capsys, "models", "--json"))
    assert {"name", "parameters", "multiply_adds", "config"} <= set(listed[0]) and len(listed) > 20
    assert "no size 'Ti/61'" in said(capsys, "models", "Ti/61", code=2)


def test_broken_weights_are_no_scores(here, capsys):
    weights = load_file("run/model.safetensors")
    save_file({name: value * float("nan") for name, value in weights.items()}, "run/model.safetensors")
    assert "holds what is no number" in said(capsys, "evaluate", "run", code=2)
