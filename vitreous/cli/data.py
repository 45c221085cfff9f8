"""The verb `vitreous data`."""

import json
from typing import TYPE_CHECKING

from vitreous.cli import print_error
from vitreous.cli.console import print_line, progress
from vitreous.cli.flags import JsonFlag

MAX_LINES = 20
"""Of classes, files or groups of duplicates on the screen; --json has all."""
IMBALANCE_HINT = 1.5
"""From this ratio of the largest class to the smallest, the weights are worth a hint."""
MEGABYTES_BELOW = 0.1
"""In gigabytes."""

if TYPE_CHECKING:
    from vitreous.workflows.data import DataReport


def data(
    source: str,
    /,
    *,
    recipe: str | None = None,
    json_: JsonFlag = False,
) -> int:
    """Inspect a dataset: counts, corrupt files, duplicates, class balance.

    Also prints the sizes of the images and the memory that they need. The exit code is 2 if files can't be read, or if
    an image is in more than one split.

    Args:
        source: folder:DIR, parquet:DIR, hf:OWNER/NAME, cifar10, cifar100, mnist or shapes.
        recipe: Report the memory at the image size of this recipe.
        json_: Print the whole report as one JSON object.
    """
    from vitreous.workflows.data import inspect_data

    with progress("inspecting") as callback:
        report = inspect_data(source, recipe, callback=callback)
    if json_:
        print_line(json.dumps(report.to_json()))
    else:
        _print_report(report)
    return print_error("; ".join(report.problems)) if report.problems else 0


def _print_report(report: "DataReport") -> None:
    """Print the report as a table and lines on standard output."""
    counts = ", ".join(f"{count:,} {split}" for split, count in report.splits.items())
    print_line(f"{report.source}: {counts}, {len(report.classes):,} classes")
    if report.validation_fraction is not None:
        print_line(f"validation: {report.validation_fraction:.0%} of the training images, held out")
    _print_classes(report)
    _print_balance(report)
    _print_sizes(report)
    _print_groups("unreadable", [[line] for line in report.unreadable])
    skipped = f"skipped, because they have no image extension or are in no class ({report.skipped_extensions})"
    _print_groups(skipped, [[path] for path in report.skipped])
    dark = "nearly black: more than 8 bits, of which less than a quarter of the full scale is used"
    _print_groups(dark, [[name] for name in report.dark])
    _print_groups("duplicates across splits (the same pixels)", report.leaks)
    _print_groups("duplicates across classes (the same pixels)", report.label_conflicts)
    printed = {frozenset(group) for group in (*report.leaks, *report.label_conflicts)}
    others = [group for group in report.duplicates if frozenset(group) not in printed]
    _print_groups("duplicates within a class of a split (the same pixels)", others)
    if not report.duplicates:
        print_line("duplicates: none (no two images have the same pixels)")


def _print_classes(report: "DataReport") -> None:
    """Print the number of images by class and split, and the weights that balance the classes."""
    from rich.console import Console
    from rich.table import Column, Table
    from rich.text import Text

    table = Table("class", *(Column(name, justify="right") for name in (*report.splits, "weight")))
    for one in report.classes[:MAX_LINES]:
        table.add_row(Text(one.name), *(f"{count:,}" for count in one.counts.values()), f"{one.weight:.3f}")
    Console().print(table)
    if len(report.classes) > MAX_LINES:
        print_line(f"and {len(report.classes) - MAX_LINES:,} more classes")


def _print_balance(report: "DataReport") -> None:
    """Print how unequal the classes are, and what to do about it."""
    if report.imbalance is None:
        empty = [one.name for one in report.classes if one.counts["train"] == 0]
        print_line(f"balance: no training images in {', '.join(empty[:MAX_LINES])}")
        return
    hint = " (--set class_weights=balanced uses the weights above)" if report.imbalance >= IMBALANCE_HINT else ""
    print_line(f"balance: the largest class has {report.imbalance:.2f} times the training images of the smallest{hint}")


def _print_sizes(report: "DataReport") -> None:
    """Print sizes, formats and memory, a line each."""
    sizes = report.sizes
    smallest, median, largest = (_by(size) for size in (sizes.smallest_hw, sizes.median_hw, sizes.largest_hw))
    total = sum(report.splits.values())
    if sizes.distinct == 1:
        print_line(f"sizes: all {smallest} (height × width)")
    else:
        print_line(f"sizes: {smallest} to {largest}, median {median} (height × width), {sizes.distinct:,} distinct")
    if sizes.not_square:
        print_line(
            f"aspect ratio: {sizes.not_square:,} of {total:,} are not square; they are squashed, "
            "or cropped with --set resize_mode=crop"
        )
    print_line(f"formats: {', '.join(f'{name} {count:,}' for name, count in report.formats.items())}")
    for one in report.decoded:
        where = "fits into memory" if one.fits else "more than half of the free memory, so training reads from the disk"
        size = f"{one.gigabytes:.2f} GB" if one.gigabytes >= MEGABYTES_BELOW else f"{1000 * one.gigabytes:.1f} MB"
        print_line(f"decoded at {_by(one.size_hw)}: {size}, {where}")


def _print_groups(title: str, groups: list[list[str]]) -> None:
    """Print groups of files, a line each, the first ones of many."""
    if not groups:
        return
    print_line(f"{title}: {len(groups):,}")
    for group in groups[:MAX_LINES]:
        more = f" and {len(group) - 3} more" if len(group) > 3 else ""
        print_line(f"  {' = '.join(group[:3])}{more}")
    if len(groups) > MAX_LINES:
        print_line(f"  and {len(groups) - MAX_LINES:,} more")


def _by(size_hw: tuple[int, int]) -> str:
    return f"{size_hw[0]} × {size_hw[1]}"
