"""vitreous localization"""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from vitreous.cli.console import ConsoleCallback, print_line, print_note, progress

if TYPE_CHECKING:
    from rich.text import Text

    from vitreous.diagnostics.localization.run import LocalizationResult
    from vitreous.evaluation.intervals import Estimate

COLUMNS = {
    "pointing_game": "peak",
    "pointing_game_tolerant": "near",
    "energy": "energy",
    "energy_over_chance": "× chance",
    "average_precision": "precision",
    "max_iou": "IoU",
}
"""Short headings of the metrics."""
DEFAULT_WIDTH = 100
"""Width of the table where there is no terminal."""


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
    device: str = "auto",
) -> int:
    """Measure whether maps fall on the object, on images with known masks, against a random map and a center bias.

    Args:
        model: Run folder, weights file, origin:name such as hf:facebook/dinov2-small, or
            factory:MODULE:FUNCTION of your own, with @WEIGHTS after it.
        data: shapes (drawn, with known masks), or masks:DIR with `DIR/NAME/frames/*.jpg` and `DIR/NAME/masks/*.png`.
        methods: Methods, separated by commas; by default those that need few forward passes.
        layer: Layer, counted from 0, for the methods that show one layer.
        head: Head, counted from 0, for the methods that show one head.
        count: Number of images; 500 shapes or all frames by default.
        output: Folder for localization.json and the figures; the run folder, or "localization", by default.
        json_: Print the scores as one JSON object.
        device: auto, cpu or cuda.
    """
    from vitreous.diagnostics.localization.run import check_methods
    from vitreous.diagnostics.localization.run import localization as run
    from vitreous.explanation.options import MethodOptions
    from vitreous.pretrained.load import load
    from vitreous.runs.run_folder import results_folder

    names = None if methods is None else check_methods([name.strip() for name in methods.split(",")])
    folder = results_folder(model, output, "localization")
    options, classifier = MethodOptions(layer=layer, head=head), load(model, device)
    with progress("measuring") as display:
        callback = ConsoleCallback(display)
        result = run(classifier, data, methods=names, options=options, count=count, callback=callback)
    written = result.save(folder, classifier)
    if json_:
        print_line(json.dumps(result.to_json()))
    else:
        print_localization(result)
    for name, reason in result.skipped.items():
        print_note(f"{name} was skipped: {reason}")
    print_note(", ".join(map(str, written)) + " written")
    return 0


def print_localization(result: "LocalizationResult") -> None:
    """Print the scores on standard output as a table: one row per method, each value with its 95 % interval."""
    from rich.console import Console
    from rich.table import Column, Table
    from rich.text import Text

    from vitreous.diagnostics.localization.metrics import METRICS

    skipped = [
        (result.num_empty_masks, "empty masks skipped"),
        (result.num_without_mask, "frames without mask skipped"),
    ]
    more = "".join(f" · {number:,} {text}" for number, text in skipped if number)
    print_line(f"{len(result.names):,} images · the object covers {result.object_fraction:.1%} of the image{more}")
    table = Table("map", *(Column(heading, justify="right") for heading in COLUMNS.values()))
    for method in result.methods:
        cells = [_cell(score, metric) for metric, score in method.scores.items()]
        table.add_row(Text(method.name, style="dim" if method.is_baseline else "bold"), *cells)
    Console(width=None if sys.stdout.isatty() else DEFAULT_WIDTH).print(table)
    print_line("higher is better for all metrics; 95 % intervals below the values")
    if result.data.startswith("masks:"):
        print_line("frames of one clip are not independent: the intervals are too narrow for them")
    for metric, heading in COLUMNS.items():
        print_line(f"  {heading}: {METRICS[metric]}")


def _cell(score: "Estimate", metric: str) -> "Text":
    """Format a value, with its interval on a second line."""
    from rich.text import Text

    if metric == "energy_over_chance":
        return Text.assemble(f"{score.value:.2f}", "\n", (f"{score.low:.2f}–{score.high:.2f}", "dim"))
    interval = f"{100 * score.low:.0f}–{100 * score.high:.0f}"
    return Text.assemble(f"{score.value:.1%}", "\n", (interval, "dim"))
