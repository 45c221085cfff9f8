"""The run folder: its files, and the lines of metrics.jsonl."""

import json
import math
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitreous.errors import InputError
from vitreous.files import (
    can_lock_files,
    check_folder_writable,
    make_folder,
    only_below,
    os_error_reason,
    read_json,
    remove_partial,
    write_text,
)
from vitreous.model.classifier import ImageClassifier
from vitreous.model.serialization import CONFIG, WEIGHTS
from vitreous.runs.migration import migrate_metrics, migrate_run_metadata, with_unrecorded_settings

if TYPE_CHECKING:
    from filelock import FileLock

LEFT_BY_A_KILL = (".lock", ".recipe.*.part.json")
"""What a kill leaves of a run that has only just been created."""
BEFORE_A_CHECKPOINT = (
    *(*LEFT_BY_A_KILL, ".config.*.part.json", ".metrics.*.part.jsonl", ".maps.*.part.jsonl"),
    *("recipe.json", "config.json", "metrics.jsonl", "maps.jsonl", "tensorboard", ".model.*.part.safetensors"),
)
"""What a run may hold that has saved no weights yet, and so can as well be started again."""
LOCK_SECONDS = 0.2
"""Whoever asks whether a run is locked (`files.is_locked`) may be in the way for an instant."""
MOST_STEPS = 10**15
"""A larger number of steps is damage: a run of a million steps a second would take decades."""


@dataclass(frozen=True)
class RunFolder:
    """The paths of the files in a run folder, which stay the same if the working directory changes (os.chdir)."""

    given: Path
    """As the user wrote it."""
    absolute: Path = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "absolute", _absolute(self.given))

    @property
    def path(self) -> Path:
        """The run folder as the user wrote it; absolute, once the working directory is another one."""
        return self.given if _absolute(self.given) == self.absolute else self.absolute

    @property
    def recipe(self) -> Path:
        """Every setting of the run, the versions it ran with and the fingerprint of its data."""
        return self.path / "recipe.json"

    @property
    def metrics(self) -> Path:
        """One JSON object a line: step, epoch, split, loss, top1 and others."""
        return self.path / "metrics.jsonl"

    @property
    def kept_maps(self) -> Path:
        """The maps of a few fixed images at steps of the training, for `vitreous film`."""
        return self.path / "maps.jsonl"

    @property
    def checkpoint(self) -> Path:
        """Everything that resuming needs."""
        return self.path / "checkpoint" / "state.safetensors"

    @property
    def lora(self) -> Path:
        """The LoRA matrices and the head alone, if the recipe tunes those."""
        return self.path / "lora.safetensors"

    @property
    def lock(self) -> Path:
        """Locked by the process that trains the run."""
        return self.path / ".lock"

    @property
    def curves(self) -> Path:
        """The figure of the metrics."""
        return self.figures / "curves.png"

    @property
    def report(self) -> Path:
        """The page of `vitreous report`, which training writes with each checkpoint."""
        return self.path / "report.html"

    @property
    def filmstrip(self) -> Path:
        """The figure of the kept maps, from the first step to the last."""
        return self.figures / "filmstrip.png"

    @property
    def tensorboard(self) -> Path:
        """The folder of the metrics for TensorBoard, if the recipe asks for them."""
        return self.path / "tensorboard"

    @property
    def figures(self) -> Path:
        """The folder of the run's figures."""
        return self.path / "figures"

    @contextmanager
    def writing(self) -> Generator[None]:
        """Write a file of the run in the block; a run folder that is moved or deleted is not made again.

        Raises:
            InputError: the folder is gone, before or after.
        """
        self._check_present()
        try:
            with only_below(self.path):
                yield
        except Exception:
            self._check_present()  # if it is gone, that is the reason, whatever failed first
            raise
        self._check_present()

    def _check_present(self) -> None:
        if not self.recipe.is_file():  # a deletion that is under way leaves the folder for last
            raise InputError(f"{self.path} is gone: the run folder was moved or deleted during training")


def _absolute(path: Path) -> Path:
    try:
        return path.absolute()
    except FileNotFoundError:  # the working directory is deleted
        return path


