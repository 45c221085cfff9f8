"""vitreous evaluate --corruptions, --shifts"""

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vitreous.cli.console import print_line, print_note, progress
from vitreous.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vitreous.diagnostics.robustness.run import CorruptionResult, ShiftResult
    from vitreous.diagnostics.robustness.scores import CorruptionScores, ShiftScores, TransformScore
    from vitreous.evaluation.intervals import Estimate


@dataclass(frozen=True)
class RobustnessFlags:
    """What to measure, and on which images."""

    model: str
    data: str | None
    split: str
    count: int | None
    device: str
    corrupted_data: str | None
    """"generated" or "cifar10-c:DIR"; None to measure no corruptions."""
    shifts: bool
    in_json: bool


def robustness(flags: RobustnessFlags) -> int:
    """Measure accuracy on corrupted images, or on shifted and rotated ones, or both, and print it."""
    results = _measure(flags)
    if flags.in_json:
        print_line(json.dumps({name: result.to_json() for name, result in results.items()}))
    for result in results.values() if not flags.in_json else ():
        print_result(result)
    if errors := [result.write_error for result in results.values() if result.write_error is not None]:
        raise InputError("; ".join(errors))
    return 0


def _measure(flags: RobustnessFlags) -> "dict[str, CorruptionResult | ShiftResult]":
    from vitreous.diagnostics.robustness.run import measure_corruptions, measure_shifts

    results: dict[str, CorruptionResult | ShiftResult] = {}
    if flags.corrupted_data is not None:
        with progress("corruptions") as callback:
            results["corruptions"] = measure_corruptions(
                flags.model, flags.data, corrupted_data=flags.corrupted_data, split=flags.split, count=flags.count,
                device=flags.device, callback=callback,
            )  # fmt: skip
    if flags.shifts:
        with progress("shifts") as callback:
            results["shifts"] = measure_shifts(
                flags.model, flags.data, split=flags.split, count=flags.count, device=flags.device,
                callback=callback,
            )  # fmt: skip
    return results


def print_result(result: "CorruptionResult | ShiftResult") -> None:
    """Print the accuracies on standard output, and the files on standard error."""
    from vitreous.diagnostics.robustness.run import CorruptionResult

    unfinished = result.status.message if result.status is not None else None
    parts = [f"{result.count:,} {result.split} images of {result.data}", result.precision, unfinished]
    print_line(" · ".join(part for part in parts if part))
    if isinstance(result, CorruptionResult):
        print_corruptions(result.scores)
    else:
        print_shifts(result.scores)
    if result.files and result.write_error is None:
        print_note(" and ".join(map(str, result.files)) + " written")
    if result.larger_measurement is not None:
        print_note(f"nothing written: {result.larger_measurement} has more images and is kept")


def print_corruptions(scores: "CorruptionScores") -> None:
    """Print accuracies as a table: one row per corruption, one column per severity."""
    from rich.console import Console
    from rich.table import Column, Table

    from vitreous.diagnostics.robustness.corruptions import CORRUPTIONS

    severities = [str(i + 1) for i in range(len(scores.by_corruption[0].by_severity))]
    columns = (Column(name, justify="right") for name in [*severities, "mean"])
    table = Table(Column("corruption", no_wrap=True), *columns)
    for one in scores.by_corruption:
        table.add_row(one.corruption, *map(_cell, (*one.by_severity, one.mean)))
    Console().print(table)
    clean, mean = scores.clean, scores.mean
    print_line(f"accuracy in % by severity, with 95 % intervals · clean {clean.value:.1%} ({_format_interval(clean)})")
    missing = len(CORRUPTIONS) - len(scores.by_corruption)
    of = f" of {len(scores.by_corruption)} of the {len(CORRUPTIONS)} corruptions" if missing else ""
    print_line(
        f"mean corruption accuracy {mean.value:.1%} (95 %: {_format_interval(mean)}){of}; mean corruption error "
        f"{scores.mean_corruption_error:.1%}, unnormalized"
    )


def print_shifts(scores: "ShiftScores") -> None:
    """Print accuracies by distance and by angle, as two small tables."""
    _print_transform("shift, pixels", scores.shifts)
    _print_transform("rotation, degrees", scores.rotations)
    print_line("accuracy in %, with 95 % intervals; shifts: mean of four directions; the border is mirrored")


def _print_transform(title: str, scores: "Sequence[TransformScore]") -> None:
    from rich.console import Console
    from rich.table import Column, Table

    table = Table(*(Column(name, justify="right") for name in (title, "accuracy", "95 %")))
    for one in scores:
        table.add_row(f"{one.amount:g}", f"{100 * one.accuracy.value:.1f}", _format_interval(one.accuracy))
    Console().print(table)


def _cell(score: "Estimate") -> str:
    return f"{100 * score.value:.1f} [dim]{100 * score.low:.0f}–{100 * score.high:.0f}[/]"


def _format_interval(score: "Estimate") -> str:
    return f"{100 * score.low:.1f}–{100 * score.high:.1f}"
