"""vitreous evaluate, compare and models, from the command line to the files."""

import errno
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file, save_file
from tiny_run import RecordingCallback, make_folder, tiny_recipe

from vitreous.cli import run
from vitreous.diagnostics.robustness.corruptions import CORRUPTIONS
from vitreous.workflows.evaluate import evaluate
from vitreous.workflows.train import train


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


def output_of(capsys, *arguments: object, code: int = 0) -> str:
    """Return what the command line printed; standard error if the exit code is not 0."""
    assert run([str(argument) for argument in arguments]) == code
    captured = capsys.readouterr()
    return captured.err if code else captured.out


def image_size(path: str) -> tuple[int, int]:
    """Return width and height of an image file."""
    with Image.open(path) as image:
        image.load()
        return image.size


def test_evaluate_writes_metrics_and_intervals(here, capsys):
    scores = json.loads(output_of(capsys, "evaluate", "run", "--json"))
    assert all(isinstance(scores[key], float) for key in ("top1", "loss"))
    assert "top5" not in scores and "top5_interval" not in scores, "with three classes it is always 1"
    assert scores["step"] == scores["steps"]
    for key in ("top1", "loss"):
        low, high = scores[f"{key}_interval"]
        assert low <= scores[key] <= high
    assert {"precision", "precision_interval", "f1_interval", "recall_interval"} <= set(scores["classes"][0])
    assert scores["calibration"]["bins"] and scores["temperature"] is None
    written = json.loads(Path("run/evaluation.json").read_text())
    assert {key: written[key] for key in scores} == scores
    for name in ("confusion", "reliability", "selective"):
        assert min(image_size(f"run/figures/{name}.png")) > 600
    assert scores["top1"] == 1 and not Path("run/figures/mistakes.png").exists()


def test_mistakes_are_shown_where_there_are_some(here, worse_run, capsys):
    shutil.copytree(worse_run, "less")
    words = output_of(capsys, "evaluate", "less")
    assert "95 %:" in words and "expected calibration error" in words and "50% most confident" in words
    assert image_size("less/figures/mistakes.png")[0] > 200
    assert np.ptp(np.asarray(Image.open("less/figures/mistakes.png").convert("L"))) > 100


def test_temperature_is_fitted_on_validation_images_and_saved(here, capsys):
    words = output_of(capsys, "evaluate", "run", "--temperature")
    assert "fitted on 6 validation images" in words
    kept = json.loads(Path("run/evaluation.json").read_text())
    scaling = kept["temperature"]
    assert scaling["loss_after"] < scaling["loss_before"] == pytest.approx(kept["loss"], rel=1e-6)
    assert scaling["ece_before"] == kept["calibration"]["ece"] and scaling["num_validation_images"] == 6
    assert "can't be evaluated on validation" in output_of(
        capsys, "evaluate", "run", "--temperature", "--split", "validation", code=2
    )


def test_corruptions_and_shifts(here, capsys):
    arguments = ("evaluate", "run", "--corruptions", "--shifts", "--count", "12")
    result = json.loads(output_of(capsys, *arguments, "--json"))
    first = result["corruptions"]
    assert [one["corruption"] for one in first["by_corruption"]] == list(CORRUPTIONS) and first["count"] == 12
    scores = [each for one in first["by_corruption"] for each in one["by_severity"]]
    assert first["mean"]["value"] == pytest.approx(np.mean([each["value"] for each in scores]))
    assert len(scores) == 75 and all(each["low"] <= each["value"] <= each["high"] for each in scores)
    assert [one["amount"] for one in result["shifts"]["shifts"]] == list(range(9))
    assert result["shifts"]["shifts"][0] == next(one for one in result["shifts"]["rotations"] if one["amount"] == 0)
    assert json.loads(Path("run/corruptions.json").read_text()) == first
    assert json.loads(Path("run/shifts.json").read_text()) == result["shifts"]
    assert image_size("run/figures/corruptions.png")[0] > 1000 and image_size("run/figures/shifts.png")[0] == 1600
    words = output_of(capsys, *arguments)
    assert "mean corruption accuracy" in words and "rotation, degrees" in words and "12 test images" in words


