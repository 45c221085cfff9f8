"""`explain` and `predict` on several images: folders, damaged files, names, memory, JSON and CSV."""

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vitreous.cli import run
from vitreous.data.image_files import BATCH_PIXELS, distinct_file_names, read_batches

CUT = "cut.png"


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """A folder with two photos of one name, a damaged one, and a file that is no image."""
    monkeypatch.chdir(tmp_path)
    for name in ("photos/a/x.png", "photos/b/x.png"):
        Path(name).parent.mkdir(parents=True)
        pixels = np.random.default_rng(len(name)).integers(0, 256, (30, 40, 3), np.uint8)
        Image.fromarray(pixels).save(name)
    Path("photos", CUT).write_bytes(Path("photos/a/x.png").read_bytes()[:200])
    Path("photos/notes.txt").write_text("notes")
    return Path("photos")


@pytest.mark.parametrize(
    ("layout", "kind"), [("single", "attention"), ("sheet", "layers"), ("contour", "attention-contour")]
)
def test_one_damaged_image_of_a_folder_does_not_stop_the_others(photos, trained_run, capsys, layout, kind):
    assert run(["explain", str(trained_run), "photos", "-o", "out", "--layout", layout]) == 3
    written = sorted(str(path) for path in Path("out").rglob("*.png"))
    assert written == [f"out/a/x-{kind}.png", f"out/b/x-{kind}.png"]
    said = capsys.readouterr()
    assert [line.split(":")[0] for line in said.out.splitlines()] == written
    assert f"vitreous: photos/{CUT} is truncated or damaged" in said.err


@pytest.mark.parametrize("layout", ["grid", "methods"])
def test_one_figure_of_the_readable_images_names_their_files(photos, trained_run, capsys, layout, monkeypatch):
    shown = []
    target = "draw_gallery_items" if layout == "grid" else "draw_method_tiles"
    draw = getattr(sys.modules["vitreous.workflows.explain_files"], target)
    monkeypatch.setattr(
        f"vitreous.workflows.explain_files.{target}", lambda items, *rest: shown.extend(items) or draw(items, *rest)
    )
    assert run(["explain", str(trained_run), "photos", "--layout", layout, "-o", "all.png"]) == 3
    assert Path("all.png").is_file()
    names = [one.name for one in shown] if layout == "grid" else [line for one in shown for line in one.lines]
    assert [name for name in names if name.endswith(".png")] == ["a/x.png", "b/x.png"]


def test_if_no_image_can_be_explained_the_exit_code_is_2(photos, trained_run, capsys):
    assert run(["explain", str(trained_run), f"photos/{CUT}", "missing.png", "-o", "out"]) == 2
    said = capsys.readouterr().err
    assert "there is no file missing.png" in said and "none of the 2 images could be explained" in said
    assert not Path("out").exists()


def test_an_error_of_all_images_is_said_once(photos, trained_run, capsys):
    Path("photos", CUT).unlink()
    assert run(["explain", str(trained_run), "photos", "--layer", "9", "-o", "out"]) == 2
    assert capsys.readouterr().err.count("no layer 9") == 1


def test_images_that_fail_in_a_later_batch_do_not_lose_the_earlier_ones(tmp_path, trained_run, capsys):
    """Sixteen images are explained; in the next batch none reaches to the query."""
    for index in range(18):
        size = (60, 60) if index < 16 else (30, 30)
        Image.new("RGB", size, "gray").save(tmp_path / f"{index:02}.png")
    arguments = ["explain", str(trained_run), str(tmp_path), "--query", "40,40", "--layout", "single"]
    assert run([*arguments, "-o", str(tmp_path / "out"), "--json"]) == 3
    found = json.loads(capsys.readouterr().out)
    assert len(found["figures"]) == len(list((tmp_path / "out").glob("*.png"))) == 16
    assert [Path(one["image"]).name for one in found["failed"]] == ["16.png", "17.png"]


def test_a_request_that_fails_on_test_images_is_one_line(colored_folder, trained_run, tmp_path, capsys):
    arguments = ["explain", str(trained_run), "--data", f"folder:{colored_folder}", "--count", "1", "--layer", "9"]
    assert run([*arguments, "-o", str(tmp_path / "out.png")]) == 2
    assert "no layer 9" in capsys.readouterr().err


def test_the_output_inside_a_folder_is_not_explained_again(photos, trained_run):
    for _ in range(2):
        assert run(["explain", str(trained_run), "photos", "-o", "photos/out"]) == 3
    assert len(list(Path("photos/out").rglob("*.png"))) == 2


@pytest.mark.parametrize(
    ("files", "names"),
    [
        ("a/x.png b/y.png", "x y"),
        ("a/x.png b/x.png", "a/x b/x"),
        ("a/x.png a/x.jpg", "x.png x.jpg"),
        ("a/x.png a/X.png", "x.png X.png-2"),
        ("a/x.png b/../c/x.png", "a/x c/x"),
        ("a/x.png a/x.jpg a/X.PNG a/x.png-2", "x.png x.jpg X.PNG-2 x.png-2-2"),
    ],
)
def test_names_differ_on_every_file_system(files, names):
    found = distinct_file_names([Path(name) for name in files.split()])
    assert len({str(name).casefold() for name in found}) == len(found)
    assert " ".join(map(str, found)) == names


