"""Load the model that a command line names: MODEL, or a function of the user's own."""

from pathlib import Path
from typing import TYPE_CHECKING

from vitreous.errors import InputError

if TYPE_CHECKING:
    from vitreous.cli.options import InputOptions
    from vitreous.model.classifier import ImageClassifier


def open_model(
    arguments: list[str], *, inputs: "InputOptions", factory: str | None, checkpoint: Path | None, device: str
) -> "tuple[ImageClassifier, list[Path]]":
    """Load the model, and return the files that are named after it; with --factory, all arguments are files.

    Args:
        arguments: MODEL and files, or files alone with a factory.
        inputs: input size and resize mode, if they aren't the model's own.
        factory: MODULE:FUNCTION that returns a model.
        checkpoint: weights for the factory's model.
        device: auto, cpu or cuda.

    Raises:
        InputError: no model is named, or it can't be loaded.
    """
    from vitreous.pretrained.load import load

    if checkpoint is not None and factory is None:
        raise InputError(
            "--checkpoint goes with --factory MODULE:FUNCTION; for a known format, give the file as MODEL instead"
        )
    if factory is None and not arguments:
        raise InputError("no model is named: give a run folder, a weights file or origin:name, or --factory")
    model, files = (arguments[0], arguments[1:]) if factory is None else (f"factory:{factory}", arguments)
    model += f"@{checkpoint}" if checkpoint else ""
    return load(model, device, input_size=inputs.input_size, resize_mode=inputs.resize_mode), [
        Path(name) for name in files
    ]
