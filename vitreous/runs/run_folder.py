"""The folder that a run lives in: its places, and the lines of metrics.jsonl."""

import json
import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from vitreous.errors import InputError
from vitreous.files import make_folder, read_json, reason, write_text
from vitreous.model.classifier import ImageClassifier

UNFINISHED_HEADER = ".recipe.*.part.json"
"""What a kill leaves of a run that has only just begun."""


@dataclass(frozen=True)
class RunFolder:
    """The places in a run folder."""

    path: Path

    @property
    def recipe(self) -> Path:
        """Every setting of the run, the versions it ran with and the fingerprint of its data."""
        return self.path / "recipe.json"

    @property
    def metrics(self) -> Path:
        """One JSON object a line: step, epoch, split, loss, top1 ... ."""
        return self.path / "metrics.jsonl"

    @property
    def checkpoint(self) -> Path:
        """All that is needed to go on."""
        return self.path / "checkpoint" / "state.safetensors"

    @property
    def tensorboard(self) -> Path:
        """The metrics as TensorBoard reads them, if the recipe asks for it."""
        return self.path / "tensorboard"

    @property
    def figures(self) -> Path:
        """Images that the run made of itself."""
        return self.path / "figures"


def start_run(path: Path | str, header: Mapping[str, Any]) -> RunFolder:
    """Make a folder for a new run and write recipe.json.

    Raises:
        InputError: the folder holds a run, or something else.
    """
    check_free(path)
    folder = RunFolder(Path(path))
    make_folder(folder.path)
    for unfinished in folder.path.glob(UNFINISHED_HEADER):
        unfinished.unlink()
    write_header(folder, header)
    return folder


def write_header(folder: RunFolder, header: Mapping[str, Any]) -> None:
    """Write recipe.json."""
    write_text(folder.recipe, json.dumps(header, indent=2) + "\n")


def check_free(path: Path | str) -> None:
    """Refuse a folder that can't take a new run.

    Raises:
        InputError: the folder holds a run, or something else; or it can't be made or written into.
    """
    folder = RunFolder(Path(path))
    if folder.path.exists() and not folder.path.is_dir():
        raise InputError(f"{path} is a file: choose another --out")
    if folder.recipe.exists():
        raise InputError(f"{path} holds a run already: add --resume to go on with it, or choose another --out")
    if folder.path.is_dir() and any(not path.match(UNFINISHED_HEADER) for path in folder.path.iterdir()):
        raise InputError(f"{path} exists and is no run of Vitreous: choose another --out")
    check_writable(folder.path)


def check_writable(folder: Path) -> None:
    """Refuse a folder that can't be made or written into; it is found out by doing so, and nothing is left.

    Raises:
        InputError: it can't.
    """
    missing = [place for place in (folder, *folder.parents) if not place.exists()]
    try:
        make_folder(folder)
        with TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise InputError(f"can't write into {folder}: {reason(error)}; choose another --out") from error
    finally:
        for place in missing:
            with suppress(OSError):  # it was not made, or is in use by now
                place.rmdir()


def open_run(path: Path | str) -> tuple[RunFolder, dict[str, Any]]:
    """The folder of an earlier run and what its recipe.json says; what a kill left unfinished there is removed.

    Raises:
        InputError: the folder holds no run.
    """
    folder = RunFolder(Path(path))
    if not folder.recipe.is_file():
        raise InputError(f"{path} holds no run to go on with (no recipe.json): leave out --resume to start one")
    for unfinished in folder.path.rglob(".*.part*"):
        unfinished.unlink()
    return folder, read_json(folder.recipe)


def append_metrics(folder: RunFolder, **values: float | str | None) -> None:
    """Add one line to metrics.jsonl and flush it; what isn't finite becomes null, as JSON has no name for it."""
    line = {key: _finite(value) for key, value in values.items()}
    try:
        with folder.metrics.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
    except OSError as error:
        raise InputError(f"can't write {folder.metrics}: {reason(error)}") from error


def read_metrics(folder: RunFolder) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl; a last line that a kill cut off is left out."""
    if not folder.metrics.is_file():
        return []
    lines = folder.metrics.read_text(encoding="utf-8").split("\n")
    return [json.loads(line) for line in lines[:-1] if line]


def forget_metrics_after(folder: RunFolder, step: int) -> None:
    """Drop the lines of steps that the checkpoint doesn't know: they will be done again."""
    kept = [line for line in read_metrics(folder) if line["step"] <= step]
    write_text(folder.metrics, "".join(json.dumps(line) + "\n" for line in kept))


def _finite(value: float | str | None) -> float | str | None:
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value


def results_folder(model: str | Path | ImageClassifier, output: str | Path | None, name: str) -> Path:
    """The folder asked for, the run's own, or one called `name` where the user stands.

    Raises:
        InputError: the model is one in memory and no folder is named, or the folder is a file.
    """
    if output is None:
        if isinstance(model, ImageClassifier):
            raise InputError("this model has no folder of its own: name one for the results with --output")
        output = model if RunFolder(Path(model)).recipe.is_file() else name
    folder = Path(output)
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file: name a folder with --output")
    return folder