def test_large_images_are_read_one_by_one(tmp_path):
    small, large = tmp_path / "small.png", tmp_path / "large.png"
    Image.new("RGB", (10, 10)).save(small)
    Image.new("RGB", (BATCH_PIXELS // 2000, 2000)).save(large)
    assert [len(batch) for batch in read_batches([large, large, small, large, small])] == [1, 1, 2, 1]


@pytest.mark.parametrize("layout", ["grid", "before-after"])
def test_json_says_which_test_images_were_explained(layout, trained_run, colored_folder, tmp_path, capsys):
    source = f"folder:{colored_folder}"
    arguments = [
        "explain",
        str(trained_run),
        "--data",
        source,
        "--count",
        "2",
        "-o",
        str(tmp_path / "sheet.png"),
        "--json",
    ]
    before = ["--before", str(trained_run)] if layout == "before-after" else []
    assert run([*arguments, "--layout", layout, *before]) == 0
    (figure,) = json.loads(capsys.readouterr().out)["figures"]
    places = [(one["image"], one["data"], one["split"], one["index"]) for one in figure["images"]]
    assert list(dict.fromkeys(places)) == [(None, source, "test", index) for index in range(2)]


def test_json_holds_predictions_maps_and_failures(photos, trained_run, capsys):
    assert run(["explain", str(trained_run), "photos", "-o", "out", "--json"]) == 3
    found = json.loads(capsys.readouterr().out)
    assert [one["figure"] for one in found["figures"]] == ["out/a/x-attention.png", "out/b/x-attention.png"]
    (image,) = found["figures"][0]["images"]
    assert image["image"] == "photos/a/x.png" and image["method"] == "attention"
    assert image["prediction"][0].keys() == {"label", "score"}
    assert 0 < np.array(image["patch_map"]).sum() <= 1 + 1e-6
    assert [one["image"] for one in found["failed"]] == [f"photos/{CUT}"]
    assert run(["explain", str(trained_run), "photos", "--method", "attention,rollout", "--csv"]) == 3
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [(row["image"], row["method"]) for row in rows] == [
        (f"photos/{name}", method) for name in ("a/x.png", "b/x.png") for method in ("attention", "rollout")
    ]
    assert rows[0]["figure"] == "explanations-methods.png" and rows[0]["label"] == image["prediction"][0]["label"]
    assert float(rows[0]["score"]) == pytest.approx(image["prediction"][0]["score"], abs=1e-6)


def test_predict_prints_the_labels_of_every_image(photos, trained_run, capsys):
    assert run(["predict", str(trained_run), "photos", "--top-k", "2"]) == 3
    said = capsys.readouterr()
    assert [line.split(": ")[0] for line in said.out.splitlines()] == ["photos/a/x.png", "photos/b/x.png"]
    assert said.out.splitlines()[0].count("%") == 2 and CUT in said.err
    assert run(["predict", str(trained_run), "photos", "--json", "--top-k", "2"]) == 3
    images = json.loads(capsys.readouterr().out)["images"]
    assert [len(one.get("prediction", [])) for one in images] == [2, 2, 0] and "error" in images[2]
    assert run(["predict", str(trained_run), "photos", "--csv", "--top-k", "2"]) == 3
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert len(rows) == 4 and float(rows[0]["score"]) == images[0]["prediction"][0]["score"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("", "no image is named"),
        ("--top-k 0 photos", "--top-k is 0"),
        ("--json --csv photos", "give one of them"),
        (f"photos/{CUT}", "is truncated or damaged"),
    ],
)
def test_predictions_that_cannot_be(photos, trained_run, capsys, arguments, words):
    assert run(["predict", str(trained_run), *arguments.split()]) == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize("columns", ["0", "1", "3"])
def test_help_ends_whatever_the_width(columns):
    command = [sys.executable, "-m", "vitreous", "explain", "--help"]
    done = subprocess.run(
        command, env={**os.environ, "COLUMNS": columns}, capture_output=True, text=True, timeout=60, check=True
    )
    assert "MODEL [IMAGES...]" in " ".join(done.stdout.split()) and "--layout" in done.stdout


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_output_that_is_not_utf8_is_printed_with_replacements(encoding):
    command = [sys.executable, "-m", "vitreous", "models", "Ti/16"]
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    done = subprocess.run(command, env=environment, capture_output=True, timeout=60, check=False)
    assert done.returncode == 0 and b"Ti/16" in done.stdout and not done.stderr


def test_the_settings_of_a_recipe_are_listed(capsys):
    from vitreous.records import setting_names
    from vitreous.training.from_weights import FREE_MODEL_SETTINGS
    from vitreous.training_recipes import find_recipe

    assert run(["train", "shapes", "--help-settings"]) == 0
    listed = capsys.readouterr().out
    names = set(setting_names(find_recipe("shapes"))) - {"model.num_classes", "model.in_chans"}
    assert all(f"  {name}=" in listed for name in names)
    finetune = ["train", "finetune", "--help-settings"]
    assert run([*finetune, "--set", "tune=lora", "--set", "model.image_size=96", "--set", "lora.rank=4"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert {line.split("=")[0].strip() for line in lines if line.startswith("  model.")} == set(FREE_MODEL_SETTINGS)
    for start in ("  tune=lora ", "  lora.rank=4 ", "  optimizer.learning_rate=0.002 ", "  model.image_size=96,96 "):
        assert any(line.startswith(start) for line in lines), start
    assert any(line.startswith("  crop_pct=that of the model to start from ") for line in lines)
    assert run([*finetune, "--set", "model.depth=3"]) == 2
    assert "model.depth is that of the model to start from: leave it out" in capsys.readouterr().err
    assert run(["train"]) == 2 and "choose one of cifar10-20" in capsys.readouterr().err
