"""Evaluate a model on corrupted images, and on shifted and rotated ones."""

import json
from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Self

import numpy as np
from torch import Tensor

from vitreous.arguments import check_arguments
from vitreous.callbacks import Callback, Progress
from vitreous.data.image_set import ImageSet
from vitreous.diagnostics.evaluation_set import EvaluationSet, open_evaluation_set
from vitreous.diagnostics.predictions import ImageTransform, predict_all
from vitreous.diagnostics.robustness.cifar10_c import PREFIX, open_cifar10_c
from vitreous.diagnostics.robustness.corruptions import CORRUPTIONS, SEVERITIES, corrupt
from vitreous.diagnostics.robustness.figure import draw_corruptions, draw_shifts
from vitreous.diagnostics.robustness.filters import DIRECTIONS, rotate, translate
from vitreous.diagnostics.robustness.scores import (
    CorruptionScores,
    ShiftScores,
    corruption_scores,
    transform_scores,
)
from vitreous.errors import InputError
from vitreous.files import read_json, write_text
from vitreous.model.classifier import ImageClassifier
from vitreous.model.serialization import WEIGHTS
from vitreous.runs.run_folder import RunFolder
from vitreous.runtime import choose_precision
from vitreous.tasks.evaluation import TrainingStatus, status_to_json

GENERATED = "generated"
MAX_SHIFT = 8
ANGLES = tuple(range(-45, 46, 5))


@dataclass(frozen=True, kw_only=True)
class RobustnessResult(ABC):
    """The images and settings of a measurement, and the files that hold it."""

    data: str
    split: str
    count: int
    """Images."""
    precision: str
    seed: int
    files: tuple[Path, ...] = ()
    """The files written; none unless the images are the run's own test images."""
    larger_measurement: Path | None = None
    """The file of an earlier measurement on more images, which was not overwritten."""
    write_error: str | None = None
    """Why a file could not be written, as one line."""
    status: TrainingStatus | None = None
    """How far the run was trained; None for a model that comes from no run."""

    @property
    @abstractmethod
    def _stem(self) -> str:
        """The name of the files, without its suffix."""

    @abstractmethod
    def _draw(self, path: Path) -> None:
        """Write the figure."""

    def to_json(self) -> dict[str, object]:
        """Return the measurement as one flat dictionary, without the files."""
        names = ("data", "split", "count", "precision", "seed")
        return {**{name: getattr(self, name) for name in names}, **status_to_json(self.status)}

    @check_arguments
    def save(self, folder: str | Path) -> tuple[Path, ...]:
        """Write the JSON into a folder and the figure into its folder figures/, and return both paths."""
        return self._write_json(RunFolder(Path(folder))), self._write_figure(RunFolder(Path(folder)))

    def _write_json(self, folder: RunFolder) -> Path:
        path = folder.path / f"{self._stem}.json"
        write_text(path, json.dumps(self.to_json(), indent=2) + "\n")
        return path

    def _write_figure(self, folder: RunFolder) -> Path:
        path = folder.figures / f"{self._stem}.png"
        self._draw(path)
        return path

    def _saved_in_run(self, folder: RunFolder | None) -> Self:
        """Write the files, unless those in the folder hold more images; return the result with their paths, or with
        the error."""
        if folder is None:
            return self
        path = folder.path / f"{self._stem}.json"
        if _saved_count(path, folder) > self.count:
            return replace(self, larger_measurement=path)
        files: tuple[Path, ...] = ()
        try:
            files = (self._write_json(folder),)
            return replace(self, files=(*files, self._write_figure(folder)))
        except InputError as error:
            return replace(self, files=files, write_error=str(error))


@dataclass(frozen=True, kw_only=True, repr=False)
class CorruptionResult(RobustnessResult):
    """Accuracy under corruptions.

    Attributes:
        corrupted_data: "generated", or the source "cifar10-c:DIR".
    """

    corrupted_data: str
    scores: CorruptionScores

    @property
    def _stem(self) -> str:
        return "corruptions" if self.corrupted_data == GENERATED else "cifar10-c"

    def _draw(self, path: Path) -> None:
        draw_corruptions(self.scores, self.scores.mean.n, path)

    def to_json(self) -> dict[str, object]:
        """Return the measurement as one flat dictionary, without the files."""
        content = {**super().to_json(), "corrupted_data": self.corrupted_data}
        if self.corrupted_data != GENERATED:
            content["mean_corruption_error"] = self.scores.mean_corruption_error
        return {**content, **asdict(self.scores)}

    def __repr__(self) -> str:
        return f"{self.count:,} {self.split} images of {self.data}, accuracy in %\n{self.scores}"


