"""The verb `vitreous data`, and training and evaluation on a folder with faults."""

import io
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from tiny_run import RecordingCallback, make_folder, tiny_recipe

from vitreous.cli import run
from vitreous.data.read_options import ReadOptions
from vitreous.data.sources import load_train_validation
from vitreous.diagnostics.evaluation_set import open_evaluation_set
from vitreous.errors import InputError
from vitreous.imaging.reading import open_image
from vitreous.training_recipes import RECIPES
from vitreous.workflows.data import inspect_data
from vitreous.workflows.evaluate import evaluate
from vitreous.workflows.train import train


@pytest.fixture
def photos(tmp_path):
    """Six red, twelve green and twelve blue images to train on, and three a class to test with."""
    folder = make_folder(tmp_path / "photos", 12)
    for index in range(6):
        (folder / "train" / "red" / f"{index}.png").unlink()
    return folder


@pytest.fixture
def faulty(photos):
    """The same images with faults of all kinds."""
    (photos / "train" / "red" / "words.png").write_text("words")
    (photos / "test" / "blue" / "empty.jpg").touch()
    Image.open(photos / "train" / "green" / "7.png").save(photos / "test" / "green" / "copy.bmp")
    shutil.copy(photos / "train" / "green" / "4.png", photos / "train" / "blue" / "copy.png")
    Image.fromarray(np.zeros((30, 30, 3), np.uint8)).save(photos / "train" / "red" / "square.gif")
    return photos


def test_a_folder_without_faults(photos, capsys):
    assert run(["data", f"folder:{photos}"]) == 0
    out = capsys.readouterr().out
    assert "27 train, 3 validation, 9 test, 3 classes" in out and "duplicates: none" in out
    assert "sizes: all 12 × 20" in out and "39 of 39 are not square" in out
    report = inspect_data(f"folder:{photos}", "shapes")
    assert [one.size_hw for one in report.decoded] == [(64, 64)]
    assert report.decoded[0].gigabytes == 3 * 64 * 64 * 39 / 1e9 and report.decoded[0].fits
    red = report.classes[2]
    assert red.weight == max(one.weight for one in report.classes) and report.problems == []
    assert report.imbalance == pytest.approx(2, abs=0.4)


def test_faults_are_listed_and_the_exit_code_is_2(faulty, capsys):
    assert run(["data", f"folder:{faulty}", "--json"]) == 2
    captured = capsys.readouterr()
    report = json.loads(captured.out)
    assert "2 unreadable image(s)" in captured.err and "1 image(s) in more than one split" in captured.err
    assert sorted(line.split(" is ")[0].rpartition("/")[2] for line in report["unreadable"]) == [
        "empty.jpg", "words.png",
    ]  # fmt: skip
    assert [name.rpartition("photos/")[2] for name in report["leaks"][0]] == [
        "train/green/7.png (validation)",
        "test/green/copy.bmp (test)",
    ]
    assert len(report["label_conflicts"]) == 1 and len(report["duplicates"]) == 2
    assert report["sizes"]["largest_hw"] == [30, 30] and report["sizes"]["not_square"] == 41
    assert report["formats"] == {"PNG RGB": 40, "BMP RGB": 1, "GIF P": 1} or report["formats"]["BMP RGB"] == 1
    assert run(["data", f"folder:{faulty}"]) == 2
    assert "words.png is not an image" in capsys.readouterr().out


def test_of_an_image_in_several_splits_one_file_of_each_comes_first(photos, capsys):
    for number in range(4):
        shutil.copy(photos / "train" / "green" / "3.png", photos / "train" / "blue" / f"a copy {number}.png")
    shutil.copytree(photos / "test", photos / "validation")
    for split in ("test", "validation"):
        shutil.copy(photos / "train" / "green" / "3.png", photos / split / "green" / "z.png")
    leak = next(one for one in inspect_data(f"folder:{photos}").leaks if len(one) == 7)
    splits = [name.rpartition(" (")[2] for name in leak]
    assert splits == ["train)", "validation)", "test)", "train)", "train)", "train)", "train)"]
    assert run(["data", f"folder:{photos}"]) == 2
    captured = capsys.readouterr()
    assert "validation/green/z.png (validation) = " in captured.out and "delete all but one of each" in captured.err
    conflict = inspect_data(f"folder:{photos}").label_conflicts[0]
    assert "/blue/" in conflict[0] and "/green/" in conflict[1]
    assert "duplicates within a class" not in captured.out


