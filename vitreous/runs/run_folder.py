"""The run folder: its files, and the lines of metrics.jsonl."""

import json
import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from vitreous.errors import InputError
from vitreous.files import make_folder, os_error_reason, read_json, write_text
from vitreous.model.classifier import ImageClassifier
from vitreous.runs.migration import migrate_metrics, migrate_run_metadata

PARTIAL_METADATA = ".recipe.*.part.json"
"""What a kill leaves of a run that has only just been created."""


@dataclass(frozen=True)
class RunFolder:
    """The paths of the files in a run folder."""

    path: Path

    @property
    def recipe(self) -> Path:
        """Every setting of the run, the versions it ran with and the fingerprint of its data."""
        return self.path / "recipe.json"

    @property
    def metrics(self) -> Path:
        """One JSON object a line: step, epoch, split, loss, top1 and others."""
        return self.path / "metrics.jsonl"

    @property
    def checkpoint(self) -> Path:
        """Everything that resuming needs."""
        return self.path / "checkpoint" / "state.safetensors"

    @property
    def tensorboard(self) -> Path:
        """The folder of the metrics for TensorBoard, if the recipe asks for them."""
        return self.path / "tensorboard"

    @property
    def figures(self) -> Path:
        """The folder of the run's figures."""
        return self.path / "figures"


def create_run(path: Path | str, metadata: Mapping[str, Any]) -> RunFolder:
    """Create the folder of a new run, with its recipe.json.

    Raises:
        InputError: the folder holds a run, or something else.
    """
    check_unused(path)
    folder = RunFolder(Path(path))
    make_folder(folder.path)
    for unfinished in folder.path.glob(PARTIAL_METADATA):
        unfinished.unlink()
    write_metadata(folder, metadata)
    return folder


def write_metadata(folder: RunFolder, metadata: Mapping[str, Any]) -> None:
    """Write recipe.json."""
    write_text(folder.recipe, json.dumps(metadata, indent=2) + "\n")


def read_metadata(folder: RunFolder) -> dict[str, Any]:
    """Read recipe.json, as any version wrote it, under today's names.

    Raises:
        InputError: there is none, or it is not a JSON object.
    """
    if not folder.recipe.exists():
        raise InputError(f"{folder.recipe} is missing: {folder.path} is not a run of Vitreous")
    return migrate_run_metadata(read_json(folder.recipe))


def check_unused(path: Path | str) -> None:
    """Refuse a folder that can't take a new run.

    Raises:
        InputError: the folder holds a run, or something else; or it can't be created or written to.
    """
    folder = RunFolder(Path(path))
    if folder.path.exists() and not folder.path.is_dir():
        raise InputError(f"{path} is a file: choose another --output")
    if folder.recipe.exists():
        raise InputError(f"{path} holds a run already: add --resume to continue it, or choose another --output")
    if folder.path.is_dir() and any(not path.match(PARTIAL_METADATA) for path in folder.path.iterdir()):
        raise InputError(f"{path} exists and is not a run of Vitreous: choose another --output")
    check_writable(folder.path)


def check_writable(folder: Path) -> None:
    """Refuse a folder that can't be created or written to, by trying it; nothing is left behind.

    Raises:
        InputError: it can't.
    """
    missing = [parent for parent in (folder, *folder.parents) if not parent.exists()]
    try:
        make_folder(folder)
        with TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise InputError(f"can't write into {folder}: {os_error_reason(error)}; choose another --output") from error
    finally:
        for parent in missing:
            with suppress(OSError):  # it was not created, or is in use by now
                parent.rmdir()


def open_run(path: Path | str) -> tuple[RunFolder, dict[str, Any]]:
    """Open the folder of an earlier run, remove what a kill left unfinished there, and read its recipe.json.

    Raises:
        InputError: the folder holds no run.
    """
    folder = RunFolder(Path(path))
    if not folder.recipe.is_file():
        raise InputError(f"{path} holds no run to resume (no recipe.json): leave out --resume to start one")
    for unfinished in folder.path.rglob(".*.part*"):
        unfinished.unlink()
    return folder, read_metadata(folder)


def append_metrics(folder: RunFolder, **values: float | str | None) -> None:
    """Append one line to metrics.jsonl and flush it. Numbers that aren't finite become null, as JSON can't write
    them."""
    line = {key: _finite(value) for key, value in values.items()}
    try:
        with folder.metrics.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
    except OSError as error:
        raise InputError(f"can't write {folder.metrics}: {os_error_reason(error)}") from error


def read_metrics(folder: RunFolder) -> list[dict[str, Any]]:
    """Read the lines of metrics.jsonl under today's names; a last line that a kill cut off is left out."""
    if not folder.metrics.is_file():
        return []
    lines = folder.metrics.read_text(encoding="utf-8").split("\n")
    return [migrate_metrics(json.loads(line)) for line in lines[:-1] if line]


def drop_metrics_after(folder: RunFolder, step: int) -> None:
    """Remove the lines of steps after the checkpoint's: they will be taken again."""
    kept = [line for line in read_metrics(folder) if line["step"] <= step]
    write_text(folder.metrics, "".join(json.dumps(line) + "\n" for line in kept))


def _finite(value: float | str | None) -> float | str | None:
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value


def results_folder(model: str | Path | ImageClassifier, output: str | Path | None, name: str) -> Path:
    """Choose the folder for results: `output`, or the run's own, or else one called `name` in the working directory.

    Raises:
        InputError: the model is in memory and no folder is given, or the folder is a file.
    """
    if output is None:
        if isinstance(model, ImageClassifier):
            raise InputError("this model has no folder of its own: name one for the results with --output")
        output = model if RunFolder(Path(model)).recipe.is_file() else name
    folder = Path(output)
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file: name a folder with --output")
    return folder
