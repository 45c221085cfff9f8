"""vitreous data"""

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from vitreous.cli import complain
from vitreous.cli.console import progress, say

MOST_LINES = 20
"""Of classes, files or groups of copies on the screen; --json has all."""
UNEQUAL_FROM = 1.5
"""So many times as many images in the largest class as in the smallest are worth a hint."""
MEGABYTES_BELOW = 0.1  # gigabytes

if TYPE_CHECKING:
    from vitreous.workflows.data import DataReport


def data(
    source: str,
    /,
    *,
    recipe: str | None = None,
    json_: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> int:
    """Look at images before learning from them: counts, sizes, unreadable files, copies across splits, balance.

    Exit code 2 if files can't be read, or if an image lies in more than one split.

    Args:
        source: folder:DIR above all; also cifar10, cifar100, mnist, shapes, parquet:DIR or hf:OWNER/NAME.
        recipe: Tell the memory that the images take at this recipe's size.
        json_: Print everything as one JSON object.
    """
    from vitreous.workflows.data import inspect_data

    with progress("looking") as display:
        report = inspect_data(source, recipe, lambda done, total, split: display(done, total, split))
    if json_:
        say(json.dumps(asdict(report)))
    else:
        print_report(report)
    return complain("; ".join(report.faults)) if report.faults else 0


def print_report(report: "DataReport") -> None:
    """The report as tables and lines on standard output."""
    counts = ", ".join(f"{count:,} {split}" for split, count in report.splits.items())
    say(f"{report.source}: {counts}, {len(report.classes):,} classes")
    if report.held_out is not None:
        say(f"validation: {report.held_out:.0%} of the training images, held out")
    print_classes(report)
    print_balance(report)
    print_sizes(report)
    print_groups("unreadable", [[line] for line in report.unreadable])
    ending = f"left out, without an image's ending or in no class ({report.left_out_endings})"
    print_groups(ending, [[line] for line in report.left_out])
    print_groups("in more than one split (the same pixels)", report.leaks)
    print_groups("in more than one class (the same pixels)", report.contradictions)
    told = {frozenset(one) for one in (*report.leaks, *report.contradictions)}
    others = [one for one in report.copies if frozenset(one) not in told]
    print_groups("more than once in one class of one split (the same pixels)", others)
    if not report.copies:
        say("copies: none (no two images have the same pixels)")


def print_classes(report: "DataReport") -> None:
    """Counts by class and split, and the weights for balance."""
    from rich.console import Console
    from rich.table import Column, Table
    from rich.text import Text

    table = Table("class", *(Column(name, justify="right") for name in (*report.splits, "weight")))
    for one in report.classes[:MOST_LINES]:
        table.add_row(Text(one.name), *(f"{count:,}" for count in one.counts.values()), f"{one.weight:.3f}")
    Console().print(table)
    if len(report.classes) > MOST_LINES:
        say(f"and {len(report.classes) - MOST_LINES:,} more classes")


def print_balance(report: "DataReport") -> None:
    """How unequal the classes are, and what to do about it."""
    if report.imbalance is None:
        empty = [one.name for one in report.classes if one.counts["train"] == 0]
        say(f"balance: nothing to train on in {', '.join(empty[:MOST_LINES])}")
        return
    hint = " (weight: what --set class_weights=balanced gives)" if report.imbalance >= UNEQUAL_FROM else ""
    say(f"balance: {report.imbalance:.2f} times as many training images in the largest class as in the smallest{hint}")


def print_sizes(report: "DataReport") -> None:
    """Sizes, kinds and memory, a line each."""
    sizes = report.sizes
    smallest, median, largest = (_by(size) for size in (sizes.smallest_hw, sizes.median_hw, sizes.largest_hw))
    total = sum(report.splits.values())
    if sizes.different == 1:
        say(f"sizes: all {smallest} (height × width)")
    else:
        say(f"sizes: {smallest} to {largest}, median {median} (height × width), {sizes.different:,} different ones")
    if sizes.not_square:
        say(f"shape: {sizes.not_square:,} of {total:,} not square: stretched, or cropped by --set resize=crop")
    say(f"kinds: {', '.join(f'{kind} {count:,}' for kind, count in report.kinds.items())}")
    for one in report.decoded:
        place = "fits into memory" if one.fits else "more than half of the free memory: read from the disk as it goes"
        size = f"{one.gigabytes:.2f} GB" if one.gigabytes >= MEGABYTES_BELOW else f"{1000 * one.gigabytes:.1f} MB"
        say(f"decoded at {_by(one.size_hw)}: {size}, {place}")


def print_groups(title: str, groups: list[list[str]]) -> None:
    """A list of groups of files, a line each, the first ones of many."""
    if not groups:
        return
    say(f"{title}: {len(groups):,}")
    for group in groups[:MOST_LINES]:
        more = f" and {len(group) - 3} more" if len(group) > 3 else ""
        say(f"  {' = '.join(group[:3])}{more}")
    if len(groups) > MOST_LINES:
        say(f"  and {len(groups) - MOST_LINES:,} more")


def _by(size_hw: tuple[int, int]) -> str:
    return f"{size_hw[0]} × {size_hw[1]}"
