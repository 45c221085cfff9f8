"""The result of a faithfulness measurement."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from vitreous.arguments import check_arguments
from vitreous.diagnostics.faithfulness.report import METRICS, Agreement, MethodReport, summarize_reports
from vitreous.diagnostics.faithfulness.values_file import FaithfulnessSettings
from vitreous.files import write_text

SUMMARY_FILE, FIGURE_FILE = "faithfulness.json", "faithfulness.png"


@dataclass(frozen=True, repr=False)
class FaithfulnessResult:
    """The faithfulness of the maps of several methods, baselines first.

    Attributes:
        unit: What areas and ROAD are means of: the probability of the target; for a model without classes, the score
            of the target over that of the original image.
        skipped: Methods that can't explain this model, with the reason.
        fractions: Fractions of the patches at the points of the insertion and deletion curves.
    """

    settings: FaithfulnessSettings
    unit: Literal["probability", "score"]
    methods: tuple[MethodReport, ...]
    skipped: dict[str, str]
    agreement: tuple[Agreement, ...]
    fractions: tuple[float, ...]
    road_fractions: tuple[float, ...]

    def to_json(self) -> dict[str, object]:
        """Return the result as plain dictionaries."""
        return asdict(self)

    @check_arguments
    def save(self, folder: str | Path) -> tuple[Path, ...]:
        """Write faithfulness.json and faithfulness.png into a folder, and return both paths."""
        from vitreous.diagnostics.faithfulness.figure import draw_faithfulness  # which imports this module

        summary, figure = Path(folder) / SUMMARY_FILE, Path(folder) / FIGURE_FILE
        write_text(summary, json.dumps(self.to_json(), indent=2) + "\n")
        draw_faithfulness(self, figure)
        return summary, figure

    def __repr__(self) -> str:
        """Format a table of the scores, and the conclusion."""
        width = max(len(method.name) for method in self.methods)
        lines = [f"{'':<{width}}  {'  '.join(METRICS)}"]
        for method in self.methods:
            cells = [
                f"{method.scores[name].value:>{len(name)}.3f}" if name in method.scores else f"{'-':>{len(name)}}"
                for name in METRICS
            ]
            lines.append(f"{method.name:<{width}}  {'  '.join(cells)}")
        return "\n".join([*lines, summarize_reports(self.methods)])
