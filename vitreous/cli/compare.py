"""vitreous compare"""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from vitreous.cli.console import note, say

if TYPE_CHECKING:
    from vitreous.evaluation.comparison import Difference
    from vitreous.workflows.compare import ComparisonResult


def compare(
    first: str,
    second: str,
    /,
    *,
    data: str | None = None,
    split: str = "test",
    output: Annotated[Path, Parameter(name=["--output", "-o"])] = Path("comparison.png"),
    json_: Annotated[bool, Parameter(name="--json", negative="")] = False,
    device: str = "auto",
) -> int:
    """Say which of two runs is better on the same images, and how sure that is: paired bootstrap, McNemar's test.

    Args:
        first: Run folder.
        second: Another run folder, with the same classes.
        data: Images to compare on; by default those that both runs were trained on.
        split: test, or validation while settings are still being chosen.
        output: PNG of both runs' curves and the difference of each class.
        json_: Print the comparison as one JSON object.
        device: auto, cpu or cuda.
    """
    from vitreous.errors import InputError
    from vitreous.workflows.compare import compare_runs, draw_comparison

    if output.suffix.lower() != ".png":
        raise InputError(f"{output} is no PNG: let its name end in .png")
    result = compare_runs(first, second, data, split=split, device=device)
    if json_:
        say(json.dumps({**asdict(result), "words": result.words}))
    else:
        print_comparison(result)
    draw_comparison(result, first, second, output)
    note(f"{output} written")
    return 0


def print_comparison(result: "ComparisonResult") -> None:
    """The comparison as a sentence and a table on standard output."""
    from rich.console import Console
    from rich.table import Column, Table
    from rich.text import Text

    one = result.comparison
    say(result.words)
    for line in result.unfinished:
        say(line)
    say(
        f"{one.count:,} {result.split} images of {result.data} · both right {one.both_correct:,} · only {result.first} "
        f"{one.only_first_correct:,} · only {result.second} {one.only_second_correct:,} · neither {one.both_wrong:,}"
    )
    headings = (result.first, result.second, "difference", "95 %")
    table = Table("", *(Column(Text(name), justify="right") for name in headings))
    table.add_row("top-1", *_row(one.top1), style="bold")
    table.add_row("loss", *_row(one.loss, 1, 4), style="bold", end_section=True)
    for each in one.recall:
        table.add_row(Text(each.name), *_row(each))
    Console().print(table)
    say("top-1 and the classes (share told right) in %; loss: lower is better")


def _row(one: "Difference", factor: float = 100, decimals: int = 1) -> list[str]:
    low, high = (factor * end for end in one.interval)
    first, second, value = (factor * number for number in (one.first, one.second, one.value))
    span = f"{low:+.{decimals}f} to {high:+.{decimals}f}"
    return [f"{first:.{decimals}f}", f"{second:.{decimals}f}", f"{value:+.{decimals}f}", span]
