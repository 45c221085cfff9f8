"""vitreous faithfulness"""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from vitreous.cli import EXIT_INTERRUPTED
from vitreous.cli.console import format_clock, print_line, print_note, progress

if TYPE_CHECKING:
    from rich.text import Text

    from vitreous.diagnostics.faithfulness.report import MethodReport
    from vitreous.diagnostics.faithfulness.run import Faithfulness
    from vitreous.evaluation.intervals import Estimate

COLUMNS = {
    "insertion": "inser-\ntion",
    "deletion": "dele-\ntion",
    "road-most": "ROAD\nmost",
    "road-least": "ROAD\nleast",
    "sensitivity": "sensi-\ntivity",
    "randomized-head": "head\nrandom",
    "randomized-all": "all\nrandom",
}
MARKS = {"random map": "r", "centerd blob": "b"}
NARROWEST = 100
"""Columns that the table takes where there is no terminal."""


def faithfulness(
    model: str,
    /,
    *,
    data: str | None = None,
    methods: str | None = None,
    count: int | None = None,
    target: Literal["predicted", "true"] = "predicted",
    split: str = "test",
    seed: int = 0,
    output: Annotated[Path | None, Parameter(name=["--output", "-o"])] = None,
    restart: Annotated[bool, Parameter(negative="")] = False,
    json_: Annotated[bool, Parameter(name="--json", negative="")] = False,
    device: str = "auto",
) -> int:
    """Measure how far the maps of a model can be believed: every method beside a random map and a centerd blob.

    Args:
        model: Run folder, weights file, origin:name, or factory:MODULE:FUNCTION of your own, with @WEIGHTS
            after it.
        data: Images to measure on; by default those the run was trained on.
        methods: Methods, separated by commas; all of them by default.
        count: How many images, drawn by lot; 64 by default, or all if there are fewer.
        target: Follow the predicted class or the true one.
        split: test, or validation while settings are still being chosen.
        seed: Of all that is drawn by lot.
        output: Folder for the results; the run folder, or "faithfulness", by default. An earlier, stopped measurement
            there is taken up.
        restart: Forget what an earlier call has left there.
        json_: Print the results as one JSON object.
        device: auto, cpu or cuda.
    """
    from vitreous.diagnostics.doctor.finding import counted
    from vitreous.diagnostics.faithfulness.measurement import FaithfulnessListener, FaithfulnessRequest
    from vitreous.diagnostics.faithfulness.run import FIGURE, SUMMARY, VALUES
    from vitreous.diagnostics.faithfulness.run import faithfulness as run
    from vitreous.runs.run_folder import results_folder

    names = None if methods is None else tuple(name.strip() for name in methods.split(",") if name.strip())
    request = FaithfulnessRequest(names, count, target, split, seed)
    folder = results_folder(model, output, "faithfulness")
    try:
        with progress("measuring") as display:
            listener = FaithfulnessListener(
                lambda able, images, seconds: print_note(
                    f"{counted(able, 'method')}, {counted(images, 'image')}: about {format_clock(seconds)}"
                ),
                lambda share, step, left: display(share, 1.0, f"{step} · {format_clock(left)} left"),
            )
            result = run(model, data, request, output=output, restart=restart, device=device, listener=listener)
    except KeyboardInterrupt:
        print_note(f"stopped; finished methods are kept in {folder / VALUES}: the same command goes on from there")
        return EXIT_INTERRUPTED
    if json_:
        print_line(json.dumps(asdict(result)))
        return 0
    print_table(result)
    print_note(f"{folder / SUMMARY} and {folder / FIGURE} written")
    return 0


def print_table(result: "Faithfulness") -> None:
    """The scores on standard output, with their intervals and marks, and what the marks mean."""
    from rich.console import Console
    from rich.table import Column, Table
    from rich.text import Text

    from vitreous.diagnostics.faithfulness.report import MEASURES

    console = Console()
    if not console.is_terminal:
        console = Console(width=max(NARROWEST, console.width))
    shown = [name for name in MEASURES if any(name in method.scores for method in result.methods)]
    arrows = {"higher": "↑", "lower": "↓"}
    headings = [Column(f"{COLUMNS[name]} {arrows[MEASURES[name].direction]}", justify="right") for name in shown]
    table = Table("method", *headings, box=None, padding=(0, 1, 0, 0))
    for method in result.methods:
        name = Text(method.name + (" !" if method.unchanged else ""), style="dim" if method.baseline else "")
        table.add_row(name, *(cell(method, measure) for measure in shown), end_section=method.name == "centerd blob")
    console.print(table)
    for line in legend(result):
        print_line(line)


def cell(method: "MethodReport", measure: str) -> "Text":
    """A score and its marks, and its interval beneath."""
    from rich.text import Text

    score = method.scores.get(measure)
    if score is None:
        return Text("-", style="dim")
    marks = "".join(MARKS[baseline] for baseline in method.not_better.get(measure, ()))
    drawn = Text(f"{short(score.value)}", style="dim" if method.baseline else "")
    drawn.append(f" {marks:<2}", style="yellow")
    return drawn.append(f"\n{interval(score)}", style="dim")


def interval(score: "Estimate") -> str:
    """The ends of an interval in few characters.

    >>> from vitreous.evaluation.intervals import Score
    >>> interval(Score(0.5, -0.123, 1.0, 9, "higher"))
    '-.12 1.0'
    """
    return " ".join(short(end).replace("0.", ".").replace("1.00", "1.0") for end in (score.low, score.high))


def short(value: float) -> str:
    """Two decimals, and no minus before a nought.

    >>> short(-0.001), short(0.126)
    ('0.00', '0.13')
    """
    return f"{value:.2f}".replace("-0.00", "0.00")


def legend(result: "Faithfulness") -> list[str]:
    """What was measured, and what the marks mean."""
    from vitreous.diagnostics.faithfulness.report import UNCHANGED, verdict

    asked, unit = result.asked, "probability"
    followed = f"the {asked['target']} class"
    if result.unit == "score":
        followed, unit = "the image's own vector (the model has no classes)", "score over the whole image's"
    lines = [
        "",
        f"{asked['count']} {asked['split']} images of {asked['data']} · target: {followed} · 95 % intervals beneath",
        f"insertion, deletion: area under the {unit}; ROAD: its mean, patches imputed; the rest: correlations",
        "r, b: not better than the random map, than the centerd blob (the difference may be 0), or too few images",
        verdict(result.methods),
    ]
    if any(method.unchanged for method in result.methods):
        lines.append(f"!: hardly changes when all weights are drawn by lot (correlation above {UNCHANGED:g})")
    return lines + [f"{name} is left out: {reason}" for name, reason in result.skipped.items()]