class RunLock:
    """Keeps a run to one training at a time: neither another process nor another thread can lock it meanwhile.

    The operating system ends the lock with the process, so that a killed run can be resumed at once. The file `.lock`
    stays in the folder. Where the file system has no such locks, the run isn't locked.
    """

    def __init__(self, on_note: Callable[[str], object] | None = None) -> None:
        """Create a lock that isn't taken yet; `on_note` is told if the file system has no locks."""
        self._on_note = on_note
        self._lock: FileLock | None = None

    def acquire(self, folder: RunFolder) -> None:
        """Lock the run.

        Raises:
            InputError: it is being trained, or its folder can't be written to.
        """
        from filelock import FileLock, Timeout

        if not can_lock_files(folder.path):
            if self._on_note is not None:
                self._on_note(
                    f"the file system of {folder.path} has no locks: don't train this run in two processes at once"
                )
            return
        lock = FileLock(folder.lock, thread_local=False)
        try:
            lock.acquire(timeout=LOCK_SECONDS, poll_interval=LOCK_SECONDS / 4)
        except Timeout:
            raise InputError(
                f"{folder.path} is being trained by another process or thread: wait until it ends, or choose another "
                "output folder"
            ) from None
        except OSError as error:
            raise InputError(f"can't lock {folder.path}: {os_error_reason(error)}") from error
        self._lock = lock

    def close(self) -> None:
        """End the lock."""
        if self._lock is not None:
            self._lock.release()


def create_run(path: Path | str, metadata: Mapping[str, Any], lock: RunLock) -> RunFolder:
    """Create the folder of a new run, lock it, and write its recipe.json.

    Raises:
        InputError: the folder holds a run, or something else.
    """
    check_unused(path)
    folder = RunFolder(Path(path))
    make_folder(folder.path)
    lock.acquire(folder)
    check_unused(path)  # again: another process may have created its run meanwhile
    for path_before in (folder.recipe, folder.path / CONFIG, folder.path / WEIGHTS, folder.metrics, folder.kept_maps):
        remove_partial(path_before)
    for of_a_run_before in (folder.metrics, folder.kept_maps):
        of_a_run_before.unlink(missing_ok=True)
    write_text(folder.recipe, _metadata_text(metadata))
    return folder


def write_metadata(folder: RunFolder, metadata: Mapping[str, Any]) -> None:
    """Write the recipe.json of a run anew."""
    with folder.writing():
        write_text(folder.recipe, _metadata_text(metadata))


def _metadata_text(metadata: Mapping[str, Any]) -> str:
    return json.dumps(metadata, indent=2) + "\n"


def read_metadata(folder: RunFolder) -> dict[str, Any]:
    """Read recipe.json, as any version wrote it, under today's names.

    Raises:
        InputError: there is none, or it is not a JSON object.
    """
    if not folder.recipe.exists():
        raise InputError(f"{folder.recipe} is missing: {folder.path} is not a run of Vitreous")
    metadata = read_json(folder.recipe)
    advice = "restore it from a copy, or start a new run"
    if not isinstance(metadata.get("recipe"), dict):
        raise InputError(f"{folder.recipe} has no JSON object 'recipe': {advice}")
    if not isinstance(metadata.get("data", {}), dict):
        raise InputError(f"in {folder.recipe}, 'data' is no JSON object: {advice}")
    return with_unrecorded_settings(migrate_run_metadata(metadata))


def check_unused(path: Path | str) -> None:
    """Refuse a folder that can't take a new run. A run that has saved no weights yet is none.

    Raises:
        InputError: the folder holds a run, or something else; or it can't be created or written to.
    """
    folder = RunFolder(Path(path))
    try:
        with suppress(FileNotFoundError, NotADirectoryError):
            folder.path.stat()
    except (OSError, ValueError) as error:
        reason = os_error_reason(error) if isinstance(error, OSError) else str(error)
        raise InputError(f"{str(path)!r} can't be an output folder: {reason}") from None
    if folder.path.exists() and not folder.path.is_dir():
        raise InputError(f"{path} is a file: choose another output folder")
    names = [one.name for one in folder.path.iterdir()] if folder.path.is_dir() else []
    is_run = folder.recipe.exists()
    is_told_by_lock = is_run and can_lock_files(folder.path)  # if a run without weights goes on, it holds its lock
    free = BEFORE_A_CHECKPOINT if is_told_by_lock else LEFT_BY_A_KILL
    if any(not any(fnmatch(name, pattern) for pattern in free) for name in names):
        if is_run:
            raise InputError(f"{path} holds a run already: resume it (--resume), or choose another output folder")
        raise InputError(f"{path} exists and is not a run of Vitreous: choose another output folder")
    check_folder_writable(folder.path)