def test_little_memory_is_printed_in_megabytes(photos, capsys):
    assert run(["data", f"folder:{photos}"]) == 0
    out = capsys.readouterr().out
    assert "decoded at 32 × 32: 0.1 MB, " in out and "decoded at 224 × 224: 5.9 MB, " in out


def test_links_and_hidden_files_are_counted_as_in_training(photos, tmp_path, capsys):
    more = make_folder(tmp_path / "store", 5) / "train" / "red"
    (photos / "train" / "red" / "more").symlink_to(more)
    (photos / "train" / "blue" / "lost.png").symlink_to("/gone.png")
    (photos / "train" / "blue" / "._0.png").write_text("words")
    assert run(["data", f"folder:{photos}", "--json"]) == 2
    report = json.loads(capsys.readouterr().out)
    assert sum(report["splits"].values()) == 39 + 5 and report["skipped"] == []
    (line,) = report["unreadable"]
    assert line.endswith("blue/lost.png: it is a link to /gone.png, which doesn't exist")


def test_a_validation_folder_is_a_split(photos):
    shutil.copytree(photos / "test", photos / "val")
    report = inspect_data(f"folder:{photos}")
    assert report.validation_fraction is None and report.splits == {"train": 30, "validation": 9, "test": 9}
    assert len(report.leaks) == 9
    shutil.rmtree(photos / "test")
    assert inspect_data(f"folder:{photos}").splits == {"train": 30, "validation": 9}


def test_a_folder_without_splits_and_a_published_data_set(tmp_path, monkeypatch):
    report = inspect_data(f"folder:{make_folder(tmp_path / 'more', 40) / 'train'}")
    assert sum(report.splits.values()) == 120 and min(report.splits.values()) > 0
    monkeypatch.setattr("vitreous.data.sources.SHAPES_COUNTS_AND_SEEDS", {"train": (40, 1), "test": (20, 1)})
    shapes = inspect_data("shapes")
    several = sum(one.counts["train"] + one.counts["validation"] > 1 for one in shapes.classes)
    assert shapes.splits == {"train": 40 - several, "validation": several, "test": 20}  # one of each such class
    assert shapes.formats == {"decoded RGB": 60}
    assert len(shapes.leaks) == 20  # drawn from the same seed


def photo_table(path: Path, sizes_hw: list[tuple[int, int]], seed: int) -> list[bytes]:
    """Write a Parquet file of photos of these sizes, of two classes in turn, and a last row that is no image."""
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
def test_stored_photos_of_any_size_without_a_test_split(tmp_path, kind, capsys):
    sizes_hw = [(10 + row % 3, 8 + row % 5) for row in range(30)]
    photo_table(tmp_path / "photos" / "train-0.parquet", sizes_hw, 1)
    source = f"{kind}:{tmp_path / 'photos'}"
    assert run(["data", source, "--json"]) == 2
    captured = capsys.readouterr()
    report = json.loads(captured.out)
    assert "1 unreadable image(s)" in captured.err and report["duplicates"] == []
    assert len(report["unreadable"]) == 1 and "train-0.parquet: row 30 is not an image" in report["unreadable"][0]
    assert report["sizes"]["distinct"] == 15 and report["sizes"]["largest_hw"] == [12, 12]
    assert report["splits"] == {"train": 28, "validation": 2} and report["formats"] == {"PNG RGB": 30}
    _, validation = load_train_validation(
        source, (8, 8), report["validation_fraction"], ReadOptions(skip_unreadable=True)
    )
    held = [one["counts"]["validation"] for one in report["classes"]]
    assert held == np.bincount(validation.labels.numpy(), minlength=2).tolist()
    assert run(["data", source]) == 2 and "30 is not an image" in capsys.readouterr().out


