"""Measure a model on images made worse, shifted and turned."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np

from vitreous.diagnostics.predictions import ImageTransform, predict_all
from vitreous.diagnostics.robustness.corruptions import KINDS, STRENGTHS, corrupt
from vitreous.diagnostics.robustness.figure import CurvePanel, Heat, corruption_figure, curve_figure
from vitreous.diagnostics.robustness.filters import DIRECTIONS, rotated, shifted
from vitreous.diagnostics.robustness.scores import (
    ChangePoint,
    CorruptionScores,
    ShiftScores,
    change_points,
    corruption_scores,
)
from vitreous.diagnostics.test_set import TestSet, TrainingStatus, open_test_set, told
from vitreous.errors import InputError
from vitreous.files import read_json, write_text
from vitreous.model.classifier import ImageClassifier
from vitreous.model.serialization import WEIGHTS
from vitreous.runs.run_folder import RunFolder
from vitreous.runtime import choose_precision

FARTHEST_SHIFT = 8
ANGLES = tuple(range(-45, 46, 5))

Listener = Callable[[int, int, str], object]
"""Told how many passes are done, of how many, and what was measured last."""


@dataclass(frozen=True)
class Measured:
    """Where robustness was measured, and the files written: none if these aren't a run's own test images."""

    data: str
    split: str
    count: int
    precision: str
    seed: int
    files: tuple[Path, ...]
    stays: Path | None = None
    """The file of an earlier measurement on more images, which a smaller sample doesn't replace."""
    not_kept: str | None = None
    """What couldn't be written, and why, in one line."""
    reached: TrainingStatus | None = None
    """Where the run was; None for a model that is no run folder."""


@dataclass(frozen=True)
class CorruptionResult:
    """Accuracy under corruption, and where it was measured."""

    measured: Measured
    scores: CorruptionScores


@dataclass(frozen=True)
class ShiftResult:
    """Accuracy on shifted and turned images, and where it was measured."""

    measured: Measured
    scores: ShiftScores


Result = TypeVar("Result", CorruptionResult, ShiftResult)


@dataclass(frozen=True)
class Sample:
    """Which images to take: of which source (the run's own by default), which split, how many (all by default)."""

    data: str | None = None
    split: str = "test"
    count: int | None = None
    device: str = "auto"
    precision: str = "auto"
    """ "auto" is bf16 where the hardware has it: the passes are many, and accuracy hardly depends on it."""
    seed: int = 0


def measure_corruptions(
    model: str | Path | ImageClassifier, sample: Sample | None = None, on_progress: Listener = lambda *words: None
) -> CorruptionResult:
    """Accuracy on 15 kinds of corruption at 5 strengths, in the manner of CIFAR-10-C; the same for the same seed.

    Of a run's own test images it is also written to corruptions.json and figures/corruptions.png, if these aren't of
    more images already.

    Raises:
        InputError: no such model or data, or classes that don't match.
    """
    sample = sample or Sample()
    exam, precision = _prepared(model, sample)
    measured = _measured(exam, precision, sample, "corruptions")
    passes = Passes(exam, precision, 1 + len(KINDS) * len(STRENGTHS), on_progress)
    clean = passes.right("as they are", lambda images_u8, first: images_u8)
    rights = {
        kind: np.stack(
            [passes.right(f"{kind} {strength}", _worse(kind, strength, sample.seed)) for strength in STRENGTHS]
        )
        for kind in KINDS
    }
    scores = corruption_scores(clean, rights)
    heats = [
        Heat(one.kind, KINDS[one.kind].group, tuple(each.value for each in one.strengths), one.mean.value)
        for one in scores.kinds
    ]
    return _kept(
        CorruptionResult(measured, scores),
        lambda path: corruption_figure(heats, scores.clean.value, _title(scores, exam), path),
    )


