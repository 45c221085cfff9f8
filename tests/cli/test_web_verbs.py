"""The verbs `live` and `serve` where the packages of their extra are missing, and what `serve` refuses."""

import shutil
import sys

import pytest

from vitreous.cli import run
from vitreous.cli.options import InputOptions
from vitreous.cli.serve import open_models


@pytest.mark.parametrize("arguments", [["live", "no-model", "--source", "a.mp4"], ["serve", "no-model"]], ids=str)
@pytest.mark.parametrize("name", ["uvicorn", "starlette.applications"])
def test_a_missing_package_is_named_with_the_command_that_installs_it(name, arguments, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, name, None)
    assert run(arguments) == 2
    message = capsys.readouterr().err
    assert name.partition(".")[0] in message and "pip install 'vitreous[web]'" in message and message.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["no-such-run"], "no-such-run"),
        (["vitreous:cifar10", "--max-seconds", "0"], "must be above 0"),
        (["vitreous:cifar10", "--max-memory-mb", "0"], "must be above 0"),
        (["vitreous:cifar10", "--data", "nowhere:x"], "no source"),
        (["vitreous:cifar10", "--data", "cifar10", "--count", "0"], "at least 1"),
        (["vitreous:cifar10", "--port", "99999"], "does not exist"),
    ],
    ids=str,
)
def test_what_serve_refuses(arguments, words, capsys):
    assert run(["serve", "--port", "0", *arguments] if "--port" not in arguments else ["serve", *arguments]) == 2
    message = capsys.readouterr().err.splitlines()[-1]
    assert words in message


def test_serve_opens_models_and_runs_that_may_lack_a_checkpoint(trained_run, tmp_path, notes):
    young = tmp_path / "young"
    young.mkdir()
    shutil.copy(trained_run / "recipe.json", young)
    models, runs = open_models(["vitreous:cifar10", str(trained_run), str(young)], InputOptions(device="cpu"), notes)
    assert list(models) == ["vitreous:cifar10", "run"]
    assert [(run.name, run.model, run.has_weights) for run in runs] == [("run", 1, True), ("young", None, False)]
    assert runs[0].loaded_step == runs[0].steps
    (note,) = notes.lines
    assert note.startswith(f"{young} has no checkpoint yet")
