"""The verb `live` where the packages of its extra are missing."""

import sys

import pytest

from vitreous.cli import run


@pytest.mark.parametrize("name", ["uvicorn", "starlette.applications"])
def test_a_missing_package_of_the_extra_is_named_with_the_command_that_installs_it(name, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, name, None)
    assert run(["live", "no-model", "--source", "a.mp4"]) == 2
    message = capsys.readouterr().err
    assert name.partition(".")[0] in message and "pip install 'vitreous[web]'" in message and message.count("\n") == 1
