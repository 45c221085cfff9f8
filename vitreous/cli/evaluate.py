"""vitreous evaluate"""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from vitreous.cli.screen import note, say

MOST_CLASSES_ON_SCREEN = 10

if TYPE_CHECKING:
    from vitreous.evaluation.classification import Scores


def evaluate(
    model: str,
    /,
    *,
    data: str | None = None,
    split: str = "test",
    json_: Annotated[bool, Parameter(name="--json", negative="")] = False,
    device: str = "auto",
) -> int:
    """Measure a model on pictures it has not learned from: accuracy, loss, precision and recall, confusion.

    Args:
        model: Run folder or model.safetensors.
        data: Pictures to measure on; by default those the run was trained on.
        split: test, or validation while settings are still being chosen.
        json_: Print the scores as one JSON object.
        device: auto, cpu or cuda.
    """
    from vitreous.workflows.evaluate import evaluate as run

    scores = run(model, data, split=split, device=device)
    if json_:
        say(json.dumps(asdict(scores)))
        return 0
    print_scores(scores)
    if (Path(model) / "evaluation.json").is_file():
        note(f"{Path(model) / 'evaluation.json'} and {Path(model) / 'figures' / 'confusion.png'} written")
    return 0


def print_scores(scores: "Scores") -> None:
    """The scores as a table on standard output."""
    from rich.console import Console
    from rich.table import Column, Table
    from rich.text import Text

    say(f"top-1 {scores.top1:.2%} · top-5 {scores.top5:.2%} · loss {scores.loss:.4f} · {scores.count:,} pictures")
    table = Table("class", *(Column(name, justify="right") for name in ("precision", "recall", "F1", "pictures")))
    for one in scores.classes:
        table.add_row(Text(one.name), f"{one.precision:.1%}", f"{one.recall:.1%}", f"{one.f1:.1%}", f"{one.count:,}")
    Console().print(table)
    if len(scores.classes) <= MOST_CLASSES_ON_SCREEN:
        print_confusion(scores)


def print_confusion(scores: "Scores") -> None:
    """The confusion matrix on standard output: a row a truth, a column a prediction."""
    from rich.console import Console
    from rich.table import Column, Table
    from rich.text import Text

    say("\nconfusion: a row a truth, a column what it was taken for")
    names = [one.name for one in scores.classes]
    table = Table("truth", *(Column(Text(name[:5]), justify="right") for name in names), box=None)
    for name, row in zip(names, scores.confusion, strict=True):
        table.add_row(Text(name), *(str(count) if count else "·" for count in row))
    Console().print(table)
