"""Options that verbs share: they match the library's records, and their help names the right methods."""

import re
import subprocess
import sys
from dataclasses import fields

import pytest

from vitreous.cli import run
from vitreous.cli.options import ExplainOptions, MethodFlags
from vitreous.cli.video import DrawFlags
from vitreous.clips.options import DrawOptions
from vitreous.explanation.options import MethodOptions
from vitreous.explanation.registry import METHODS


def help_of(verb, capsys):
    assert run([verb, "--help"]) == 0
    return capsys.readouterr().out


def groups_in(text):
    """The flags of each group of a help text."""
    found, group = {}, ""
    for line in text.splitlines():
        if heading := re.match(r"╭─ (.+?) ─", line):
            group = heading[1]
        elif flag := re.match(r"│ \*? *(--[a-z-]+)", line):
            found.setdefault(group, []).append(flag[1])
    return found


def test_method_flags_are_the_options_of_methods():
    assert MethodFlags().method_options() == MethodOptions()
    names = {field.name for field in fields(MethodOptions)} - {"query"}
    assert {field.name for field in fields(MethodFlags)} == names | {"query"}
    given = MethodFlags(
        layer=1, head=2, head_fusion="max", discard_ratio=0.5, view="norms", n_steps=3, n_samples=4, noise_level=0.1,
        patch_window=5, seed=6,
    )  # fmt: skip
    assert all(getattr(given.method_options(), name) == getattr(given, name) for name in names)


def test_draw_flags_are_the_draw_options():
    assert type(DrawFlags().draw_options()) is DrawOptions and DrawFlags().draw_options() == DrawOptions()
    assert [(field.name, field.default) for field in fields(DrawFlags)] == [
        (field.name, field.default) for field in fields(DrawOptions)
    ]
    chosen = DrawFlags(layout="contour", smooth=1.0, opacity=0.5, edge_aware=True, legend=False, class_strip=True)
    assert chosen.draw_options() == DrawOptions("contour", 1.0, 0.5, True, False, True)


def test_only_flags_that_are_on_by_default_have_a_no_form(capsys):
    text = help_of("video", capsys)
    assert "--no-legend" in text and "--no-edge-aware" not in text and "--no-class-strip" not in text


def test_records_of_the_library_do_not_need_the_command_line_framework():
    code = "import sys, vitreous.clips.options; sys.exit('cyclopts' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("verb", ["video", "explain"])
def test_help_names_the_methods_that_use_an_option(verb, capsys):
    text = re.sub(r"[│\s]+", " ", help_of(verb, capsys))
    for name in (field.name for field in fields(MethodFlags) if field.name != "query"):
        flag = "--" + name.replace("_", "-")
        description = text[text.index(flag + " ") :]
        listed = re.search(r"Used by ([a-z, -]+)\.", description)
        named = set(re.split(r", | and ", listed[1]))
        assert named == {method for method, record in METHODS.items() if name in record.options}, flag


def test_help_is_grouped(capsys):
    live = groups_in(help_of("live", capsys))
    assert live["Source"] == ["--camera", "--source", "--loop", "--max-side"] and "Parameters" not in live
    assert live["What to explain"] == ["--method", "--target", "--layer", "--head"]
    groups = groups_in(help_of("video", capsys))
    assert groups["What to explain"] == ["--method", "--target", "--query", "--track"]
    assert groups["Method options"][:2] == ["--layer", "--head"]
    assert groups["How it is drawn"] == [
        "--layout",
        "--smooth",
        "--opacity",
        "--edge-aware",
        "--legend",
        "--class-strip",
    ]
    assert "--precision" in groups["Speed"] and "Parameters" not in groups


def test_a_query_is_read_as_x_and_y():
    assert ExplainOptions().query_region is None and ExplainOptions(method="attention, rollout").methods == (
        "attention",
        "rollout",
    )
    assert ExplainOptions(query="320,180").query_region == (320, 180)
    assert ExplainOptions(query="600,300,700,500").query_region == (600, 300, 700, 500)