def test_a_smaller_sample_does_not_replace_a_larger_one(here, capsys):
    assert run(["evaluate", "run", "--shifts", "--count", "12"]) == 0
    assert "run/shifts.json and run/figures/shifts.png written" in capsys.readouterr().err
    for name in ("corruptions", "shifts"):
        Path(f"run/{name}.json").write_text('{"count": 7}')
    assert run(["evaluate", "run", "--corruptions", "--shifts", "--count", "6"]) == 0
    printed = capsys.readouterr()
    for name in ("corruptions", "shifts"):
        assert f"nothing written: run/{name}.json has more images and is kept" in printed.err
        assert Path(f"run/{name}.json").read_text() == '{"count": 7}'
    assert "6 test images" in printed.out and not Path("run/figures/corruptions.png").exists()
    assert run(["evaluate", "run", "--shifts"]) == 0
    assert json.loads(Path("run/shifts.json").read_text())["count"] == 30
    os.utime("run/model.safetensors", (4e9, 4e9))  # trained on since
    assert run(["evaluate", "run", "--shifts", "--count", "6"]) == 0
    assert json.loads(Path("run/shifts.json").read_text())["count"] == 6


def test_only_written_files_are_listed(here, tmp_path, capsys):
    assert run(["evaluate", "run"]) == 0
    assert "run/evaluation.json and 3 images in run/figures written" in capsys.readouterr().err
    Path("run/evaluation.json").write_text("kept")
    others = make_folder(tmp_path / "others", 8)
    assert run(["evaluate", "run", "--data", f"folder:{others}"]) == 0
    assert "written" not in capsys.readouterr().err and Path("run/evaluation.json").read_text() == "kept"
    assert evaluate("run", f"folder:{others}").files == ()
    assert evaluate("run", split="validation").files == ()
    assert all(path.is_file() for path in evaluate("run").files)


def test_own_images_are_recognized_by_a_relative_name(here, worse_run, colored_folder, monkeypatch, capsys):
    own = evaluate("run")
    monkeypatch.chdir(colored_folder.parent)
    named = evaluate(here / "run", f"folder:{colored_folder.name}")
    assert named == replace(own, files=named.files) and len(named.files) == 4
    assert named.data == f"folder:{colored_folder}"
    out = str(here / "comparison.png")
    output_of(capsys, "compare", here / "run", worse_run, "--data", f"folder:{colored_folder.name}", "-o", out)


def test_own_images_are_recognized_after_they_were_moved(here, colored_folder, capsys):
    own = evaluate("run", split="validation")
    shutil.copytree(colored_folder, "moved")
    header = json.loads(Path("run/recipe.json").read_text())
    header["recipe"]["data"] = header["data"]["source"] = "folder:/gone"
    Path("run/recipe.json").write_text(json.dumps(header))
    words = output_of(capsys, "evaluate", "run", "--data", "folder:moved", "--temperature")
    assert "fitted on 6 validation images" in words
    assert json.loads(Path("run/evaluation.json").read_text())["data"] == f"folder:{here / 'moved'}"
    assert evaluate("run", "folder:moved", split="validation") == replace(own, data=f"folder:{here / 'moved'}")


def refuse_to_write(monkeypatch) -> None:
    """Make every write to the disk fail."""

    def refuse(descriptor: int) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(os, "fsync", refuse)


