"""A faithfulness measurement as a figure: which curves and scores are drawn, and the words around them."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vitreous.diagnostics.faithfulness.plot import Dot, Panel, Row, Words, faithfulness_figure
from vitreous.diagnostics.faithfulness.report import MEASURES, UNCHANGED, MethodReport, verdict

if TYPE_CHECKING:
    from vitreous.diagnostics.faithfulness.run import Faithfulness

PANELS = {
    "insertion": ("insertion, most relevant first", "% of patches added to a blur"),
    "deletion": ("deletion, most relevant first", "% of patches made gray"),
    "road-most": ("ROAD, most relevant first", "% of patches imputed"),
    "road-least": ("ROAD, least relevant first", "% of patches imputed"),
}
BETTER = {"higher": "higher is better", "lower": "lower is better"}
COLUMNS = {
    "insertion": "insertion",
    "deletion": "deletion",
    "road-most": "ROAD most",
    "road-least": "ROAD least",
    "sensitivity": "sensitivity",
    "randomized-head": "head random",
    "randomized-all": "all random",
}


def draw(result: "Faithfulness", path: Path) -> None:
    """Write the figure of a measurement; methods first, baselines at the foot."""
    order = [*(m for m in result.methods if not m.baseline), *(m for m in result.methods if m.baseline)]
    rows = [_row(method) for method in order]
    shares = np.array(result.shares), np.array(result.road_shares)
    panels = [
        Panel(title, BETTER[MEASURES[name].direction], across, shares[name.startswith("road")])
        for name, (title, across) in PANELS.items()
    ]
    columns = [
        (COLUMNS[name], "← " + BETTER["lower"] if measure.direction == "lower" else BETTER["higher"] + " →")
        for name, measure in MEASURES.items()
    ]
    asked = result.asked
    subtitle = (
        f"{asked['data']} · {asked['count']} {asked['split']} images · "
        f"{'probability' if result.unit == 'probability' else 'score'} of the {_target(result)}"
    )
    words = Words("Can these maps be believed?", subtitle, columns, _notes(result))
    faithfulness_figure(rows, panels, _matrix(result, [method.name for method in order]), words, path)


def _row(method: MethodReport) -> Row:
    curves = [
        np.array(method.curves[name] if name in method.curves else [score.value for score in method.shares[name]])
        for name in PANELS
    ]
    dots = [
        Dot(score.value, score.low, score.high, name in method.not_better)
        if (score := method.scores.get(name))
        else None
        for name in MEASURES
    ]
    return Row(method.name, method.baseline, curves, dots)


def _matrix(result: "Faithfulness", names: list[str]) -> np.ndarray:
    """The agreements as a symmetric matrix (names, names)."""
    matrix = np.eye(len(names))
    for pair in result.agreement:
        row, column = names.index(pair.first), names.index(pair.second)
        matrix[row, column] = matrix[column, row] = pair.value
    return matrix


def _target(result: "Faithfulness") -> str:
    if result.unit == "score":
        return "image's own features"
    return "true class" if result.asked["target"] == "true" else "predicted class"


def _notes(result: "Faithfulness") -> list[str]:
    unit = "probability" if result.unit == "probability" else "score over the whole image's"
    unchanged = [method.name for method in result.methods if method.unchanged]
    notes = [
        "A hollow mark: not better than the random map or than the centerd blob (95 % interval of the paired "
        "difference). Gray lines are these two baselines.",
        f"Insertion and deletion are areas under the mean {unit}, ROAD is its mean over the shares removed; none is "
        "normalized further. Sensitivity is a correlation.",
        "Head random, all random: rank correlation with the map of the same model with its head's or all its weights "
        "drawn by lot. Near 1 the map does not show what was learned; for the head, that is by design where a map is "
        "the same for every class.",
    ]
    notes.insert(0, verdict(result.methods))
    if unchanged:
        notes.append(f"Hardly changed by random weights (above {UNCHANGED:g}): {', '.join(unchanged)}.")
    return notes
