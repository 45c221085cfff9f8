"""vitreous data, and training and measuring on a folder that isn't sound."""

import io
import json
import shutil
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from runs import make_folder, tiny_recipe

from vitreous.cli import run
from vitreous.data.read_options import ReadOptions
from vitreous.data.sources import load_train_validation
from vitreous.diagnostics.evaluation_set import open_evaluation_set
from vitreous.errors import InputError
from vitreous.imaging.reading import open_image
from vitreous.recipes import RECIPES
from vitreous.workflows.data import inspect_data
from vitreous.workflows.evaluate import evaluate
from vitreous.workflows.train import Listener, train


@pytest.fixture
def photos(tmp_path):
    """Six red, twelve green and twelve blue images to train on, and three a class to test with."""
    folder = make_folder(tmp_path / "photos", 12)
    for index in range(6):
        (folder / "train" / "red" / f"{index}.png").unlink()
    return folder


@pytest.fixture
def unsound(photos):
    """The same with faults of all kinds."""
    (photos / "train" / "red" / "words.png").write_text("words")
    (photos / "test" / "blue" / "empty.jpg").touch()
    Image.open(photos / "train" / "green" / "3.png").save(photos / "test" / "green" / "copy.bmp")
    shutil.copy(photos / "train" / "green" / "4.png", photos / "train" / "blue" / "copy.png")
    Image.fromarray(np.zeros((30, 30, 3), np.uint8)).save(photos / "train" / "red" / "square.gif")
    return photos


def test_a_sound_folder(photos, capsys):
    assert run(["data", f"folder:{photos}"]) == 0
    out = capsys.readouterr().out
    assert "28 train, 2 validation, 9 test, 3 classes" in out and "copies: none" in out
    assert "sizes: all 12 × 20" in out and "39 of 39 not square" in out
    report = inspect_data(f"folder:{photos}", "shapes")
    assert [one.size_hw for one in report.decoded] == [(64, 64)]
    assert report.decoded[0].gigabytes == 3 * 64 * 64 * 39 / 1e9 and report.decoded[0].fits
    red = report.classes[2]
    assert red.weight == max(one.weight for one in report.classes) and report.faults == []
    assert report.imbalance == pytest.approx(2, abs=0.4)


def test_faults_are_named_and_the_exit_code_says_so(unsound, capsys):
    assert run(["data", f"folder:{unsound}", "--json"]) == 2
    said = capsys.readouterr()
    report = json.loads(said.out)
    assert "2 unreadable image(s)" in said.err and "1 image(s) in more than one split" in said.err
    assert sorted(line.split(" is ")[0].rpartition("/")[2] for line in report["unreadable"]) == [
        "empty.jpg", "words.png",
    ]  # fmt: skip
    assert [name.rpartition("photos/")[2] for name in report["leaks"][0]] == [
        "train/green/3.png (validation)",
        "test/green/copy.bmp (test)",
    ]
    assert len(report["contradictions"]) == 1 and len(report["copies"]) == 2
    assert report["sizes"]["largest_hw"] == [30, 30] and report["sizes"]["not_square"] == 41
    assert report["kinds"] == {"PNG RGB": 40, "BMP RGB": 1, "GIF P": 1} or report["kinds"]["BMP RGB"] == 1
    assert run(["data", f"folder:{unsound}"]) == 2
    assert "words.png is not an image" in capsys.readouterr().out


def test_of_an_image_in_several_splits_one_file_of_each_is_shown_first(photos, capsys):
    for number in range(4):
        shutil.copy(photos / "train" / "green" / "3.png", photos / "train" / "blue" / f"a copy {number}.png")
    shutil.copytree(photos / "test", photos / "validation")
    for part in ("test", "validation"):
        shutil.copy(photos / "train" / "green" / "3.png", photos / part / "green" / "z.png")
    leak = next(one for one in inspect_data(f"folder:{photos}").leaks if len(one) == 7)
    splits = [name.rpartition(" (")[2] for name in leak]
    assert splits == ["train)", "validation)", "test)", "train)", "train)", "train)", "train)"]
    assert run(["data", f"folder:{photos}"]) == 2
    said = capsys.readouterr()
    assert "validation/green/z.png (validation) = " in said.out and "delete the copies of each but one" in said.err
    contradiction = inspect_data(f"folder:{photos}").contradictions[0]
    assert "/blue/" in contradiction[0] and "/green/" in contradiction[1]
    assert "more than once in one class" not in said.out


