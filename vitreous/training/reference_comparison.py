"""How a run stands against the reference curve of its recipe: told after each validation, drawn as a band."""

import math
from collections.abc import Callable

import numpy as np

from vitreous.files import read_json
from vitreous.render.plots.curves import Band
from vitreous.runs.run_folder import RunFolder
from vitreous.training.recipe import Recipe
from vitreous.training.reference_curve import ReferenceCurve, compare_with_reference, find_curve

Note = Callable[[str], None]


def find_reference(folder: RunFolder, recipe: Recipe, note: Note) -> ReferenceCurve | None:
    """The reference curve that a run can be held against, which is said, or None: no curve, or one of other settings.

    Nothing is said of a run on other data than the reference's: it was never meant to be held against it.

    Raises:
        InputError: the file of the curve is damaged.
    """
    curve = find_curve(recipe.name)
    if curve is None:
        return None
    data = read_json(folder.recipe)["data"]
    if data["source"] != curve.data["source"]:
        return None
    if difference := curve.difference(recipe, data):
        note(f"no reference curve to hold this run against: {recipe.name}'s was measured with {difference}")
        return None
    note(describe_reference(curve, data["fingerprint"]))
    return curve


def describe_reference(curve: ReferenceCurve, fingerprint: str) -> str:
    """Where a reference comes from, in words, and how far other held-out images alone can take a run from it."""
    count = len(curve.seeds)
    runs = f"mean ± standard deviation of {count} seeds" if count > 1 else f"one run, seed {curve.seeds[0]}"
    words = f"reference: {runs}, {curve.date}, {curve.machine}"
    if fingerprint == curve.data["fingerprint"]:
        return words
    final = curve.points[-1].mean
    chance = math.sqrt(final * (1 - final) / curve.data["validation"])
    return f"{words}; on other validation images, which moves a score by ± {100 * chance:.1f} more"


def comparison_callback(curve: ReferenceCurve | None, note: Note) -> Callable[[int, float], None]:
    """What a run is to call after a validation, with its step and its accuracy; silent where nothing was measured."""

    def tell(step: int, top1: float) -> None:
        if curve is not None and (point := curve.at(step)):
            note(compare_with_reference(point, top1))

    return tell


def band(curve: ReferenceCurve | None) -> Band | None:
    """A reference curve as the image of a run draws it."""
    if curve is None:
        return None
    epochs, means, spreads = np.array([(point.epoch, point.mean, point.std or 0) for point in curve.points]).T
    count = len(curve.seeds)
    return Band(
        epochs, means, spreads, f"reference ± standard deviation (n = {count})" if count > 1 else "reference (n = 1)"
    )
