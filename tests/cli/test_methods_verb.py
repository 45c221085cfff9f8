"""`vitreous methods` lists the methods with their options, and describes those of one method."""

import pytest

from vitreous.cli import run
from vitreous.cli.methods import flag_of
from vitreous.explanation.registry import METHODS


def output_of(capsys, *arguments):
    assert run(["methods", *arguments]) == 0
    return capsys.readouterr().out


def test_every_method_is_listed_with_its_options(capsys):
    text = output_of(capsys)
    for name, method in METHODS.items():
        lines = text[text.index(f"{name}\n    ") :].splitlines()[:3]
        assert lines[1].strip() == method.summary
        assert set(lines[2].partition(";")[2].split()) == {flag_of(option) for option in method.options}
        assert ("depends on the target" in lines[2]) == method.is_class_specific


@pytest.mark.parametrize("name", METHODS)
def test_the_options_of_a_method_are_described(name, capsys):
    lines = output_of(capsys, name).splitlines()
    assert lines[0] == f"{name}: {METHODS[name].summary}"
    flags = [line.split(":")[0].strip() for line in lines if line.strip().startswith("--")]
    assert flags == [flag_of(option) for option in sorted(METHODS[name].options)]
    assert all(line.endswith(".") and "Used by" not in line for line in lines if line.strip().startswith("--"))


def test_an_unknown_method_raises(capsys):
    assert run(["methods", "rolout"]) == 2
    assert "did you mean 'rollout'" in capsys.readouterr().err
