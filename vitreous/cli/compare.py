"""vitreous compare"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from vitreous.cli.console import print_line, print_note, progress
from vitreous.cli.flags import OUTPUT_NAMES, DeviceName, JsonFlag, SplitName

if TYPE_CHECKING:
    from vitreous.evaluation.comparison import Difference
    from vitreous.workflows.compare import ComparisonResult


def compare(
    first: str,
    second: str,
    /,
    *,
    data: str | None = None,
    split: SplitName = "test",
    output: Annotated[Path, Parameter(name=OUTPUT_NAMES)] = Path("comparison.png"),
    json_: JsonFlag = False,
    device: DeviceName = "auto",
) -> int:
    """Compare two runs and test whether their difference is significant.

    Both are evaluated on the same images. The difference has a paired bootstrap interval, and the p-value of McNemar's
    exact test.

    Args:
        first: Run folder.
        second: Another run folder, with the same classes.
        data: Images to compare on; by default the data that both runs were trained on.
        output: PNG with the curves of both runs and the difference of each class.
        json_: Print the comparison as one JSON object.
    """
    from vitreous.workflows.compare import check_png
    from vitreous.workflows.compare import compare as run

    check_png(output)
    with progress("comparing") as callback:
        result = run(first, second, data, split=split, device=device, callback=callback)
    if json_:
        print_line(json.dumps(result.to_json()))
    else:
        print_comparison(result)
    result.save(output)
    print_note(f"{output} written")
    return 0


def print_comparison(result: "ComparisonResult") -> None:
    """Print the comparison as a sentence and a table."""
    from rich.console import Console
    from rich.table import Column, Table
    from rich.text import Text

    one = result.comparison
    print_line(result.summary)
    for line in result.unfinished:
        print_line(line)
    print_line(
        f"{one.count:,} {result.split} images of {result.data} · both correct {one.both_correct:,} · "
        f"only {result.first} {one.only_first_correct:,} · only {result.second} {one.only_second_correct:,} · "
        f"neither {one.both_wrong:,}"
    )
    headings = (result.first, result.second, "difference", "95 %")
    table = Table("", *(Column(Text(name), justify="right") for name in headings))
    table.add_row("top-1", *_row(one.top1), style="bold")
    table.add_row("loss", *_row(one.loss, 1, 4), style="bold", end_section=True)
    for each in one.recall:
        table.add_row(Text(each.name), *_row(each))
    Console().print(table)
    print_line("top-1, and the accuracy on each class, in %; for the loss, lower is better")


def _row(one: "Difference", factor: float = 100, decimals: int = 1) -> list[str]:
    low, high = (factor * end for end in one.interval)
    first, second, value = (factor * number for number in (one.first, one.second, one.value))
    interval = f"{low:+.{decimals}f} to {high:+.{decimals}f}"
    return [f"{first:.{decimals}f}", f"{second:.{decimals}f}", f"{value:+.{decimals}f}", interval]
