"""vitreous doctor"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from vitreous.cli.console import print_line, print_note, progress
from vitreous.cli.flags import DeviceName, JsonFlag, ModelName, OutputFile

if TYPE_CHECKING:
    from vitreous.diagnostics.doctor.run import Diagnosis

MARKS = {"fault": ("✗", "bold red"), "note": ("!", "yellow"), "ok": ("✓", "green"), "unknown": ("?", "dim")}


def doctor(
    model: ModelName,
    images: Annotated[list[Path] | None, Parameter(negative="")] = None,
    /,
    *,
    data: str | None = None,
    count: int = 16,
    output: OutputFile = None,
    json_: JsonFlag = False,
    device: DeviceName = "auto",
) -> int:
    """Diagnose a model: outlier tokens, dead heads, uninformative maps.

    Prints the findings in plain English, faults first.

    Args:
        images: Image files to measure on; test images of --data by default.
        data: Source of images, a folder of images, or masks:DIR; by default the data that the model was trained on.
        count: Number of images of the source.
        output: Folder for doctor.json and doctor.html; the run folder, or "doctor", by default.
        json_: Print the findings as one JSON object.
    """
    from vitreous.diagnostics.doctor.run import doctor as run
    from vitreous.runs.run_folder import results_folder

    folder = results_folder(model, output, "doctor")
    with progress("measuring") as callback:
        diagnosis = run(model, images or [], data=data, count=count, device=device, callback=callback)
    written = diagnosis.save(folder)
    if json_:
        print_line(json.dumps(diagnosis.to_json()))
    else:
        print_findings(diagnosis)
    print_note(", ".join(map(str, written)) + " written")
    return 0


def print_findings(diagnosis: "Diagnosis") -> None:
    """Print the findings on standard output, faults first, one paragraph each."""
    from rich.console import Console
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    print_line(diagnosis.summary)
    table = Table.grid(padding=(0, 1))
    for finding in diagnosis.findings:
        mark, style = MARKS[finding.level]
        advice = f" {finding.advice}" if finding.advice else ""
        text = Text.assemble((finding.message, ""), (advice, "italic"))
        table.add_row(Text(mark, style=style), Text(finding.topic, style=style), text)
    Console().print(Padding(table, (1, 0, 0, 0)))
    print_line("layers and heads are counted from 0")
