"""vitreous convert"""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from vitreous.cli.console import print_line, print_note


def convert(
    model: str,
    /,
    *,
    to: str,
    output: Annotated[Path, Parameter(name=["--output", "-o"])],
) -> int:
    """Write a model in the form that another library loads.

    Args:
        model: Run folder, weights file, or origin:name.
        to: hf (transformers), timm, or dinov2 (names of facebookresearch/dinov2).
        output: Folder to write.
    """
    from vitreous.workflows.convert import convert as write

    converted = write(model, to, output, on_note=print_note)
    print_line(f"{converted.folder}: written for {converted.layout}, read back, same answers")
    print_line(converted.loading)
    return 0
