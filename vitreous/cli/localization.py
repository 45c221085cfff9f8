"""vitreous localization"""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from vitreous.cli.console import clock, note, progress, say

COLUMNS = {
    "pointing": "peak",
    "pointing_near": "near",
    "energy": "share",
    "energy_over_chance": "× chance",
    "precision": "precision",
    "best_overlap": "overlap",
}
"""The measures of the table, in a word each."""
NARROWEST = 100
"""Columns that the table takes where there is no terminal."""

if TYPE_CHECKING:
    from rich.text import Text

    from vitreous.diagnostics.localization.run import LocalisationResult
    from vitreous.evaluation.intervals import Estimate


def localization(
    model: str,
    /,
    *,
    data: str = "shapes",
    methods: str | None = None,
    layer: int | None = None,
    head: int | None = None,
    count: int | None = None,
    output: Annotated[Path | None, Parameter(name=["--output", "-o"])] = None,
    json_: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> int:
    """Measure whether maps fall on the object, on images whose objects are known, beside maps that know nothing.

    Args:
        model: Run folder, weights file, origin:name such as hf:facebook/dinov2-small, or
            factory:MODULE:FUNCTION of your own, with @WEIGHTS after it.
        data: shapes (drawn, truth known), or masks:DIR with `DIR/NAME/frames/*.jpg` and `DIR/NAME/masks/*.png`.
        methods: Methods, separated by commas; by default those that need one pass or two.
        layer: Layer, counted from 0; for the methods that show one, by default their own choice.
        head: Head, counted from 0; for the methods that show one, by default all.
        count: Images to measure on: 500 shapes or all frames by default.
        output: Folder for localization.json and the figures: the run folder, or "localization", by default.
        json_: Print the scores as one JSON object.
    """
    from vitreous.diagnostics.localization.figure import draw_localization
    from vitreous.diagnostics.localization.run import as_json, check_methods, write_localization
    from vitreous.diagnostics.localization.run import localization as run
    from vitreous.explanation.options import MethodOptions
    from vitreous.pretrained.load import load
    from vitreous.runs.run_folder import results_folder

    names = None if methods is None else check_methods([name.strip() for name in methods.split(",")])
    settings = MethodOptions(layer=layer, head=head)
    classifier = load(model)
    with progress("localization") as display:

        def tell(done: int, total: int, left: float) -> None:
            display(done, total, f"image {done} of {total} · {clock(left)} left")

        result = run(classifier, data, names, settings=settings, count=count, on_progress=tell)
    folder = results_folder(model, output, "localization")
    written = [write_localization(result, folder)]
    written += draw_localization(result, classifier, folder, settings=settings, count=count)
    if json_:
        say(json.dumps(as_json(result)))
    else:
        print_localization(result)
    for name, reason in result.skipped.items():
        note(f"{name} was left out: {reason}")
    note(", ".join(map(str, written)) + " written")
    return 0


def print_localization(result: "LocalisationResult") -> None:
    """The scores as a table on standard output: a row a method, each value with its interval at 95 %."""
    from rich.console import Console
    from rich.table import Column, Table
    from rich.text import Text

    from vitreous.diagnostics.localization.measures import SHOWN

    left_out = [(result.empty, "empty masks left out"), (result.unmarked, "frames without a mask left out")]
    more = "".join(f" · {number:,} {words}" for number, words in left_out if number)
    say(f"{len(result.names):,} images · the object fills {result.object_share:.1%} of the area{more}")
    table = Table("map", *(Column(words, justify="right") for words in COLUMNS.values()))
    for maps in result.maps:
        cells = [_cell(score, measure) for measure, score in maps.scores.items()]
        table.add_row(Text(maps.name, style="dim" if maps.baseline else "bold"), *cells)
    Console(width=None if sys.stdout.isatty() else NARROWEST).print(table)
    say("higher is better everywhere; under each value its interval at 95 %")
    if result.data.startswith("masks:"):
        say("frames of one clip are not independent: over such frames these intervals are too narrow")
    for measure, words in COLUMNS.items():
        say(f"  {words}: {SHOWN[measure]}")


def _cell(score: "Estimate", measure: str) -> "Text":
    """A value, and its interval under it."""
    from rich.text import Text

    if measure == "energy_over_chance":
        return Text.assemble(f"{score.value:.2f}", "\n", (f"{score.low:.2f}–{score.high:.2f}", "dim"))
    interval = f"{100 * score.low:.0f}–{100 * score.high:.0f}"
    return Text.assemble(f"{score.value:.1%}", "\n", (interval, "dim"))
