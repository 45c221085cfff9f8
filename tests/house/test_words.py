"""House rules about words: what docs/glossary.md rules out stays out of public names, help texts and documentation."""

import ast
import io
import re
from contextlib import redirect_stdout
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted((ROOT / "vitreous").rglob("*.py"))
PAGES = [ROOT / "README.md", ROOT / "ARCHITECTURE.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]

GLOSSARY = (ROOT / "docs" / "glossary.md").read_text()
STEMS = "normal|local|random|recogn|optim|initial|visual|quant|orthogonal|summar|minim|maxim"


def avoided_words(*, in_text: bool) -> set[str]:
    """The words in the right column of the glossary's last table; "(in names)" allows a word in sentences."""
    rows = [line.strip("| ").split(" | ") for line in GLOSSARY.split("| write | not |")[1].splitlines()[2:] if line]
    cells = [cell for _, cell in rows if not (in_text and "(in names" in cell)]
    words = {word.strip() for cell in cells for word in cell.split(" (")[0].split(",")}
    return {word for word in words if re.fullmatch(r"[a-z]+( [a-z]+)?", word)}


IN_TEXT = re.compile(
    rf"\b((?:{'|'.join(sorted(avoided_words(in_text=True)))})s?"
    rf"|coloured|centred|favour|heats|blind heads?|eight-bit|(?:un)?(?:{STEMS})is(?:e|ed|es|ing|ation))\b",
    re.IGNORECASE,
)
"""Words that no help text and no page of the documentation holds."""

IN_NAMES = {
    *(form for word in avoided_words(in_text=False) for form in (word, f"{word}s")),
    "told", "asked", "seen", "shown", "said",
    "laid", "spoken", "teller", "elsewhere", "theirs", "ours", "foreign", "letters", "lean",
    "words", "glance", "watch", "programme", "forget", "blind",
}  # fmt: skip
"""Words that are no part of a public name."""
EXCEPTIONS = {
    "from_image_processor": "transformers' ImageProcessor",
    "to_image_processor": "transformers' ImageProcessor",
    "PROCESSOR_FILES": "transformers' preprocessor_config.json and processor_config.json",
    "processor": "transformers' ImageProcessor",
}
"""Public names that hold such a word because the field does, with what they are named after."""


def words_of(name: str) -> set[str]:
    """The words that an identifier is made of, in lower case."""
    return {word.lower() for part in name.split("_") for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", part)}


def public_names(path: Path) -> list[tuple[int, str]]:
    """Public classes, functions, constants, fields and parameters of a module, with their lines."""
    names: list[tuple[int, str]] = [(1, path.stem)]
    tree = ast.parse(path.read_text())
    for scope in [
        tree,
        *(node for node in tree.body if isinstance(node, ast.ClassDef) and not node.name.startswith("_")),
    ]:
        for node in scope.body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef):
                names.append((node.lineno, node.name))
                if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
                    arguments = node.args
                    names += [
                        (node.lineno, one.arg)
                        for one in [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
                    ]
            elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                names.append((node.lineno, node.target.id))
            elif isinstance(node, ast.Assign):
                names += [(node.lineno, target.id) for target in node.targets if isinstance(target, ast.Name)]
    return [(line, name) for line, name in names if not name.startswith("_")]


def test_the_glossary_is_read():
    assert {"picture", "colour", "nought", "by lot", "told right", "arithmetic", "heat"} <= avoided_words(in_text=True)
    assert avoided_words(in_text=False) - avoided_words(in_text=True) == {
        "sound", "strength", "processor", "place", "answer", "look",
    }  # fmt: skip
    assert IN_TEXT.search("Two pictures") and not IN_TEXT.search("in place of a processor")


def test_exceptions_exist():
    names = {name for path in SOURCES for _, name in public_names(path)}
    assert not set(EXCEPTIONS) - names


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_public_names_are_terms_of_the_field(path):
    found = [
        f"{path.relative_to(ROOT)}:{line} {name}"
        for line, name in public_names(path)
        if words_of(name) & IN_NAMES and name not in EXCEPTIONS
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_documentation_uses_the_glossary(path):
    text = path.read_text()
    if path.name == "glossary.md":
        text = text[: text.index("## Words that we avoid")]
    found = [f"{number}: {line.strip()}" for number, line in enumerate(text.split("\n"), 1) if IN_TEXT.search(line)]
    assert not found, "\n".join(found)


def verbs() -> list[str]:
    from vitreous.cli import VERBS

    return ["", *VERBS]


@pytest.mark.parametrize("verb", verbs())
def test_help_uses_the_glossary(verb):
    from vitreous.cli import run

    output = io.StringIO()
    with redirect_stdout(output):
        run([verb, "--help"] if verb else ["--help"])
    found = [line.strip() for line in output.getvalue().split("\n") if IN_TEXT.search(line)]
    assert output.getvalue() and not found, "\n".join(found)
