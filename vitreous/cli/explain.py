"""vitreous explain"""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from vitreous.cli.screen import say


def explain(
    model: str,
    pictures: Annotated[list[Path] | None, Parameter(negative="")] = None,
    /,
    *,
    method: str = "rollout",
    layer: int | None = None,
    head: int | None = None,
    target: str | None = None,
    truth: str | None = None,
    layout: Literal["single", "sheet", "grid"] | None = None,
    data: str | None = None,
    count: int = 16,
    output: Annotated[Path | None, Parameter(name=["--output", "-o"])] = None,
) -> int:
    """Show what a model looks at on pictures; without pictures, on the test pictures of its own data.

    Args:
        model: Run folder or model.safetensors.
        pictures: Picture files.
        method: attention (one layer) or rollout (all layers).
        layer: Layer to show, counted from 0; -1 is the last. For --method attention.
        head: Head to show, counted from 0; the mean over heads by default. For --method attention.
        target: A class whose probability is told too.
        truth: What the picture really shows; by default its folder's name, where that is a class.
        layout: single: one explained picture; sheet: every layer and head; grid: all pictures in one.
        data: Source of test pictures; by default the one the run was trained on.
        count: How many test pictures to show.
        output: File to write; several pictures with a folder here are written one by one.
    """
    from vitreous.workflows.explain_files import ExplainRequest, write_explanations

    request = ExplainRequest(method, layer, head, target, truth, layout, data, count)
    for written in write_explanations(model, pictures or [], request, output):
        say(f"{written.path}: {written.words}")
    return 0
