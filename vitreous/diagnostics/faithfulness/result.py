"""The result of a faithfulness measurement."""

from dataclasses import dataclass
from typing import Literal

from vitreous.diagnostics.faithfulness.report import METRICS, Agreement, MethodReport, summarize_reports
from vitreous.diagnostics.faithfulness.values_file import Settings


@dataclass(frozen=True)
class FaithfulnessResult:
    """The faithfulness of the maps of several methods, baselines first."""

    settings: Settings
    """Data, split, count, target and seed, and fingerprints of the weights and the images."""
    unit: Literal["probability", "score"]
    """What areas and ROAD are means of: the probability of the target; for a model without classes, the score of the
    target over that of the original image."""
    methods: tuple[MethodReport, ...]
    skipped: dict[str, str]
    """Methods that can't explain this model, with the reason."""
    agreement: tuple[Agreement, ...]
    fractions: tuple[float, ...]
    """Fractions of the patches at the points of the insertion and deletion curves."""
    road_fractions: tuple[float, ...]

    def __str__(self) -> str:
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
