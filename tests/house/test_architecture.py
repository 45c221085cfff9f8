"""House rules about ARCHITECTURE.md: what it names exists, and its diagram shows the layers that are enforced."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "vitreous"
TEXT = (ROOT / "ARCHITECTURE.md").read_text()
DIAGRAM, PROSE = TEXT.split("```")[1], "".join(TEXT.split("```")[::2])
PROSE = re.sub(r"## The run folder.*?(?=## )", "", PROSE, flags=re.DOTALL)  # the files of a run
QUOTED = re.findall(r"`([^`]+)`", PROSE)


def test_every_path_exists():
    """Paths are relative to the package or to the repository; `*` stands for several files."""
    paths = {one.split()[0] for one in QUOTED if re.match(r"[\w*/.]+(\.py|/)( |$)", one)}
    paths |= {one.split()[1] for one in QUOTED if one.startswith("python ")}
    missing = sorted(one for one in paths if not [*PACKAGE.glob(one.rstrip("/")), *ROOT.glob(one.rstrip("/"))])
    assert len(paths) > 60 and not missing, missing


def test_every_symbol_exists():
    """Names of classes, functions and constants; those of other libraries and of files in a run folder are skipped."""
    source = "\n".join(path.read_text() for folder in (PACKAGE, ROOT / "tests") for path in folder.rglob("*.py"))
    names = {re.split(r"[(.]", one)[0] for one in QUOTED if re.match(r"[A-Za-z_]+(\([\w, =]*\))?$", one)}
    words = set(re.findall(r"\w+", source))
    assert len(names) > 25 and not sorted(names - words), sorted(names - words)


def test_constants_are_in_the_files_that_the_table_names():
    """A row that says "a line in `NAME` (`file.py`)" is right about the file."""
    found = re.findall(r"`([A-Z_]{3,})` (?:\(|in )`([\w/]+\.py)`", PROSE)
    assert found
    for name, path in found:
        home = next(base / path for base in (PACKAGE, ROOT) if (base / path).exists())
        assert re.search(rf"^{name}\b", home.read_text(), re.MULTILINE), f"{name} is not in {path}"


def test_the_diagram_shows_the_layers_that_are_enforced():
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = next(contract["layers"] for contract in contracts if contract["id"] == "layers")
    rows = [line for line in DIAGRAM.splitlines() if line and not line.startswith(" ")]
    assert len(rows) == len(layers)
    for row, layer in zip(rows, layers, strict=True):
        assert row == layer or row.startswith(f"{layer} "), f"{row!r} instead of {layer!r}"