@dataclass(frozen=True, kw_only=True, repr=False)
class ShiftResult(RobustnessResult):
    """Accuracy on shifted and rotated images."""

    scores: ShiftScores

    @property
    def _stem(self) -> str:
        return "shifts"

    def _draw(self, path: Path) -> None:
        draw_shifts(self.scores, self.count, path)

    def to_json(self) -> dict[str, object]:
        """Return the measurement as one flat dictionary, without the files."""
        return {**super().to_json(), **asdict(self.scores)}

    def __repr__(self) -> str:
        return f"{self.count:,} {self.split} images of {self.data}, accuracy in %\n{self.scores}"


@check_arguments
def measure_corruptions(
    model: str | Path | ImageClassifier,
    data: str | None = None,
    *,
    corrupted_data: str = GENERATED,
    split: str = "test",
    count: int | None = None,
    device: str = "auto",
    precision: str = "auto",
    seed: int = 0,
    callback: Callback | None = None,
) -> CorruptionResult:
    """Measure accuracy under the 15 corruptions of CIFAR-10-C at 5 severities each.

    The result for a run's own test images is also written to the run folder: corruptions.json and
    figures/corruptions.png, or cifar10-c.json and figures/cifar10-c.png, unless these hold one of more images.

    Args:
        model: a run folder, a weights file, or a loaded model.
        data: source of the clean images; by default the one that the model was trained on.
        corrupted_data: "generated" corrupts the clean images; "cifar10-c:DIR" takes the published files in a folder,
            whose accuracies can be compared with published ones.
        split: "test", or "validation" while settings are still being chosen.
        count: number of images, spaced evenly; all by default.
        device: "auto", "cpu" or "cuda".
        precision: "fp32" or "bf16"; "auto" is bf16 where the hardware supports it.
        seed: of the generated corruptions.
        callback: receives the progress. If it asks to stop, the result covers the corruptions that are
            complete, at least one.

    Raises:
        InputError: the model or data doesn't exist, or the classes differ.
    """
    if corrupted_data != GENERATED and not corrupted_data.startswith(PREFIX):
        raise InputError(f"there are no corrupted images '{corrupted_data}': name {PREFIX}DIR, or nothing")
    test = open_evaluation_set(model, data, split, device, count)
    precision, is_generated = choose_precision(precision, test.classifier.device), corrupted_data == GENERATED
    classifier = test.classifier
    published = None if is_generated else open_cifar10_c(Path(corrupted_data[len(PREFIX) :]).expanduser(), classifier)
    names = list(CORRUPTIONS if published is None else published.images)
    counter = _PassCounter(test, precision, 1 + len(names) * len(SEVERITIES), callback or Callback())
    clean = counter.correct("clean")
    correct: dict[str, np.ndarray] = {}
    for name in names:
        rows = []
        for severity in SEVERITIES:
            if correct and counter.callback.should_stop():
                break
            message = f"{name} {severity}"
            if published is None:
                rows.append(counter.correct(message, partial(_corrupt, name=name, severity=severity, seed=seed)))
            else:
                rows.append(counter.correct(message, images=published.load(name, severity, classifier, count)))
        if len(rows) < len(SEVERITIES):
            break
        correct[name] = np.stack(rows)
    scores = corruption_scores(clean, correct)
    result = CorruptionResult(
        data=test.source, split=test.split, count=len(test.images), precision=precision, seed=seed, status=test.status,
        corrupted_data=corrupted_data, scores=scores,
    )  # fmt: skip
    return result._saved_in_run(test.results if len(correct) == len(names) else None)


def _corrupt(images_u8: Tensor, first_index: int, *, name: str, severity: int, seed: int) -> Tensor:
    return corrupt(images_u8, name, severity, seed, first_index)