def open_run(path: Path | str, lock: RunLock) -> tuple[RunFolder, dict[str, Any]]:
    """Open the folder of an earlier run, lock it, remove what a kill left unfinished, and read its recipe.json.

    Other programs may be writing into the folder, such as a video, so only unfinished files of training are removed.

    Raises:
        InputError: the folder holds no run, or the run is being trained.
    """
    folder = RunFolder(Path(path))
    if not folder.recipe.is_file():
        raise InputError(f"{path} holds no run to resume (no recipe.json): leave out resume (--resume) to start one")
    lock.acquire(folder)
    weights = [folder.path / name for name in (CONFIG, WEIGHTS)]
    figures = (folder.curves, folder.filmstrip)
    files = (folder.recipe, folder.metrics, folder.kept_maps, folder.checkpoint, folder.lora, folder.report)
    for written in (*files, *figures, *weights):
        remove_partial(written)
    return folder, read_metadata(folder)


def append_metrics(folder: RunFolder, **values: float | str | None) -> None:
    """Append one line to metrics.jsonl and flush it. Numbers that aren't finite become null, as JSON can't write
    them."""
    line = {key: _finite(value) for key, value in values.items()}
    with folder.writing():
        try:
            with folder.metrics.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
        except OSError as error:
            raise InputError(f"can't write {folder.metrics}: {os_error_reason(error)}") from error


def read_metrics(folder: RunFolder) -> list[dict[str, Any]]:
    """Read the lines of metrics.jsonl under today's names; a last line that a kill cut off is left out.

    Raises:
        InputError: a line is damaged.
    """
    if not folder.metrics.is_file():
        return []
    lines = folder.metrics.read_text(encoding="utf-8", errors="replace").split("\n")
    return [parse_metrics_line(line, number, folder) for number, line in enumerate(lines[:-1], 1) if line]


def parse_metrics_line(line: str, number: int, folder: RunFolder) -> dict[str, Any]:
    """Parse a line of metrics.jsonl, whose number is for the message.

    Raises:
        InputError: it is damaged.
    """
    try:
        values = json.loads(line)
    except (ValueError, RecursionError):
        values = None
    if not isinstance(values, dict) or not all(_is_metric(key, values.get(key)) for key in {*values, "step", "split"}):
        raise InputError(f"line {number} of {folder.metrics} is damaged: delete that line")
    return migrate_metrics(values)


def _is_metric(key: str, value: object) -> bool:
    """Whether a line of metrics.jsonl may hold this: "split" is a word, "step" a count, all others numbers or null."""
    if key == "split":
        return isinstance(value, str)
    if key == "step":
        return type(value) is int and 0 <= value <= MOST_STEPS
    return value is None or type(value) is float or (type(value) is int and abs(value) <= MOST_STEPS)


def drop_metrics_after(folder: RunFolder, step: int) -> None:
    """Remove the lines of steps after the checkpoint's: they will be taken again."""
    kept = [line for line in read_metrics(folder) if line["step"] <= step]
    with folder.writing():
        write_text(folder.metrics, "".join(json.dumps(line) + "\n" for line in kept))


def _finite(value: float | str | None) -> float | str | None:
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value


def results_folder(model: str | Path | ImageClassifier, output: str | Path | None, name: str) -> Path:
    """Choose the folder for results: `output`, or the run's own, or else one called `name` in the working directory.

    Raises:
        InputError: the model is in memory and no folder is given, or the folder is a file or can't
            be written.
    """
    if output is None:
        if not isinstance(model, str | Path):
            raise InputError("this model has no folder of its own: name an output folder for the results")
        output = model if RunFolder(Path(model)).recipe.is_file() else name
    folder = Path(output)
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file: choose another output folder")
    check_folder_writable(folder)
    return folder
