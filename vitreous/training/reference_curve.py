"""Reference curves: the validation scores of earlier runs of a recipe, with which a new run is compared.

The curve of a recipe is stored in training_recipes/curves/NAME.json. Its points are the first metric of the task on
validation images, measured in the same way as in the run that is compared.
benchmarks/reference_curve.py makes a curve from runs.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import reduce
from pathlib import Path
from statistics import mean, stdev

from vitreous.errors import InputError
from vitreous.files import read_json, write_text
from vitreous.records import from_json, setting_names, to_dict
from vitreous.runs.migration import migrate_run_metadata
from vitreous.runs.run_folder import RunFolder, read_metadata, read_metrics
from vitreous.tasks.registry import find_task
from vitreous.tasks.task import TaskMetric
from vitreous.training.provenance import RESUMABLE_SETTINGS, DataDescription, read_data
from vitreous.training.recipe import Recipe

CURVES = Path(__file__).parents[1] / "training_recipes" / "curves"
IGNORED_SETTINGS = frozenset(
    ("seed", "data", "precision", "validate_every_epochs", "validation_by_class", *RESUMABLE_SETTINGS)
)
"""Settings that may differ from the reference's. The data are compared by their source and their numbers of images."""
MOST_NAMED = 3
"""How many of the differing settings a message names."""


@dataclass(frozen=True)
class CurvePoint:
    """The validation score after `step` steps: mean and standard deviation over the runs."""

    step: int
    epoch: float
    mean: float
    std: float | None
    """None for a single run."""


@dataclass(frozen=True)
class ReferenceCurve:
    """The validation scores of `len(seeds)` runs of one recipe, and where they were measured."""

    recipe: Recipe
    data: DataDescription
    command: str
    machine: str
    torch: str
    date: str
    """The day of the last run, "2026-11-21"."""
    seeds: tuple[int, ...]
    points: tuple[CurvePoint, ...]

    def at(self, step: int) -> CurvePoint | None:
        """Return the point at a step, or None if the reference was not measured there."""
        return next((point for point in self.points if point.step == step), None)

    def difference(self, recipe: Recipe, data: DataDescription) -> str | None:
        """Describe in which settings or numbers of images a run on the same data differs from the reference."""
        names = [name for name in setting_names(self.recipe) if name not in IGNORED_SETTINGS]
        pairs = [(name, _get_setting(self.recipe, name), _get_setting(recipe, name)) for name in names]
        pairs += [("training images", self.data.training, data.training)]
        pairs += [("validation images", self.data.validation, data.validation)]
        different = [
            f"{name} {format_setting(theirs)}, not {format_setting(ours)}"
            for name, theirs, ours in pairs
            if theirs != ours
        ]
        more = f" and {len(different) - MOST_NAMED} more" if len(different) > MOST_NAMED else ""
        return "; ".join(different[:MOST_NAMED]) + more if different else None


def find_curve(name: str) -> ReferenceCurve | None:
    """Read the reference curve that is stored with a recipe; None if it has none.

    Raises:
        InputError: its file is corrupt.
    """
    path = CURVES / f"{name}.json"
    if not path.is_file():
        return None
    values = migrate_run_metadata(read_json(path))
    return from_json(ReferenceCurve, values, str(path))


def compare_with_reference(point: CurvePoint, score: float, metric: TaskMetric) -> str:
    """Compare the score of a run with a point of the reference, in one line.

    >>> top1, distance = TaskMetric("top1", "top-1", "accuracy"), TaskMetric("d", "d", "distance", is_fraction=False)
    >>> point = CurvePoint(step=742, epoch=3.999, mean=0.72, std=0.004)
    >>> compare_with_reference(point, 0.712, top1)
    'epoch 4: 71.2 %, reference 72.0 ± 0.4'
    >>> compare_with_reference(point, 0.712, distance)
    'epoch 4: 0.712, reference 0.72 ± 0.004'
    """
    unit, form, percent = (100, ".1f", " %") if metric.is_fraction else (1, ".4g", "")
    epoch = f"{point.epoch:.1f}".removesuffix(".0")
    spread = " (one run)" if point.std is None else f" ± {unit * point.std:{form}}"
    return f"epoch {epoch}: {unit * score:{form}}{percent}, reference {unit * point.mean:{form}}{spread}"


def _get_setting(recipe: Recipe, name: str) -> object:
    """Return the value of a setting by its name with dots."""
    return reduce(getattr, name.split("."), recipe)


def format_setting(value: object) -> str:
    """Format a setting's value in short: 4 for 4.0."""
    return f"{value:g}" if isinstance(value, float) else str(value)


def measure_curve(runs: Sequence[Path | str], machine: str | None = None) -> ReferenceCurve:
    """Make the reference curve of finished runs of one recipe that differ in the seed only.

    Args:
        runs: run folders; a single one has no spread.
        machine: the hardware of the runs; by default what their recipe.json says.

    Raises:
        InputError: a folder is not a finished run, or the runs can't be averaged.
    """
    metadata = [read_metadata(RunFolder(Path(run))) for run in runs]
    recipes = [from_json(Recipe, one["recipe"], str(run)) for run, one in zip(runs, metadata, strict=True)]
    first, data = recipes[0], metadata[0]["data"]
    for run, recipe, one in zip(runs, recipes, metadata, strict=True):
        others = one["data"]
        if replace(recipe, seed=first.seed) != first or any(
            others.get(name, data[name]) != data[name] for name in data
        ):
            raise InputError(f"{run} and {runs[0]} differ in more than the seed: give runs of one recipe and data set")
    seeds = tuple(recipe.seed for recipe in recipes)
    if len(set(seeds)) < len(seeds):
        raise InputError(f"the runs have the seeds {', '.join(map(str, seeds))}: give runs of different seeds")
    return ReferenceCurve(
        recipe=first,
        data=read_data(metadata[0]),
        command=f"vitreous train {first.name} --output RUN --seed SEED",
        machine=machine or metadata[0]["device"],
        torch=metadata[0]["torch"],
        date=date_of(runs),
        seeds=seeds,
        points=average_points(runs, first, data["training"]),
    )


def average_points(runs: Sequence[Path | str], recipe: Recipe, images: int) -> tuple[CurvePoint, ...]:
    """Average the validation scores of the runs, which all validated at the same steps."""
    curves, metric = [], find_task(recipe.task).metric.name
    for run in runs:
        lines = [line for line in read_metrics(RunFolder(Path(run))) if line["split"] == "validation"]
        if not lines or lines[-1]["step"] != recipe.steps(images):
            raise InputError(f"{run} isn't finished, or has no validation: resume it first")
        curves.append({line["step"]: (line["epoch"], line[metric]) for line in lines})
    points = []
    for step, (epoch, _) in curves[0].items():
        values = [curve[step][1] for curve in curves]
        std = round(stdev(values), 6) if len(values) > 1 else None
        points.append(CurvePoint(step, epoch, round(mean(values), 6), std))
    return tuple(points)


def date_of(runs: Sequence[Path | str]) -> str:
    """Return the day on which the last of the runs ended."""
    last = max(RunFolder(Path(run)).metrics.stat().st_mtime for run in runs)
    return datetime.fromtimestamp(last, UTC).date().isoformat()


def store_curve(curve: ReferenceCurve) -> Path:
    """Write a curve to the file where `find_curve` looks for it, and return its path."""
    path = CURVES / f"{curve.recipe.name}.json"
    write_text(path, json.dumps(to_dict(curve), indent=2) + "\n")
    return path
