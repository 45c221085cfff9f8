"""vitreous evaluate --corruptions, --shifts"""

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from vitreous.cli.console import note, progress, say
from vitreous.errors import InputError

if TYPE_CHECKING:
    from vitreous.diagnostics.robustness.run import Measured, Sample
    from vitreous.diagnostics.robustness.scores import ChangePoint, CorruptionScores, ShiftScores
    from vitreous.evaluation.intervals import Estimate


def robustness(model: str, sample: "Sample", *, corruptions: bool, shifts: bool, in_json: bool) -> int:
    """Measure accuracy on corrupted, or on shifted and turned images, or both, and print it."""
    from vitreous.diagnostics.robustness.run import as_json, measure_corruptions, measure_shifts

    results = {}
    if corruptions:
        results["corruptions"] = _told("corruptions", measure_corruptions, model, sample)
    if shifts:
        results["shifts"] = _told("shifts", measure_shifts, model, sample)
    if in_json:
        say(json.dumps({name: as_json(result) for name, result in results.items()}))
    for name, result in results.items() if not in_json else ():
        say(where(result.measured))
        print_corruptions(result.scores) if name == "corruptions" else print_shifts(result.scores)
        if result.measured.files and result.measured.not_kept is None:
            note(" and ".join(map(str, result.measured.files)) + " written")
        if result.measured.stays is not None:
            note(f"nothing written: {result.measured.stays} is of more images and stays")
    if lost := [result.measured.not_kept for result in results.values() if result.measured.not_kept is not None]:
        raise InputError("; ".join(lost))
    return 0


def _told(words: str, measure: Callable[..., Any], model: str, sample: "Sample") -> Any:
    with progress(words) as display:
        return measure(model, sample, display)


def where(measured: "Measured") -> str:
    """What was measured on, in one line."""
    unfinished = measured.reached.words if measured.reached is not None else None
    words = [f"{measured.count:,} {measured.split} images of {measured.data}", measured.precision, unfinished]
    return " · ".join(word for word in words if word)


def print_corruptions(scores: "CorruptionScores") -> None:
    """Accuracy as a table: a row a kind, a column a strength."""
    from rich.console import Console
    from rich.table import Column, Table

    strengths = [str(place + 1) for place in range(len(scores.kinds[0].strengths))]
    table = Table(Column("corruption", no_wrap=True), *(Column(name, justify="right") for name in [*strengths, "mean"]))
    for one in scores.kinds:
        table.add_row(one.kind, *map(_cell, (*one.strengths, one.mean)))
    Console().print(table)
    clean, mean = scores.clean, scores.mean
    say(f"right in %, with intervals at 95 %, by strength · as they are {clean.value:.1%} ({_span(clean)})")
    say(f"mean corruption accuracy {mean.value:.1%} (95 %: {_span(mean)})")


def print_shifts(scores: "ShiftScores") -> None:
    """Accuracy over pixels and degrees, as two small tables."""
    for title, several in (("moved, pixels", scores.shifts), ("turned, degrees", scores.rotations)):
        _print_points(title, several)
    say("right in %, with intervals at 95 %; moved: the mean of four directions; the border is mirrored")


def _print_points(title: str, several: "tuple[ChangePoint, ...]") -> None:
    from rich.console import Console
    from rich.table import Column, Table

    table = Table(*(Column(name, justify="right") for name in (title, "right", "95 %")))
    for one in several:
        table.add_row(f"{one.amount:g}", f"{100 * one.accuracy.value:.1f}", _span(one.accuracy))
    Console().print(table)


def _cell(score: "Estimate") -> str:
    return f"{100 * score.value:.1f} [dim]{100 * score.low:.0f}–{100 * score.high:.0f}[/]"


def _span(score: "Estimate") -> str:
    return f"{100 * score.low:.1f}–{100 * score.high:.1f}"
