"""Comparison of a run with the reference curve of its recipe: which curve fits, where it is from, and how to draw
it."""

import math
from collections.abc import Callable

import numpy as np

from vitreous.render.plots.curves import ReferenceBand
from vitreous.runs.run_folder import RunFolder, read_metadata
from vitreous.tasks.registry import find_task
from vitreous.training.provenance import read_data
from vitreous.training.recipe import Recipe
from vitreous.training.reference_curve import ReferenceCurve, find_curve


def find_reference(folder: RunFolder, recipe: Recipe, on_note: Callable[[str], None]) -> ReferenceCurve | None:
    """Find the reference curve for a run, and report it; None if there is none, or one with other settings.

    Nothing is reported for a run on another data source than the reference's: the two can't be compared.

    Raises:
        InputError: the file of the curve is corrupt.
    """
    curve = find_curve(recipe.name)
    if curve is None:
        return None
    data = read_data(read_metadata(folder))
    if data.source != curve.data.source:
        return None
    if difference := curve.difference(recipe, data):
        curve_name = f"the reference curve of {recipe.name}"
        on_note(f"this run isn't compared with {curve_name}, which was measured with {difference}")
        return None
    on_note(describe_reference(curve, data.fingerprint))
    return curve


def describe_reference(curve: ReferenceCurve, fingerprint: str) -> str:
    """Describe where a reference comes from, and how far other validation images alone can move a run from it."""
    count = len(curve.seeds)
    runs = f"mean ± standard deviation of {count} seeds" if count > 1 else f"one run, seed {curve.seeds[0]}"
    description = f"reference: {runs}, {curve.date}, {curve.machine}"
    if fingerprint == curve.data.fingerprint:
        return description
    if not find_task(curve.recipe.task).metric.is_fraction:
        return f"{description}; on other validation images"
    final = curve.points[-1].mean
    deviation = math.sqrt(final * (1 - final) / curve.data.validation)
    return f"{description}; on other validation images, which changes an accuracy by ± {100 * deviation:.1f} more"


def reference_band(curve: ReferenceCurve | None) -> ReferenceBand | None:
    """Return a reference curve as the plot of a run's curves draws it."""
    if curve is None:
        return None
    epochs, means, stds = np.array([(point.epoch, point.mean, point.std or 0) for point in curve.points]).T
    count = len(curve.seeds)
    label = f"reference ± standard deviation (n = {count})" if count > 1 else "reference (n = 1)"
    return ReferenceBand(epochs, means, stds, label)