def test_little_memory_is_told_in_megabytes(photos, capsys):
    assert run(["data", f"folder:{photos}"]) == 0
    out = capsys.readouterr().out
    assert "decoded at 32 × 32: 0.1 MB, " in out and "decoded at 224 × 224: 5.9 MB, " in out


def test_links_and_hidden_files_are_counted_as_they_are_learned(photos, tmp_path, capsys):
    more = make_folder(tmp_path / "store", 5) / "train" / "red"
    (photos / "train" / "red" / "more").symlink_to(more)
    (photos / "train" / "blue" / "lost.png").symlink_to("/gone.png")
    (photos / "train" / "blue" / "._0.png").write_text("words")
    assert run(["data", f"folder:{photos}", "--json"]) == 2
    report = json.loads(capsys.readouterr().out)
    assert sum(report["splits"].values()) == 39 + 5 and report["left_out"] == []
    (line,) = report["unreadable"]
    assert line.endswith("blue/lost.png: it is a link to /gone.png, which isn't there")


def test_validation_images_of_the_folder_are_a_split(photos):
    shutil.copytree(photos / "test", photos / "val")
    report = inspect_data(f"folder:{photos}")
    assert report.held_out is None and report.splits == {"train": 30, "validation": 9, "test": 9}
    assert len(report.leaks) == 9
    shutil.rmtree(photos / "test")
    assert inspect_data(f"folder:{photos}").splits == {"train": 30, "validation": 9}


def test_a_simple_folder_and_a_ready_made_source(tmp_path, monkeypatch):
    report = inspect_data(f"folder:{make_folder(tmp_path / 'more', 40) / 'train'}")
    assert sum(report.splits.values()) == 120 and min(report.splits.values()) > 0
    monkeypatch.setattr("vitreous.data.sources.SHAPES_COUNTS_AND_SEEDS", {"train": (40, 1), "test": (20, 1)})
    shapes = inspect_data("shapes")
    assert shapes.splits == {"train": 38, "validation": 2, "test": 20} and shapes.kinds == {"decoded RGB": 60}
    assert len(shapes.leaks) == 20  # drawn from the same seed


def photo_table(path: Path, sizes_hw: list[tuple[int, int]], seed: int) -> list[bytes]:
    """Write a Parquet file of photos of these sizes, a class in turn, the last one no image; give their bytes."""
    random, encoded = np.random.default_rng(seed), []
    for size_hw in sizes_hw:
        stream = io.BytesIO()
        Image.fromarray(random.integers(0, 256, (*size_hw, 3), dtype=np.uint8)).save(stream, "PNG")
        encoded.append(stream.getvalue())
    rows = [*encoded, b"words"]
    path.parent.mkdir(exist_ok=True)
    pq.write_table(pa.table({"image": rows, "label": [row % 2 for row in range(len(rows))]}), path)
    return encoded


@pytest.mark.parametrize("kind", ["hf", "parquet"])
def test_stored_photos_of_any_size_without_a_test_part(tmp_path, kind, capsys):
    sizes_hw = [(10 + row % 3, 8 + row % 5) for row in range(30)]
    photo_table(tmp_path / "photos" / "train-0.parquet", sizes_hw, 1)
    source = f"{kind}:{tmp_path / 'photos'}"
    assert run(["data", source, "--json"]) == 2
    said = capsys.readouterr()
    report = json.loads(said.out)
    assert "1 unreadable image(s)" in said.err and report["copies"] == []
    assert len(report["unreadable"]) == 1 and "train-0.parquet: row 30 is not an image" in report["unreadable"][0]
    assert report["sizes"]["different"] == 15 and report["sizes"]["largest_hw"] == [12, 12]
    assert report["splits"] == {"train": 28, "validation": 2} and report["kinds"] == {"PNG RGB": 30}
    _, validation = load_train_validation(source, (8, 8), report["held_out"], ReadOptions(skip_unreadable=True))
    held = [one["counts"]["validation"] for one in report["classes"]]
    assert held == np.bincount(validation.labels.numpy(), minlength=2).tolist()
    assert run(["data", source]) == 2 and "30 is not an image" in capsys.readouterr().out


