"""Reference curves: how the accuracy of a recipe's runs grew when they were measured, to hold a new run against.

A curve lies beside the recipes, in curves/NAME.json. Its points are validation accuracies, as a run itself measures
them, so that like is held against like. benchmarks/reference_curve.py makes it from runs.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from vitreous.errors import InputError
from vitreous.files import read_json, write_text
from vitreous.records import from_dict, setting_names, to_dict
from vitreous.runs.run_folder import RunFolder, read_metrics
from vitreous.training.recipe import Recipe

CURVES = Path(__file__).parent / "curves"
IGNORED_SETTINGS = frozenset(
    (
        "seed", "data", "precision", "validate_every_epochs", "checkpoint_seconds", "accumulate",
        "checkpoint_activations", "shard_weights", "tensorboard",
    )
)  # fmt: skip
"""Settings that may differ from the reference's; the data are compared by name and by their numbers of images."""
NAMED = 3  # of the settings that differ, how many are named


@dataclass(frozen=True)
class CurvePoint:
    """Validation accuracy after `step` steps: mean and standard deviation over the runs, between 0 and 1."""

    step: int
    epoch: float
    mean: float
    std: float | None
    """None where there is one run alone."""


@dataclass(frozen=True)
class ReferenceCurve:
    """The validation accuracy of `len(seeds)` runs of one recipe, one or more, and where it was measured."""

    recipe: Recipe
    data: dict[str, Any]
    """As in recipe.json: `source`, `fingerprint`, and the numbers of `training` and `validation` images."""
    command: str
    machine: str
    torch: str
    date: str
    """The day of the last run, "2026-11-21"."""
    seeds: tuple[int, ...]
    points: tuple[CurvePoint, ...]

    def at(self, step: int) -> CurvePoint | None:
        """The point of a step; None where the reference was not measured."""
        return next((point for point in self.points if point.step == step), None)

    def difference(self, recipe: Recipe, data: Mapping[str, Any]) -> str | None:
        """In which settings or numbers of images a run on the same data differs from the reference, in words."""
        names = [name for name in setting_names(self.recipe) if name not in IGNORED_SETTINGS]
        pairs = [(name, get_setting(self.recipe, name), get_setting(recipe, name)) for name in names]
        pairs += [(f"{part} images", self.data[part], data[part]) for part in ("training", "validation")]
        different = [
            f"{name} {format_setting(theirs)}, not {format_setting(ours)}"
            for name, theirs, ours in pairs
            if theirs != ours
        ]
        more = f" and {len(different) - NAMED} more" if len(different) > NAMED else ""
        return "; ".join(different[:NAMED]) + more if different else None


def find_curve(name: str) -> ReferenceCurve | None:
    """The reference curve stored with a recipe, or None where it has none.

    Raises:
        InputError: its file is damaged.
    """
    path = CURVES / f"{name}.json"
    return from_dict(ReferenceCurve, read_json(path), str(path)) if path.is_file() else None


def compare_with_reference(point: CurvePoint, top1: float) -> str:
    """How a run stands at a point of the reference, in words.

    >>> standing(Point(step=742, epoch=3.999, mean=0.72, std=0.004), 0.712)
    'epoch 4: 71.2 %, reference 72.0 ± 0.4'
    """
    epoch = f"{point.epoch:.1f}".removesuffix(".0")
    spread = " (one run)" if point.std is None else f" ± {100 * point.std:.1f}"
    return f"epoch {epoch}: {100 * top1:.1f} %, reference {100 * point.mean:.1f}{spread}"


def format_setting(value: Any) -> str:
    """A setting's value, short: 4 for 4.0."""
    return f"{value:g}" if isinstance(value, float) else str(value)


def get_setting(record: Any, name: str) -> Any:
    """The value of a setting by its name with dots."""
    for part in name.split("."):
        record = getattr(record, part)
    return record


def measure_curve(runs: Sequence[Path | str], machine: str | None = None) -> ReferenceCurve:
    """The reference curve of finished runs of one recipe, on one machine, that differ in nothing but the seed.

    Args:
        runs: run folders; one alone has no spread.
        machine: what the runs were made on; by default what their recipe.json says.

    Raises:
        InputError: a folder is no finished run, or the runs can't be averaged.
    """
    headers = [read_json(RunFolder(Path(run)).recipe) for run in runs]
    recipes = [from_dict(Recipe, header["recipe"], str(run)) for run, header in zip(runs, headers, strict=True)]
    first, data = recipes[0], headers[0]["data"]
    for run, recipe, header in zip(runs, recipes, headers, strict=True):
        others = header["data"]
        if replace(recipe, seed=first.seed) != first or any(
            others.get(name, data[name]) != data[name] for name in data
        ):
            raise InputError(f"{run} and {runs[0]} differ in more than the seed: give runs of one recipe and one data")
    seeds = tuple(recipe.seed for recipe in recipes)
    if len(set(seeds)) < len(seeds):
        raise InputError(f"the runs have the seeds {', '.join(map(str, seeds))}: give each another one")
    return ReferenceCurve(
        first, data, f"vitreous train {first.name} --out RUN --set seed=SEED", machine or headers[0]["device"],
        headers[0]["torch"], date_of(runs), seeds, average_points(runs, first, data["training"]),
    )  # fmt: skip


def average_points(runs: Sequence[Path | str], recipe: Recipe, images: int) -> tuple[CurvePoint, ...]:
    """Mean and standard deviation of the runs' validation accuracies, which all have at the same steps."""
    curves = []
    for run in runs:
        lines = [line for line in read_metrics(RunFolder(Path(run))) if line["split"] == "validation"]
        if not lines or lines[-1]["step"] != recipe.steps(images):
            raise InputError(f"{run} isn't finished, or without validation: go on with it by --resume first")
        curves.append({line["step"]: (line["epoch"], line["top1"]) for line in lines})
    points = []
    for step, (epoch, _) in curves[0].items():
        scores = [curve[step][1] for curve in curves]
        points.append(
            CurvePoint(step, epoch, round(mean(scores), 6), round(stdev(scores), 6) if len(scores) > 1 else None)
        )
    return tuple(points)


def date_of(runs: Sequence[Path | str]) -> str:
    """The day on which the last of the runs ended."""
    last = max(RunFolder(Path(run)).metrics.stat().st_mtime for run in runs)
    return datetime.fromtimestamp(last, UTC).date().isoformat()


def store_curve(curve: ReferenceCurve) -> Path:
    """Write a curve where `find_curve` looks for it; the file's path."""
    path = CURVES / f"{curve.recipe.name}.json"
    write_text(path, json.dumps(to_dict(curve), indent=2) + "\n")
    return path
