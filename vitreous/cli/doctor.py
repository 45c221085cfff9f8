"""vitreous doctor"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from vitreous.cli.console import note, progress, say

if TYPE_CHECKING:
    from vitreous.diagnostics.doctor.run import Examination

MARKS = {"fault": ("✗", "bold red"), "note": ("!", "yellow"), "well": ("✓", "green"), "unknown": ("?", "dim")}


def doctor(
    model: str,
    images: Annotated[list[Path] | None, Parameter(negative="")] = None,
    /,
    *,
    data: str | None = None,
    count: int = 16,
    output: Annotated[Path | None, Parameter(name=["--output", "-o"])] = None,
    json_: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> int:
    """Say in words what is wrong inside a model: outlier tokens, dead heads, maps that say nothing.

    Args:
        model: Run folder, weights file, origin:name such as hf:facebook/dinov2-small, or
            factory:MODULE:FUNCTION of your own, with @WEIGHTS after it.
        images: Image files to look at; without any, test images of --data.
        data: Source of images, a folder of images, or masks:DIR; by default what the run was trained on.
        count: How many images of the source.
        output: Folder for doctor.json and doctor.html: the run folder, or "doctor", by default.
        json_: Print what was found as one JSON object.
    """
    from vitreous.diagnostics.doctor.page import write_doctor_page
    from vitreous.diagnostics.doctor.run import as_json, write_doctor
    from vitreous.diagnostics.doctor.run import doctor as run
    from vitreous.runs.run_folder import results_folder

    with progress("looking inside") as display:

        def tell(done: int, total: int) -> None:
            display(done, total, f"image {done} of {total}")

        found = run(model, images or [], data=data, count=count, on_progress=tell)
    folder = results_folder(model, output, "doctor")
    written = [write_doctor(found, folder), write_doctor_page(found, folder)]
    if json_:
        say(json.dumps(as_json(found)))
    else:
        print_findings(found)
    note(", ".join(map(str, written)) + " written")
    return 0


def print_findings(found: "Examination") -> None:
    """What was found on standard output, faults first, a paragraph each."""
    from rich.console import Console
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    from vitreous.diagnostics.doctor.finding import counted

    anatomy = found.anatomy
    sizes = f"{anatomy.layers} layers of {counted(anatomy.heads, 'head')}, {counted(len(found.images_u8), 'image')}"
    say(f"{found.model}: {sizes} · {counted(found.faults, 'fault') if found.faults else 'no faults'}")
    table = Table.grid(padding=(0, 1))
    for one in found.findings:
        mark, style = MARKS[one.level]
        words = Text.assemble((one.words, ""), (f" {one.meaning}" if one.meaning else "", "italic"))
        table.add_row(Text(mark, style=style), Text(one.topic, style=style), words)
    Console().print(Padding(table, (1, 0, 0, 0)))
    say("layers and heads are counted from 0")