def test_leaks_between_stored_parts_are_named_by_file_and_row(tmp_path):
    for name in ("train", "test", "val"):
        photo_table(tmp_path / f"{name}-0.parquet", [(9, 7), (5, 5)], seed=len(name) % 2)
    report = inspect_data(f"parquet:{tmp_path}")
    assert report.splits == {"train": 2, "validation": 2, "test": 2} and report.held_out is None
    places = {tuple(name.removeprefix(f"{tmp_path}/") for name in group) for group in report.leaks}
    assert places == {
        (f"train-0.parquet: row {row} (train)", f"val-0.parquet: row {row} (validation)") for row in range(2)
    }  # fmt: skip


def test_files_left_out_are_named_but_no_fault(photos, capsys):
    for name in ("train/red/1.heic", "train/red/2.heic", "train/red/3", "valid/red/1.png"):
        (photos / name).parent.mkdir(parents=True, exist_ok=True)
        (photos / name).touch()
    assert run(["data", f"folder:{photos}"]) == 0
    out = capsys.readouterr().out
    assert "left out, without an image's ending or in no class (.heic 2, .png 1, none 1): 4" in out
    assert "train/red/1.heic" in out and "valid/red/1.png" in out
    assert len(inspect_data(f"folder:{photos}").left_out) == 4


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(["folder:/nowhere"], "there is no folder"), (["cifr10"], "cifar10"), (["shapes", "--recipe", "shaps"], "shapes")],
)
def test_what_is_not_there(arguments, words, capsys):
    assert run(["data", *arguments]) == 2
    assert words in capsys.readouterr().err


def test_nothing_readable(photos, capsys):
    for path in photos.rglob("*.png"):
        path.write_text("words")
    assert run(["data", f"folder:{photos}"]) == 2
    assert "none of the 39 images can be read" in capsys.readouterr().err


def test_training_and_measuring_skip_what_they_are_told_to(unsound, tmp_path, monkeypatch, capsys):
    recipe = tiny_recipe(unsound, epochs=0.5)
    with pytest.raises(InputError, match=r"1 of 31 training images can't be used: .*words.png .* --skip-unreadable"):
        train(recipe, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    monkeypatch.setitem(RECIPES, "tiny", lambda: recipe)
    assert run(["train", "tiny", "--out", str(tmp_path / "run"), "--skip-unreadable"]) == 0
    assert "words.png" in capsys.readouterr().err
    scores = evaluate(tmp_path / "run")
    assert scores.count == 10 and "empty.jpg" in capsys.readouterr().err
    other = make_folder(tmp_path / "others", 8)
    (other / "test" / "red" / "bad.png").write_text("words")
    options = ["evaluate", str(tmp_path / "run"), "--data", f"folder:{other}"]
    assert run(options) == 2 and "--skip-unreadable" in capsys.readouterr().err
    assert run([*options, "--skip-unreadable"]) == 0 and "6 images" in capsys.readouterr().out


def test_a_run_that_skips_resumes_to_the_same_bytes_from_the_cache_or_from_memory(unsound, tmp_path, monkeypatch):
    recipe = replace(tiny_recipe(unsound, epochs=3), skip_unreadable=True, class_weights="balanced", resize_mode="crop")
    train(recipe, tmp_path / "whole")
    asked = iter(range(100))
    stopping = Listener(stoppable=lambda: nullcontext(lambda: next(asked) >= 3))
    assert not train(recipe, tmp_path / "parts", listener=stopping).finished
    monkeypatch.setenv("VITREOUS_CACHE", "/dev/null")
    train(recipe, tmp_path / "parts", resume=True, settings={"skip_unreadable": "true"})
    for name in ("model.safetensors", "checkpoint/state.safetensors"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "parts" / name).read_bytes()


def test_a_cropping_run_sees_the_same_at_evaluation_as_on_an_image(photos, tmp_path):
    recipe = replace(tiny_recipe(photos, epochs=1), resize_mode="crop")
    train(replace(recipe, model=replace(recipe.model, image_size=(12, 12))), tmp_path / "run")
    exam = open_evaluation_set(tmp_path / "run", None, "test", "cpu")
    assert exam.classifier.preprocessing.resize_mode == "crop"
    for path, shown in zip(sorted((photos / "test").rglob("*.png")), exam.images.images_u8, strict=True):
        assert np.array_equal(shown.permute(1, 2, 0).numpy(), np.asarray(open_image(path))[:, 4:16])
        _, geometry = exam.classifier.preprocess(path)
        assert geometry.box == (0, 4, 12, 16)
