"""The model that a command line names: MODEL, or a function of the user's own."""

from pathlib import Path
from typing import TYPE_CHECKING

from vitreous.errors import InputError

if TYPE_CHECKING:
    from vitreous.model.classifier import ImageClassifier


def open_model(
    arguments: list[str], *, factory: str | None, checkpoint: Path | None, size: int | None, device: str
) -> "tuple[ImageClassifier, list[Path]]":
    """The model, and the files that are named after it: with --factory, all arguments are files."""
    from vitreous.pretrained.load import load

    if checkpoint is not None and factory is None:
        raise InputError(
            "--checkpoint goes with --factory MODULE:FUNCTION; a known layout needs only the file as MODEL"
        )
    if factory is None and not arguments:
        raise InputError("which model? Give a run folder, a weights file or origin:name, or --factory MODULE:FUNCTION")
    if factory is None:
        return load(arguments[0], device, size=size), [Path(name) for name in arguments[1:]]
    model = f"factory:{factory}" + (f"@{checkpoint}" if checkpoint else "")
    return load(model, device, size=size), [Path(name) for name in arguments]
