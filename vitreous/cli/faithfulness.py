"""vitreous faithfulness"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from vitreous.cli import EXIT_INTERRUPTED
from vitreous.cli.console import print_line, print_note, progress
from vitreous.cli.flags import DeviceName, Flag, JsonFlag, ModelName, OutputFile, SplitName

if TYPE_CHECKING:
    from rich.text import Text

    from vitreous.diagnostics.faithfulness.report import MethodReport
    from vitreous.diagnostics.faithfulness.result import FaithfulnessResult
    from vitreous.evaluation.intervals import Estimate

COLUMNS = {
    "insertion": "inser-\ntion",
    "deletion": "dele-\ntion",
    "road_most": "ROAD\nmost",
    "road_least": "ROAD\nleast",
    "sensitivity": "sensi-\ntivity",
    "randomized_head": "random\nhead",
    "randomized_all": "random\nweights",
}
MARKS = {"random map": "r", "center bias": "c"}
DEFAULT_WIDTH = 100
"""Width of the table where there is no terminal."""


def faithfulness(
    model: ModelName,
    /,
    *,
    data: str | None = None,
    methods: str | None = None,
    count: int | None = None,
    target: Literal["predicted", "true"] = "predicted",
    split: SplitName = "test",
    seed: int = 0,
    output: OutputFile = None,
    restart: Flag = False,
    json_: JsonFlag = False,
    device: DeviceName = "auto",
) -> int:
    """Measure how faithful each explanation method is, against two baselines.

    The baselines are a random map and a center bias.

    Args:
        data: Source of images; by default the data that the model was trained on.
        methods: Methods, separated by commas; all of them by default.
        count: Number of images, drawn randomly; 64 by default, or all if there are fewer.
        target: Follow the probability of the predicted class or of the true one.
        seed: Seed of all random numbers.
        output: Folder for the results; the run folder, or "faithfulness", by default. A stopped measurement there is
            continued.
        restart: Ignore the values of an earlier call.
        json_: Print the results as one JSON object.
    """
    from vitreous.diagnostics.faithfulness.result import FIGURE_FILE, SUMMARY_FILE
    from vitreous.diagnostics.faithfulness.run import VALUES_FILE
    from vitreous.diagnostics.faithfulness.run import faithfulness as run
    from vitreous.runs.run_folder import results_folder

    names = None if methods is None else [name.strip() for name in methods.split(",") if name.strip()]
    folder = results_folder(model, output, "faithfulness")
    before = modified_at(folder / VALUES_FILE)
    try:
        with progress("measuring") as callback:
            result = run(
                model, data, methods=names, count=count, target=target, split=split, seed=seed, output=output,
                restart=restart, device=device, callback=callback,
            )  # fmt: skip
    except KeyboardInterrupt:
        path = folder / VALUES_FILE
        print_note(describe_stop(path, added=modified_at(path) != before, restart=restart))
        return EXIT_INTERRUPTED
    if json_:
        print_line(json.dumps(result.to_json()))
        return 0
    print_table(result)
    print_note(f"{folder / SUMMARY_FILE} and {folder / FIGURE_FILE} written")
    return 0


def modified_at(path: Path) -> int | None:
    """Return the time at which a file was last written, in nanoseconds; None if there is no such file."""
    return path.stat().st_mtime_ns if path.is_file() else None


def describe_stop(path: Path, *, added: bool, restart: bool) -> str:
    """Describe what an interrupted measurement leaves in the file of values, and how it continues.

    Args:
        path: the file.
        added: whether this measurement wrote it.
        restart: whether this measurement ignored an earlier file.
    """
    if not added and (restart or not path.is_file()):
        kept = f"; {path} still holds the earlier values" if path.is_file() else ""
        return f"stopped before any method was complete, so nothing was saved{kept}"
    how = "the same command without --restart" if restart else "the same command"
    return f"stopped; the values of the complete methods are in {path}: {how} continues"


def print_table(result: "FaithfulnessResult") -> None:
    """Print the scores on standard output, with their intervals and marks, and what the marks mean."""
    from rich.console import Console
    from rich.table import Column, Table
    from rich.text import Text

    from vitreous.diagnostics.faithfulness.report import METRICS

    console = Console()
    if not console.is_terminal:
        console = Console(width=max(DEFAULT_WIDTH, console.width))
    shown = [name for name in METRICS if any(name in method.scores for method in result.methods)]
    arrows = {"higher": "↑", "lower": "↓"}
    headings = [Column(f"{COLUMNS[name]} {arrows[METRICS[name].direction]}", justify="right") for name in shown]
    table = Table("method", *headings, box=None, padding=(0, 1, 0, 0))
    for method in result.methods:
        name = Text(method.name + (" !" if method.is_insensitive else ""), style="dim" if method.baseline else "")
        cells = (_cell(method, metric) for metric in shown)
        table.add_row(name, *cells, end_section=method.name == "center bias")
    console.print(table)
    for line in legend_lines(result):
        print_line(line)


def _cell(method: "MethodReport", metric: str) -> "Text":
    """Format a score with its marks, and its interval on a second line."""
    from rich.text import Text

    score = method.scores.get(metric)
    if score is None:
        return Text("-", style="dim")
    marks = "".join(MARKS[baseline] for baseline in method.not_better_than.get(metric, ()))
    text = Text(format_score(score.value), style="dim" if method.baseline else "")
    text.append(f" {marks:<2}", style="yellow")
    return text.append(f"\n{format_short_interval(score)}", style="dim")


def format_short_interval(score: "Estimate") -> str:
    """Format the ends of an interval in few characters.

    >>> from vitreous.evaluation.intervals import Estimate
    >>> format_short_interval(Estimate(0.5, -0.123, 1.0, 9, "higher"))
    '-.12 1.0'
    """
    return " ".join(format_score(end).replace("0.", ".").replace("1.00", "1.0") for end in (score.low, score.high))


def format_score(value: float) -> str:
    """Format a score with two decimals, without a minus before zero.

    >>> format_score(-0.001), format_score(0.126)
    ('0.00', '0.13')
    """
    return f"{value:.2f}".replace("-0.00", "0.00")


def legend_lines(result: "FaithfulnessResult") -> list[str]:
    """Return lines on what was measured and what the marks mean."""
    from vitreous.diagnostics.faithfulness.report import MAX_RANDOMIZED_CORRELATION, summarize_reports

    settings, unit = result.settings, "probability"
    target = f"the {settings.target} class"
    if result.unit == "score":
        target, unit = "the image's own features (the model has no classes)", "score over that of the original image"
    images = f"{settings.count} {settings.split} images of {settings.data}"
    lines = [
        "",
        f"{images} · target: {target} · 95 % intervals below the values",
        f"insertion, deletion: area under the curve of the {unit}",
        "ROAD: its mean while patches are removed and imputed; the other columns are correlations",
        "r, c: not significantly better than the random map (r) or the center bias (c), or too few images",
        summarize_reports(result.methods),
    ]
    if any(method.is_insensitive for method in result.methods):
        limit = f"correlation above {MAX_RANDOMIZED_CORRELATION:g}"
        lines.append(f"!: the map hardly changes when all weights are random ({limit})")
    return lines + [f"{name} was skipped: {reason}" for name, reason in result.skipped.items()]
