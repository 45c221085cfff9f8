"""What a probe refuses in one line, and what it leaves out: data, splits, shots and images."""

import json
import shutil

import pytest

from vitreous.cli import run
from vitreous.errors import InputError
from vitreous.transfer import embed as embed_module
from vitreous.transfer.embed import embed
from vitreous.transfer.probing.run import probe


def test_bad_data_are_one_line_on_the_command_line(trained_run, colored_folder, tmp_path, capsys):
    """One class, fewer images than classes, a probe without a validation part: one line, and exit code 2."""

    def error_of(folder, *more: str) -> str:
        capsys.readouterr()
        assert run(["probe", str(trained_run), "--data", f"folder:{folder}", *more]) == 2
        return capsys.readouterr().err.splitlines()[-1]

    one, few = tmp_path / "one", tmp_path / "few"
    for split in ("train", "test"):
        shutil.copytree(colored_folder / split / "red", one / split / "red")
        for name in ("red", "green", "blue"):
            (few / split / name).mkdir(parents=True)
            shutil.copy(sorted((colored_folder / split / name).iterdir())[0], few / split / name)
    assert "has 1 class folder(s), 2 or more are needed" in error_of(one)
    assert "has no validation images, and --validation-fraction 0.2 holds none out" in error_of(few)
    assert "--validation-fraction 0.0 holds none out" in error_of(colored_folder, "--validation-fraction", "0")


def test_labels_and_splits_are_refused_before_images_are_read(small_classifier, colored_folder, monkeypatch):
    monkeypatch.setattr(embed_module, "_load", lambda job, index: pytest.fail("an image was read"))
    with pytest.raises(InputError, match="has no labels"):
        probe(small_classifier, str(colored_folder / "test" / "red"))
    with pytest.raises(InputError, match="50 shots are more than the 32 training images"):
        probe(small_classifier, f"folder:{colored_folder}", shots=[1, 50])
    with pytest.raises(InputError, match=r"there is no file .*none\.parquet: write it with vitreous embed"):
        probe(small_classifier, str(colored_folder / "none.parquet"))


def test_unreadable_images_are_left_out_as_the_error_advises(small_classifier, colored_folder, tmp_path, capsys):
    shutil.copytree(colored_folder, tmp_path / "data")
    min((tmp_path / "data").glob("train/*/*")).write_bytes(b"no image")
    source, folder = f"folder:{tmp_path / 'data'}", tmp_path / "model"
    small_classifier.save(folder)
    assert run(["probe", str(folder), "--data", source]) == 2
    assert "skip such images with --skip-unreadable" in capsys.readouterr().err
    assert run(["probe", str(folder), "--data", source, "--skip-unreadable", "--methods", "knn"]) == 0
    printed = capsys.readouterr()
    assert "95 training, 24 validation, 30 test images" in printed.out
    assert "1 of 150 images can't be read and are skipped:" in printed.err
    query = max(colored_folder.glob("test/*/*"))
    assert run(["similar", str(folder), str(query), "--data", source, "--skip-unreadable", "--json"]) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out)["count"] == 149
    assert "1 of 150 images can't be read and are skipped; `vitreous data` lists them" in printed.err, "from the cache"


def test_a_class_without_a_readable_training_image_is_named(small_classifier, colored_folder, tmp_path):
    """In the images themselves, and in a file of features that was written without them."""
    shutil.copytree(colored_folder, tmp_path / "data")
    for path in (tmp_path / "data").glob("train/blue/*"):
        path.write_bytes(b"no image")
    source, file = f"folder:{tmp_path / 'data'}", tmp_path / "f.parquet"
    embed(small_classifier, source, file, skip_unreadable=True)
    for data in (source, str(file)):
        with pytest.raises(InputError, match=r"has no training image that can be read of the class\(es\) blue: repair"):
            probe(small_classifier, data, methods=["knn"], skip_unreadable=True)


@pytest.mark.parametrize(("split", "only"), [("train", "training"), ("test", "test")])
def test_a_file_of_one_split_is_named_with_what_to_do(split, only, small_classifier, colored_folder, tmp_path):
    embed(small_classifier, f"folder:{colored_folder}", file := tmp_path / "f.parquet", split=split)
    with pytest.raises(InputError, match=rf"f\.parquet has only {only} images: embed with --split all"):
        probe(small_classifier, str(file))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shots": [1, 0]}, "shots 0 is too few: give 1 or more"),
        ({"draws": 0}, "draws 0 is too few: give 1 or more"),
        ({"methods": []}, "no methods are named: give one or more of knn, logistic"),
    ],
)
def test_the_number_that_is_wrong_is_named(options, message, small_classifier, colored_folder):
    with pytest.raises(InputError) as error:
        probe(small_classifier, f"folder:{colored_folder}", **options)
    assert str(error.value) == message
