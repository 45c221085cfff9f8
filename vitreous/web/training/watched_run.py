"""A run folder as the page shows it, while the run trains: what it is, its metrics, its kept maps and how far it is."""

import secrets
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any, Literal

import numpy as np

from vitreous.diagnostics.evaluation_set import TrainingRun, training_run
from vitreous.errors import InputError
from vitreous.files import is_locked
from vitreous.model.classifier import ImageClassifier
from vitreous.model.serialization import WEIGHTS
from vitreous.runs.metrics_tail import MetricsTail
from vitreous.runs.run_folder import RunFolder
from vitreous.tasks.registry import find_task
from vitreous.tasks.task import TaskMetric
from vitreous.training.checkpoint import CheckpointReader
from vitreous.training.progressive_resizing import relative_cost
from vitreous.training.reference_comparison import find_reference, reference_band
from vitreous.training_film.history import MapHistory, read_map_histories
from vitreous.training_film.kept_maps import last_kept_step

RunState = Literal["starting", "training", "stopped", "finished"]
REFRESH_SECONDS = 0.5
"""The files are looked at again after so long."""
SILENT_SECONDS = 120.0
"""Where locks say nothing, a run that has written nothing for so long has stopped."""


@dataclass(frozen=True)
class RunStatus:
    """How far a run is.

    Attributes:
        state: "starting" until the first line of metrics, "stopped" if no process trains an unfinished run.
        step: of the last line of metrics.
        steps: of the whole run; None if recipe.json doesn't say it.
        seconds_left: of training, from the speed so far; None unless it trains.
        checkpoint_step: of the last checkpoint; None without one.
        problem: why a file can't be read, in one line.
    """

    state: RunState
    step: int
    steps: int | None
    seconds_left: float | None
    checkpoint_step: int | None
    problem: str | None


