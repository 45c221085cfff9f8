"""vitreous localization"""

import json
import sys
from typing import TYPE_CHECKING

from vitreous.cli.console import print_line, print_note, progress
from vitreous.cli.flags import DeviceName, JsonFlag, ModelName, OutputFile

if TYPE_CHECKING:
    from rich.text import Text

    from vitreous.diagnostics.localization.run import LocalizationResult
    from vitreous.evaluation.intervals import Estimate

COLUMNS = {
    "pointing_game": ("pointing game", "fraction of the images on which the maximum of the map is on the object"),
    "pointing_game_tolerant": (
        "tolerant",
        "pointing game that also counts a maximum beside the object, up to {:.0%} of the longer side",
    ),
    "energy": ("energy", "energy-based pointing game: fraction of the map that is on the object"),
    "energy_over_chance": ("over chance", "energy over that of a uniform map"),
    "average_precision": ("average precision", "of the pixels, ranked by the map"),
    "max_iou": ("max IoU", "intersection over union at the best threshold (an upper bound)"),
}
"""Headings of the metrics, and what they mean."""
DEFAULT_WIDTH = 100
"""Width of the table where there is no terminal."""


def localization(
    model: ModelName,
    /,
    *,
    data: str = "shapes",
    methods: str | None = None,
    layer: int | None = None,
    head: int | None = None,
    count: int | None = None,
    output: OutputFile = None,
    json_: JsonFlag = False,
    device: DeviceName = "auto",
) -> int:
    """Measure whether heatmaps fall on the object, against known masks.

    A random map and a center bias are measured on the same images.

    Args:
        data: shapes (drawn, with known masks), or masks:DIR with `DIR/NAME/frames/*.jpg` and `DIR/NAME/masks/*.png`.
        methods: Methods, separated by commas; by default those that need few forward passes.
        layer: Layer, counted from 0, for the methods that show one layer.
        head: Head, counted from 0, for the methods that show one head.
        count: Number of images; 500 shapes or all frames by default.
        output: Folder for localization.json and the figures; the run folder, or "localization", by default.
        json_: Print the scores as one JSON object.
    """
    from vitreous.diagnostics.localization.run import check_methods
    from vitreous.diagnostics.localization.run import localization as run
    from vitreous.explanation.options import MethodOptions
    from vitreous.pretrained.load import load
    from vitreous.runs.run_folder import results_folder

    names = None if methods is None else check_methods([name.strip() for name in methods.split(",")])
    folder = results_folder(model, output, "localization")
    options, classifier = MethodOptions(layer=layer, head=head), load(model, device)
    with progress("measuring") as callback:
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

    from vitreous.diagnostics.localization.metrics import TOLERANCE

    skipped = [
        (result.num_empty_masks, "empty masks skipped"),
        (result.num_full_masks, "masks skipped in which every pixel is the object"),
        (result.num_without_mask, "frames without mask skipped"),
    ]
    more = "".join(f" · {number:,} {text}" for number, text in skipped if number)
    print_line(f"{len(result.names):,} images · the object covers {result.object_fraction:.1%} of the image{more}")
    table = Table("map", *(Column(heading, justify="right") for heading, _ in COLUMNS.values()))
    for method in result.methods:
        cells = [_cell(score, metric) for metric, score in method.scores.items()]
        table.add_row(Text(method.name, style="dim" if method.is_baseline else "bold"), *cells)
    Console(width=None if sys.stdout.isatty() else DEFAULT_WIDTH).print(table)
    print_line("higher is better for all metrics; 95 % intervals below the values")
    if result.data.startswith("masks:"):
        print_line("frames of one clip are not independent: the intervals are too narrow for them")
    for heading, meaning in COLUMNS.values():
        print_line(f"  {heading}: {meaning.format(TOLERANCE)}")


def _cell(score: "Estimate", metric: str) -> "Text":
    """Format a value, with its interval on a second line."""
    from rich.text import Text

    if metric == "energy_over_chance":
        return Text.assemble(f"{score.value:.2f}", "\n", (f"{score.low:.2f}–{score.high:.2f}", "dim"))
    interval = f"{100 * score.low:.0f}–{100 * score.high:.0f}"
    return Text.assemble(f"{score.value:.1%}", "\n", (interval, "dim"))
