"""The house rules that a machine can check."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "vitreous").rglob("*.py"))
FORBIDDEN_NAMES = {"utils", "util", "common", "helpers", "misc"}


@pytest.mark.parametrize("path", [*SOURCES, *sorted((ROOT / "tests").rglob("*.py"))], ids=lambda path: path.name)
def test_files_hold_one_idea_in_under_400_lines(path):
    assert len(path.read_text().splitlines()) < 400


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_functions_fit_on_a_screen_and_modules_say_what_they_are(path):
    tree = ast.parse(path.read_text())
    if tree.body:
        assert ast.get_docstring(tree), f"{path} has no module docstring"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = [
                line for child in node.body[docstring_statements(node) :] for line in [child.lineno, child.end_lineno]
            ]
            length = (max(body) - min(body) + 1) if body else 0
            assert length <= 40, f"{path}:{node.lineno} {node.name} has {length} lines"


def docstring_statements(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    return 1 if ast.get_docstring(node) else 0


def test_no_drawer_for_odds_and_ends():
    assert not FORBIDDEN_NAMES & {part for path in SOURCES for part in [path.stem, *path.parts]}


@pytest.mark.parametrize("order", [["explain_video", "explain"], ["explain", "explain_video"], ["load", "explain"]])
def test_public_functions_are_functions_whatever_is_imported_first(order):
    code = "import vitreous; " + "; ".join(f"assert callable(vitreous.{name})" for name in [*order, *order])
    subprocess.run([sys.executable, "-c", code], check=True)


def test_public_names_are_sorted_and_complete():
    import vitreous

    assert list(vitreous.__all__) == sorted(vitreous.__all__)
    for name in vitreous.__all__:
        assert getattr(vitreous, name) is not None
        assert name in dir(vitreous)


def test_the_readme_is_finished():
    text = (ROOT / "README.md").read_text()
    assert "FIGURE_" not in text
    for name in re.findall(r"!\[[^]]*\]\(([^)]+)\)", text):
        assert (ROOT / name).is_file(), name
