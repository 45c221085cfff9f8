"""The table of outcomes, as plain text and as a page of Markdown."""

from collections.abc import Mapping, Sequence
from textwrap import fill

from conformance_suite.checks import CHECKS, Outcome
from conformance_suite.subject import Subject

Results = Sequence[tuple[Subject, Mapping[str, Outcome]]]

MEANINGS = {
    "pass": "as expected; a number is the largest error, or for memory the fraction",
    "FAIL": "not as expected; the note says what the tool returned",
    "n/a": "the check does not apply; the note says why",
    "no map": "the tool returned no map for the simplest model, so nothing could be checked",
}


def plain(results: Results) -> str:
    """Lines of text: a subject, then a line for each of its checks."""
    lines = []
    for subject, outcomes in results:
        lines.append(subject.name)
        lines += [
            f"  {name:18s}{one.mark:8s}{tidy(one.number):8s}{one.note}".rstrip() for name, one in outcomes.items()
        ]
    return "\n".join(lines)


def page(results: Results, made: str, not_run: Mapping[str, str]) -> str:
    """The page: what is checked, the table, its notes, what was called, and what isn't in it."""
    notes: dict[str, int] = {}
    table = [row("", *CHECKS), row("---", *["---"] * len(CHECKS))]
    table += [row(subject.name, *(cell(outcomes[name], notes) for name in CHECKS)) for subject, outcomes in results]
    numbered = [f"{number}. {sentence(note)}" for note, number in notes.items()]
    checks = [
        fill(f"- **{name}**: {first_lines(check.__doc__)}", 120, subsequent_indent="  ", break_on_hyphens=False)
        for name, check in CHECKS.items()
    ]
    parts = {
        "# Conformance": [
            "\n\n".join(fill(paragraph, 120, break_on_hyphens=False) for paragraph in made.split("\n\n"))
        ],
        "## Checks": [*checks, "", *(f"- *{mark}*: {meaning}." for mark, meaning in MEANINGS.items())],
        "## Results": table,
        "## Notes": numbered,
        "## Calls": [f"- {subject.name}: {subject.called}" for subject, _ in results],
        "## Tools that were not checked": [f"- {name}: {sentence(why)}" for name, why in not_run.items()],
    }
    return "\n\n".join(f"{title}\n\n" + "\n".join(lines) for title, lines in parts.items() if lines) + "\n"


def cell(outcome: Outcome, notes: dict[str, int]) -> str:
    """One cell; its note gets a number, the same for the same note."""
    mark = f"**{outcome.mark}**" if outcome.mark == "FAIL" else outcome.mark
    parts = [mark, tidy(outcome.number)]
    if outcome.note:
        parts.append(f"[{notes.setdefault(outcome.note, len(notes) + 1)}]")
    return " ".join(part for part in parts if part)


def row(*cells: str) -> str:
    """A row of a Markdown table."""
    return "| " + " | ".join(cells) + " |"


def tidy(number: str) -> str:
    """A number as people write it.

    >>> tidy("0e+00"), tidy("1e-07"), tidy("0.06")
    ('0', '1e-7', '0.06')
    """
    mantissa, _, exponent = number.partition("e")
    return mantissa if not exponent or int(exponent) == 0 else f"{mantissa}e{int(exponent)}"


def sentence(words: str) -> str:
    """With a capital and a stop."""
    return words[0].upper() + words[1:] + ("" if words.endswith(".") else ".")


def first_lines(docstring: str | None) -> str:
    """A docstring on one line."""
    return " ".join((docstring or "").split())