def measure_shifts(
    model: str | Path | ImageClassifier, sample: Sample | None = None, on_progress: Listener = lambda *words: None
) -> ShiftResult:
    """Accuracy on images moved by 0 to 8 pixels (mean of four directions) and turned by up to 45° either way.

    What comes in at the border is mirrored. Of a run's own test images it is also written to shifts.json and
    figures/shifts.png, if these aren't of more images already.

    Raises:
        InputError: no such model or data, or classes that don't match.
    """
    sample = sample or Sample()
    exam, precision = _prepared(model, sample)
    measured = _measured(exam, precision, sample, "shifts")
    shifts = tuple(range(min(FARTHEST_SHIFT + 1, *exam.images.images_u8.shape[-2:])))
    passes = Passes(exam, precision, len(DIRECTIONS) * (len(shifts) - 1) + len(ANGLES), on_progress)
    turned = [passes.right(f"turned {angle}°", lambda u8, _, angle=angle: rotated(u8, angle)) for angle in ANGLES]
    moved = [turned[ANGLES.index(0)].astype(np.float64)]
    for shift in shifts[1:]:
        changes = [lambda u8, _, y=y * shift, x=x * shift: shifted(u8, y, x) for y, x in DIRECTIONS]
        moved.append(np.mean([passes.right(f"moved {shift} pixels", change) for change in changes], 0))
    scores = ShiftScores(change_points(shifts, np.stack(moved, 1)), change_points(ANGLES, np.stack(turned, 1)))
    panels = [_panel("moved, in pixels", scores.shifts), _panel("turned, in degrees", scores.rotations)]
    title = f"Does it follow?  accuracy on {len(exam.images):,} images, with 95 % intervals"
    return _kept(ShiftResult(measured, scores), lambda path: curve_figure(panels, title, path))


def _kept(result: Result, draw: Callable[[Path], object]) -> Result:
    """The result, written where its files are to be; if that can't be done, with what hindered it."""
    written: tuple[Path, ...] = ()
    try:
        if result.measured.files:
            values, figure = result.measured.files
            write_text(values, json.dumps(as_json(result), indent=2) + "\n")
            written = (values,)
            draw(figure)
    except InputError as error:
        return replace(result, measured=replace(result.measured, files=written, not_kept=str(error)))
    return result


class Passes:
    """Passes of a model over the same images, each changed in another way, with progress told after each."""

    def __init__(self, exam: TestSet, precision: str, count: int, on_progress: Listener) -> None:
        self.exam, self.precision, self.count, self.on_progress = exam, precision, count, on_progress
        self.done = 0

    def right(self, words: str, change: ImageTransform) -> np.ndarray:
        """Which images are told right when they are changed so: bool (images)."""
        right = predict_all(self.exam.classifier, self.exam.images, self.precision, change).correct
        self.done += 1
        self.on_progress(self.done, self.count, f"{words}: {right.mean():.1%}")
        return right


def as_json(result: CorruptionResult | ShiftResult) -> dict:
    """A result as one flat JSON object, without the files."""
    measured = asdict(result.measured)
    del measured["files"], measured["stays"], measured["not_kept"], measured["reached"]
    return {**measured, **told(result.measured.reached), **asdict(result.scores)}


def _prepared(model: str | Path | ImageClassifier, sample: Sample) -> tuple[TestSet, str]:
    exam = open_test_set(model, sample.data, sample.split, sample.device, sample.count)
    return exam, choose_precision(sample.precision, exam.classifier.device)


def _measured(exam: TestSet, precision: str, sample: Sample, name: str) -> Measured:
    measured = Measured(exam.source, exam.split, len(exam.images), precision, sample.seed, (), reached=exam.reached)
    if exam.folder is None:
        return measured
    path = exam.folder.path / f"{name}.json"
    if _count_in(path, exam.folder) > measured.count:
        return replace(measured, stays=path)
    return replace(measured, files=(path, exam.folder.figures / f"{name}.png"))


def _count_in(path: Path, folder: RunFolder) -> int:
    """Of how many images a measurement is that was written earlier; 0 if there is none of the weights as they are."""
    weights = folder.path / WEIGHTS
    if not path.is_file() or (weights.exists() and weights.stat().st_mtime > path.stat().st_mtime):
        return 0
    return read_json(path).get("count", 0)


def _worse(kind: str, strength: int, seed: int) -> ImageTransform:
    return lambda images_u8, first: corrupt(images_u8, kind, strength, seed, first)


def _title(scores: CorruptionScores, exam: TestSet) -> str:
    mean = scores.mean
    interval = f"95 %: {100 * mean.low:.1f} to {100 * mean.high:.1f}"
    return f"{mean.value:.1%} right on corrupted images ({interval}), {len(exam.images):,} images"


def _panel(title: str, several: tuple[ChangePoint, ...]) -> CurvePanel:
    rows = [(one.amount, one.accuracy.value, one.accuracy.low, one.accuracy.high) for one in several]
    return CurvePanel(title, np.array(rows))
