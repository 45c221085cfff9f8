"""vitreous convert"""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from vitreous.cli.console import ConsoleCallback, print_line
from vitreous.cli.flags import OUTPUT_NAMES, ModelName


def convert(
    model: ModelName,
    /,
    *,
    to: str,
    output: Annotated[Path, Parameter(name=OUTPUT_NAMES)],
) -> int:
    """Convert a model to the format of another library.

    The written model is read back; its outputs, classes and preprocessing are the same.

    Args:
        to: hf (transformers), timm, or dinov2 (names of facebookresearch/dinov2).
        output: Folder to write.
    """
    from vitreous.workflows.convert import convert as convert_model

    converted = convert_model(model, to, output, callback=ConsoleCallback())
    print_line(f"{converted.folder}: written for {converted.format_name}, read back, same outputs")
    print_line(converted.load_code)
    return 0