@pytest.mark.parametrize("options", ["", "--json", "--corruptions --count 2", "--shifts --count 2 --json"])
def test_metrics_that_cannot_be_saved_are_printed(options, here, monkeypatch, capsys):
    refuse_to_write(monkeypatch)
    assert run(["evaluate", "run", *options.split()]) == 2
    captured = capsys.readouterr()
    assert "top-1 100.00%" in captured.out or "accuracy in %" in captured.out or json.loads(captured.out)
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
    stopper = RecordingCallback(stop_after=5)
    result = train(tiny_recipe(colored_folder, epochs=2), tmp_path / "run", callback=stopper)
    words = f"unfinished: step 5 of {result.steps}"
    assert not result.finished and words in output_of(capsys, "evaluate", "run")
    kept = json.loads(Path("run/evaluation.json").read_text())
    assert (kept["step"], kept["steps"]) == (5, result.steps)
    assert words in output_of(capsys, "evaluate", "run", "--shifts", "--count", "2")
    train(tiny_recipe(colored_folder), tmp_path / "run", resume=True)
    assert "unfinished" not in output_of(capsys, "evaluate", "run")


REFUSED = {
    "run --count 3": "--count is for --corruptions and --shifts",
    "run --corruptions --count 0": "can't evaluate 0 images",
    "run --corruptions --temperature": "--temperature applies to unchanged images only",
    "run/model.safetensors --temperature": "name the images with --data",
}


@pytest.mark.parametrize("arguments", REFUSED)
def test_bad_input_of_evaluate(arguments, here, capsys):
    assert REFUSED[arguments] in output_of(capsys, "evaluate", *arguments.split(), code=2)


def test_compare_reports_the_better_run(here, worse_run, capsys):
    result = json.loads(output_of(capsys, "compare", worse_run, "run", "--json"))
    one = result["comparison"]
    assert one["top1"]["value"] > 0 and one["count"] == 30 and one["p_value"] < 0.05
    assert one["only_second_correct"] + one["both_correct"] == 30
    assert result["summary"].startswith("run is better by")
    assert image_size("comparison.png")[0] == 1600
    assert "run is better by" in output_of(capsys, "compare", "run", worse_run, "-o", "other.png")


def test_bad_input_of_compare(here, tmp_path, capsys):
    assert "are the same model" in output_of(capsys, "compare", "run", "../" + here.name + "/run", code=2)
    assert "choose a name that ends in .png" in output_of(capsys, "compare", "run", "run", "-o", "x.jpg", code=2)
    assert "there is no model at nowhere" in output_of(capsys, "compare", "run", "nowhere", code=2)
    make_folder(tmp_path / "images", 20)
    train(tiny_recipe(tmp_path / "images", epochs=0.2), tmp_path / "elsewhere")
    assert "name the images to compare them on with --data" in output_of(capsys, "compare", "run", "elsewhere", code=2)
    for part in ("train", "test"):
        (tmp_path / "images" / part / "red").rename(tmp_path / "images" / part / "pink")
    train(tiny_recipe(tmp_path / "images", epochs=0.2), tmp_path / "pink")
    complaint = output_of(capsys, "compare", "elsewhere", "pink", code=2)
    assert "different classes (3 and 3; only in elsewhere: red; only in pink: pink)" in complaint
    mixed = output_of(capsys, "compare", "run", "pink", code=2)
    assert "they can't be compared" in mixed and "--data" not in mixed
    assert "(3 and 3; only in the data: pink; only in the model: red)" in output_of(
        capsys, "evaluate", "run", "--data", f"folder:{tmp_path / 'images'}", code=2
    )
    assert not Path("comparison.png").exists()


def test_models_are_listed(capsys):
    words = output_of(capsys, "models", "Ti/16", "nano/4-28", "--measure")
    assert "5.72 M" in words and "1.25" in words and "images/s: " in words and "image_size" in words
    listed = json.loads(output_of(capsys, "models", "--json"))
    assert {"name", "params", "macs", "config"} <= set(listed[0]) and len(listed) > 20
    assert "the verb 'vitreous models' list all" in output_of(capsys, "models", "Ti/61", code=2)


def test_weights_that_are_not_finite_are_errors(here, capsys):
    weights = load_file("run/model.safetensors")
    save_file({name: value * float("nan") for name, value in weights.items()}, "run/model.safetensors")
    assert "has values that are NaN or infinite" in output_of(capsys, "evaluate", "run", code=2)