@check_arguments
def measure_shifts(
    model: str | Path | ImageClassifier,
    data: str | None = None,
    *,
    split: str = "test",
    count: int | None = None,
    device: str = "auto",
    precision: str = "auto",
    callback: Callback | None = None,
) -> ShiftResult:
    """Measure accuracy on images shifted by 0 to 8 pixels (mean of four directions) and rotated by up to 45°.

    The border is mirrored. The result for a run's own test images is also written to shifts.json and
    figures/shifts.png in the run folder, unless these hold one of more images.

    Args:
        model: a run folder, a weights file, or a loaded model.
        data: source of the images; by default the one that the model was trained on.
        split: "test", or "validation" while settings are still being chosen.
        count: number of images, spaced evenly; all by default.
        device: "auto", "cpu" or "cuda".
        precision: "fp32" or "bf16"; "auto" is bf16 where the hardware supports it.
        callback: receives the progress. It may stop the measurement between two passes over the images; the result
            then covers the rotations and shifts that are complete, from the smallest on.

    Raises:
        InputError: the model or data doesn't exist, or the classes differ.
    """
    test = open_evaluation_set(model, data, split, device, count)
    precision = choose_precision(precision, test.classifier.device)
    shifts = tuple(range(min(MAX_SHIFT + 1, *test.images.images_u8.shape[-2:])))
    counter = _PassCounter(test, precision, len(DIRECTIONS) * (len(shifts) - 1) + len(ANGLES), callback or Callback())
    rotated = _measure_rotations(counter)
    shifted = [rotated[0].astype(np.float64)]
    for shift in shifts[1:]:
        if (hits := _measure_shift(counter, shift)) is None:
            break
        shifted.append(hits)
    angles = sorted(rotated)
    scores = ShiftScores(
        transform_scores(shifts[: len(shifted)], np.stack(shifted, 1)),
        transform_scores(angles, np.stack([rotated[angle] for angle in angles], 1)),
    )
    result = ShiftResult(
        data=test.source, split=test.split, count=len(test.images), precision=precision, seed=0, status=test.status,
        scores=scores,
    )  # fmt: skip
    is_complete = len(shifted) == len(shifts) and len(rotated) == len(ANGLES)
    return result._saved_in_run(test.results if is_complete else None)


def _measure_rotations(counter: "_PassCounter") -> dict[int, np.ndarray]:
    """Return whether each image is classified correctly, by angle: from 0° on, until the callback stops."""
    rotated: dict[int, np.ndarray] = {}
    for angle in sorted(ANGLES, key=abs):
        if rotated and counter.callback.should_stop():
            break
        rotated[angle] = counter.correct(f"rotation {angle}°", partial(_rotate, angle=angle))
    return rotated


def _measure_shift(counter: "_PassCounter", shift: int) -> np.ndarray | None:
    """Return the fraction of the four directions in which each shifted image is classified correctly; None if the
    callback stops."""
    correct = []
    for down, across in DIRECTIONS:
        if counter.callback.should_stop():
            return None
        move = partial(_translate, down=down * shift, across=across * shift)
        correct.append(counter.correct(f"shift by {shift} pixels", move))
    return np.mean(correct, 0)


def _rotate(images_u8: Tensor, _: int, *, angle: float) -> Tensor:
    return rotate(images_u8, angle)


def _translate(images_u8: Tensor, _: int, *, down: int, across: int) -> Tensor:
    return translate(images_u8, down, across)


class _PassCounter:
    """Runs a model over one set of images after the other, and reports the progress after each pass."""

    def __init__(self, test: EvaluationSet, precision: str, total: int, callback: Callback) -> None:
        self.test, self.precision, self.total, self.callback = test, precision, total, callback
        self.done = 0

    def correct(
        self, message: str, transform: ImageTransform | None = None, images: ImageSet | None = None
    ) -> np.ndarray:
        """Return whether each image, transformed if a transform is given, is classified correctly: bool (images)."""
        images = self.test.images if images is None else images
        correct = predict_all(self.test.classifier, images, self.precision, transform).correct
        self.done += 1
        self.callback.on_progress(Progress(self.done, self.total, f"{message}: {correct.mean():.1%}"))
        return correct


def _saved_count(path: Path, folder: RunFolder) -> int:
    """Return the number of images of a saved measurement; 0 if there is none, or the weights are newer."""
    weights = folder.path / WEIGHTS
    if not path.is_file() or (weights.exists() and weights.stat().st_mtime > path.stat().st_mtime):
        return 0
    return read_json(path).get("count", 0)