class WatchedRun:
    """One run of the page; `refresh` reads what its folder holds now.

    Args:
        name: that the page shows.
        path: of the run folder.
        load: loads the model that the folder holds now.

    Attributes:
        model: the index of its model in the explorer; None until one is loaded.
        loaded_step: of the checkpoint that it was loaded from; None if the run has none.
        metrics: the lines of metrics.jsonl; `metrics_key` changes when they aren't those of before with more behind.
        histories: the kept maps by method, empty until there are some; `maps_key` as for the metrics.

    Raises:
        InputError: it is no run, or its recipe.json is damaged.
    """

    model: int | None = None
    loaded_step: int | None = None

    def __init__(self, name: str, path: Path | str, load: Callable[[], ImageClassifier]) -> None:
        self.name, self.folder, self.load = name, RunFolder(Path(path)), load
        self.histories: Mapping[str, MapHistory] = {}
        self.metrics_key, self.maps_key = _new_key(), _new_key()
        self._tail, self._lock, self._refreshed = MetricsTail(self.folder), Lock(), -float("inf")
        self._stamps: dict[tuple[Path, ...], object] = {}
        self._problems: dict[Callable[[], None], str] = {}
        self._is_finished, self._checkpoint_step = False, None
        self._read_recipe()
        self.status = RunStatus("starting", 0, self.steps, None, None, None)

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl so far."""
        return self._tail.lines

    @property
    def metric(self) -> TaskMetric:
        """What is measured beside the loss."""
        return find_task(self.run.recipe.task).metric

    @property
    def steps(self) -> int | None:
        """The steps of the whole run."""
        images = self.run.data.get("training")
        return self.run.recipe.steps(images) if isinstance(images, int) else None

    @property
    def has_weights(self) -> bool:
        """Whether there is a checkpoint that can be opened as a model."""
        return (self.folder.path / WEIGHTS).is_file()

    def checkpoint_step(self) -> int | None:
        """Return the step of the last checkpoint; None if there is none, or it can't be read."""
        if self.folder.checkpoint.is_file():
            with suppress(InputError):
                return CheckpointReader(self.folder.checkpoint).step
        return None

    def reload(self) -> ImageClassifier:
        """Load the newest weights.

        Raises:
            InputError: there are none yet, or they can't be read.
        """
        if not self.has_weights:
            raise InputError(f"{self.name} has no checkpoint yet: wait until it has saved one")
        step = self.checkpoint_step()  # before: a checkpoint that comes meanwhile is offered again
        classifier = self.load()
        self.loaded_step = step
        return classifier

    def refresh(self) -> None:
        """Read what has changed, unless that was done a moment ago; what can't be read becomes the status' problem."""
        with self._lock:
            if time.monotonic() - self._refreshed < REFRESH_SECONDS:
                return
            folder = self.folder
            self._read(self._read_recipe, folder.recipe)
            self._read(self._read_metrics)
            self._read(self._read_maps, folder.kept_maps)
            self._read(self._read_checkpoint, folder.checkpoint, folder.metrics)
            self.status = self._find_status()
            self._refreshed = time.monotonic()

    def _read(self, read: Callable[[], None], *paths: Path) -> None:
        """Read a part of the folder, if one of its files has changed; a problem stays until they change again."""
        if paths and not self._has_changed(*paths):
            return
        self._problems.pop(read, None)
        try:
            read()
        except InputError as error:
            self._problems[read] = " ".join(str(error).split())

    def _read_recipe(self) -> None:
        run = training_run(self.folder.path)
        if run is None:
            raise InputError(f"{self.folder.path} is gone: the run folder was moved or deleted")
        notes: list[str] = []
        self.run: TrainingRun = run
        known = "fingerprint" in run.data
        self.reference = reference_band(find_reference(run.folder, run.recipe, notes.append)) if known else None
        self.notes = tuple(notes)

    def _read_metrics(self) -> None:
        before = self._tail.lines
        try:
            self._tail.read()
        finally:
            if self._tail.lines is not before:
                self.metrics_key = _new_key()

    def _read_maps(self) -> None:
        found = read_map_histories(self.folder.path) if last_kept_step(self.folder) >= 0 else {}
        if not continues(self.histories, found):
            self.maps_key = _new_key()
        self.histories = found

    def _read_checkpoint(self) -> None:
        self._checkpoint_step = self.checkpoint_step()
        status = self.run.status(self.metrics)  # which are read already
        self._is_finished = status is not None and status.message is None

    def _has_changed(self, *paths: Path) -> bool:
        """Whether any of these files is another one than when this was last asked."""
        stamps = tuple(map(_stamp, paths))
        changed = self._stamps.get(paths) != stamps
        self._stamps[paths] = stamps
        return changed

    def _find_status(self) -> RunStatus:
        held = is_locked(self.folder.lock)
        is_trained = self._is_recent() and not self._is_finished if held is None else held
        state: RunState = "finished" if self._is_finished else "stopped"
        if is_trained:
            state = "training" if self.metrics else "starting"
        step = self.metrics[-1]["step"] if self.metrics else 0
        left = self._seconds_left() if is_trained else None
        problem = next(iter(self._problems.values()), None)
        return RunStatus(state, step, self.steps, left, self._checkpoint_step, problem)

    def _is_recent(self) -> bool:
        times = [path.stat().st_mtime for path in (self.folder.metrics, self.folder.recipe) if path.is_file()]
        return time.time() - max(times, default=0.0) < SILENT_SECONDS

    def _seconds_left(self) -> float | None:
        """Estimate the time that the rest of the training takes, as the training loop does."""
        line = next((line for line in reversed(self.metrics) if line.get("images_per_second")), None)
        steps, recipe = self.steps, self.run.recipe
        if line is None or not line["step"] or steps is None:
            return None
        taken = line["step"] * recipe.batch_size / line["images_per_second"]
        now, whole = (relative_cost(step, steps, recipe.progressive_resizing) for step in (line["step"], steps))
        return taken * max(0.0, whole - now) / now


def continues(before: Mapping[str, MapHistory], after: Mapping[str, MapHistory]) -> bool:
    """Return whether kept maps are those of before, with more steps behind them or none."""
    if list(before) != list(after):
        return False
    return all(
        one.steps == after[method].steps[: len(one.steps)]
        and np.array_equal(one.images.images_u8, after[method].images.images_u8)
        and np.array_equal(one.maps, after[method].maps[: len(one.steps)])
        for method, one in before.items()
    )


def _stamp(path: Path) -> tuple[int, int, int] | None:
    """Return what changes whenever a file is written; None for one that isn't there."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


def _new_key() -> str:
    return secrets.token_hex(4)