def test_leaks_between_stored_splits_are_named_by_file_and_row(tmp_path):
    for name in ("train", "test", "val"):
        photo_table(tmp_path / f"{name}-0.parquet", [(9, 7), (5, 5)], seed=len(name) % 2)
    report = inspect_data(f"parquet:{tmp_path}")
    assert report.splits == {"train": 2, "validation": 2, "test": 2} and report.validation_fraction is None
    rows = {tuple(name.removeprefix(f"{tmp_path}/") for name in group) for group in report.leaks}
    assert rows == {
        (f"train-0.parquet: row {row} (train)", f"val-0.parquet: row {row} (validation)") for row in range(2)
    }  # fmt: skip


def test_skipped_files_are_listed_but_not_a_problem(photos, capsys):
    for name in ("train/red/1.heic", "train/red/2.heic", "train/red/3", "extra/red/1.png"):
        (photos / name).parent.mkdir(parents=True, exist_ok=True)
        (photos / name).touch()
    assert run(["data", f"folder:{photos}"]) == 0
    out = capsys.readouterr().out
    assert "skipped, because they have no image extension or are in no class (.heic 2, .png 1, none 1): 4" in out
    assert "train/red/1.heic" in out and "extra/red/1.png" in out
    assert len(inspect_data(f"folder:{photos}").skipped) == 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["folder:/nowhere"], "there is no folder"), (["cifr10"], "cifar10"), (["shapes", "--recipe", "shaps"], "shapes")],
)
def test_an_unknown_source_or_recipe_is_an_error(arguments, message, capsys):
    assert run(["data", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_a_folder_without_readable_images_is_an_error(photos, capsys):
    for path in photos.rglob("*.png"):
        path.write_text("words")
    assert run(["data", f"folder:{photos}"]) == 2
    assert "none of the 39 images can be read" in capsys.readouterr().err


def test_training_and_evaluation_skip_unreadable_images_on_request(faulty, tmp_path, monkeypatch, capsys):
    recipe = tiny_recipe(faulty, epochs=0.5)
    with pytest.raises(InputError, match=r"1 of 30 training images can't be used: .*words.png .* --skip-unreadable"):
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


def test_a_run_that_skips_images_resumes_bit_identically_from_the_cache_or_from_memory(faulty, tmp_path, monkeypatch):
    recipe = replace(tiny_recipe(faulty, epochs=3), skip_unreadable=True, class_weights="balanced", resize_mode="crop")
    train(recipe, tmp_path / "uninterrupted")
    assert not train(recipe, tmp_path / "resumed", callback=RecordingCallback(stop_after=3)).finished
    monkeypatch.setenv("VITREOUS_CACHE", "/dev/null")
    train(recipe, tmp_path / "resumed", resume=True, settings={"skip_unreadable": True})
    for name in ("model.safetensors", "checkpoint/state.safetensors"):
        assert (tmp_path / "uninterrupted" / name).read_bytes() == (tmp_path / "resumed" / name).read_bytes()


def test_a_run_that_crops_gets_the_same_pixels_at_evaluation_and_prediction(photos, tmp_path):
    recipe = replace(tiny_recipe(photos, epochs=1), resize_mode="crop")
    train(replace(recipe, model=replace(recipe.model, image_size=(12, 12))), tmp_path / "run")
    exam = open_evaluation_set(tmp_path / "run", None, "test", "cpu")
    assert exam.classifier.preprocessing.resize_mode == "crop"
    for path, image_u8 in zip(sorted((photos / "test").rglob("*.png")), exam.images.images_u8, strict=True):
        assert np.array_equal(image_u8.permute(1, 2, 0).numpy(), np.asarray(open_image(path))[:, 4:16])
        _, geometry = exam.classifier.preprocess(path)
        assert geometry.box == (0, 4, 12, 16)
