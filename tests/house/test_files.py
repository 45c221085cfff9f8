"""House rules about files: their size, what they hold, and where they lie."""

import ast
import re
from collections import Counter, defaultdict
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted((ROOT / "vitreous").rglob("*.py"))
FORBIDDEN_NAMES = {"utils", "util", "common", "helpers", "misc"}
SMALLEST_MODULE = 40
"""Lines below which a module with a single importer beside it belongs into that importer."""


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


def test_the_makefile_runs_scripts_that_exist():
    figures = re.search(r"^FIGURES := (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert figures and not [one for one in figures[1].split() if not (ROOT / "benchmarks" / f"{one}.py").is_file()]


def test_the_readme_is_finished():
    text = (ROOT / "README.md").read_text()
    assert "FIGURE_" not in text
    for name in re.findall(r"!\[[^]]*\]\(([^)]+)\)", text):
        assert (ROOT / name).is_file(), name


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def importers() -> dict[str, set[str]]:
    """For each module of the package, the modules that import it or a name from it."""
    modules = {module_of(path) for path in SOURCES}
    found: dict[str, set[str]] = defaultdict(set)
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module:
                for alias in node.names:
                    full = f"{node.module}.{alias.name}"
                    found[full if full in modules else node.module].add(module_of(path))
            elif isinstance(node, ast.Import):
                for alias in node.names:
                    found[alias.name].add(module_of(path))
    return found


def test_no_module_is_a_crumb():
    """A short module that only one neighbor imports belongs into that neighbor; recipes are one file each."""
    imported = importers()
    crumbs = []
    for path in SOURCES:
        if path.stem.startswith("__") or path.parent.name == "training_recipes":
            continue
        module, lines = module_of(path), len(path.read_text().splitlines())
        users = imported[module] - {module}
        if lines < SMALLEST_MODULE and len(users) == 1:
            (user,) = users
            if user.rpartition(".")[0] == module.rpartition(".")[0]:
                crumbs.append(f"{path.relative_to(ROOT)}: {lines} lines, imported by {user} alone")
    assert not crumbs, "\n".join(crumbs)


def test_four_files_of_one_prefix_are_a_package():
    counts = Counter(
        (path.parent, path.stem.split("_")[0])
        for path in SOURCES
        if not path.stem.startswith("__") and path.parent.name != "training_recipes"
    )
    assert not [f"{folder.relative_to(ROOT)}/{prefix}*" for (folder, prefix), count in counts.items() if count >= 4]


def alias_name(node: ast.stmt) -> str:
    """The name of a type alias such as `Region = Point | Box` or `Layout = Literal["grid"]`; "" for anything else."""
    if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
        name = node.targets[0].id
        is_type = isinstance(node.value, ast.Subscript | ast.BinOp | ast.Name | ast.Attribute)
        return name if is_type and re.fullmatch(r"[A-Z]\w*[a-z]\w*", name) else ""
    return ""


def test_no_two_public_things_have_one_name():
    """Public classes, functions and type aliases have a name of their own; a verb's function may repeat it.

    Overloads in one file are one function.
    """
    from vitreous.cli import VERBS

    homes: dict[str, set[str]] = defaultdict(set)
    for path in SOURCES:
        for node in ast.parse(path.read_text()).body:
            name = alias_name(node) or (node.name if isinstance(node, ast.ClassDef | ast.FunctionDef) else "_")
            if not name.startswith("_"):
                homes[name].add(str(path.relative_to(ROOT)))
    verbs = {verb.replace("-", "_") for verb in VERBS}
    twice = {name: paths for name, paths in homes.items() if len(paths) > 1 and name not in verbs}
    assert not twice, "\n".join(f"{name}: {', '.join(sorted(paths))}" for name, paths in sorted(twice.items()))


def test_use_cases_do_not_share_helpers():
    """A use case may call another use case, by its public name; what two need lies further down."""
    import vitreous

    borrowed = []
    for path in sorted((ROOT / "vitreous" / "workflows").glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("vitreous.workflows."):
                other = node.module.rpartition(".")[2]
                if other.startswith(path.stem):
                    continue  # a file of the same use case
                borrowed += [f"{path.name} imports {alias.name} from {other}" for alias in node.names
                             if alias.name not in vitreous.__all__]  # fmt: skip
    assert not borrowed, "\n".join(borrowed)


def test_axis_order_is_x_y_at_the_edges():
    """Coordinates are x, y wherever users meet them; `_yx` exists only in explanation and below."""
    edges = [ROOT / "vitreous" / name for name in ("cli", "workflows", "web", "clips", "diagnostics", "pretrained")]
    found = []
    for path in sorted(path for folder in edges for path in folder.rglob("*.py")):
        found += [
            f"{path.relative_to(ROOT)}:{node.lineno} {node.arg}"
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.arg | ast.keyword) and (node.arg or "").endswith("_yx")
        ]
    assert not found, "\n".join(found)
