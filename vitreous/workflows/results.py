"""Where the results of a measurement go."""

from pathlib import Path

from vitreous.errors import InputError
from vitreous.tasks.classification import Classifier
from vitreous.training.run_folder import RunFolder


def results_folder(model: str | Path | Classifier, output: str | Path | None, name: str) -> Path:
    """The folder asked for, the run's own, or one called `name` where the user stands.

    Raises:
        InputError: the model is one in memory and no folder is named, or the folder is a file.
    """
    if output is None:
        if isinstance(model, Classifier):
            raise InputError("this model has no folder of its own: name one for the results with --output")
        output = model if RunFolder(Path(model)).recipe.is_file() else name
    folder = Path(output)
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file: name a folder with --output")
    return folder
