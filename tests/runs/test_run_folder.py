"""The messages on missing and damaged files: advice about runs only where a run was meant."""

import os
import shutil
from pathlib import Path

import pytest

from vitreous import files
from vitreous.errors import InputError
from vitreous.files import atomic_write, read_json
from vitreous.runs.run_folder import (
    RunFolder,
    append_metrics,
    check_unused,
    read_metadata,
    read_metrics,
    write_metadata,
)


@pytest.mark.parametrize(
    ("text", "message"), [("{", "is not JSON"), ("[1]", "is not a JSON object"), ("\udcff", "is not JSON")]
)
def test_damaged_json_is_an_error(text, message, tmp_path):
    (tmp_path / "a.json").write_text(text, encoding="utf-8", errors="surrogateescape")
    with pytest.raises(InputError, match=f"a.json {message}.*: restore or delete it"):
        read_json(tmp_path / "a.json")


def test_only_a_missing_recipe_is_explained_by_runs(tmp_path):
    with pytest.raises(InputError, match=r"curve\.json is missing$"):
        read_json(tmp_path / "curve.json")
    with pytest.raises(InputError, match=rf"recipe\.json is missing: {tmp_path} is not a run of Vitreous$"):
        read_metadata(RunFolder(tmp_path))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{}", r"recipe\.json has no JSON object 'recipe'"),
        ('{"recipe": 3}', r"recipe\.json has no JSON object 'recipe'"),
        ('{"recipe": {}, "data": null}', r"in .*recipe\.json, 'data' is no JSON object"),
        ('{"recipe": {}, "data": []}', r"in .*recipe\.json, 'data' is no JSON object"),
    ],
)
def test_a_damaged_recipe_is_an_error(text, message, tmp_path):
    (tmp_path / "recipe.json").write_text(text)
    with pytest.raises(InputError, match=f"{message}: restore it from a copy, or start a new run$"):
        read_metadata(RunFolder(tmp_path))


@pytest.mark.parametrize("line", ["\0\0\0", "{}", "[1]", '{"step": "two", "split": "train"}', "\udcff"])
def test_a_damaged_line_of_metrics_is_named(line, tmp_path):
    good = '{"step": 1, "split": "train"}\n'
    content = f"{good}{line}\n{good}"
    (tmp_path / "metrics.jsonl").write_text(content, encoding="utf-8", errors="surrogateescape")
    with pytest.raises(InputError, match=r"line 2 of .*metrics\.jsonl is damaged: delete that line"):
        read_metrics(RunFolder(tmp_path))


@pytest.mark.parametrize("name", ["a\0b", "x" * 300])
def test_a_name_that_cannot_be_a_folder(name, tmp_path):
    with pytest.raises(InputError, match="can't be an output folder"):
        check_unused(tmp_path / name)


@pytest.fixture
def run(tmp_path):
    (tmp_path / "runs" / "mine").mkdir(parents=True)
    (tmp_path / "runs" / "mine" / "recipe.json").write_text('{"recipe": {}}')
    return RunFolder(tmp_path / "runs" / "mine")


@pytest.mark.parametrize("name", ["flush_to_disk", "_flush_folder"])
def test_a_deletion_at_any_point_of_a_write_is_the_reason(name, run, monkeypatch):
    original = getattr(files, name)

    def after_deletion(path: Path) -> None:
        shutil.rmtree(run.path, ignore_errors=True)
        original(path)

    monkeypatch.setattr(files, name, after_deletion)
    with pytest.raises(InputError, match=r"mine is gone: the run folder was moved or deleted during training$"):
        write_metadata(run, {"recipe": {}})
    assert not run.path.exists()


def test_a_deletion_before_the_end_of_a_write_is_the_reason(run):
    with pytest.raises(InputError, match="mine is gone"), run.writing(), atomic_write(run.metrics) as temporary:
        temporary.write_text("")
        shutil.rmtree(run.path)


def test_a_relative_path_stays_valid_in_another_working_directory(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    relative = RunFolder(Path("runs/mine"))
    assert str(relative.path) == "runs/mine", "as the user wrote it"
    (tmp_path / "elsewhere").mkdir()
    os.chdir(tmp_path / "elsewhere")
    append_metrics(relative, step=1, split="train", loss=0.5)
    write_metadata(relative, {"recipe": {"epochs": 2}})
    assert relative.path == run.path and read_metrics(run) == read_metrics(relative)
    assert read_metadata(run) == {"recipe": {"epochs": 2}} and not list((tmp_path / "elsewhere").iterdir())
    os.chdir(tmp_path)
    assert str(relative.path) == "runs/mine"


@pytest.mark.parametrize("name", ["link", "link/new", "link/new/deep"])
def test_a_link_to_nothing_is_named(name, tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "unplugged")
    reason = f"can't make the folder .*: {tmp_path}/link is a link to {tmp_path}/unplugged, which doesn't exist$"
    with pytest.raises(InputError, match=reason):
        check_unused(tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ["link"]
