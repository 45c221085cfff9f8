"""What an evaluation of any task has in common: its data, its files, and its metrics with intervals."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from vitreous.arguments import check_arguments
from vitreous.evaluation.intervals import Interval
from vitreous.files import write_text


@dataclass(frozen=True)
class TrainingStatus:
    """How many steps a run has taken, out of all.

    Attributes:
        step: The last step that it has taken.
        steps: Of the whole run.
        stopped_early: Whether it ended there by `early_stopping_epochs`; the weights are those of the best validation.
    """

    step: int
    steps: int
    stopped_early: bool = False

    @property
    def message(self) -> str | None:
        """A warning about an unfinished run; None for a finished one."""
        if self.step >= self.steps or self.stopped_early:
            return None
        return f"unfinished: step {self.step:,} of {self.steps:,}"


def status_to_json(status: TrainingStatus | None) -> dict[str, int]:
    """Convert a status to the JSON keys "step" and "steps", and "stopped_early" if it did; to none if it is unknown."""
    return {} if status is None else {name: value for name, value in asdict(status).items() if value is not False}


@dataclass(frozen=True)
class MetricValue:
    """The value of a metric and its 95 % confidence interval."""

    value: float
    interval: Interval


@dataclass(frozen=True, kw_only=True, repr=False)
class Evaluation:
    """The metrics of a model, the data they were measured on, and the files that hold them.

    Each task adds the fields of its own report.

    Attributes:
        files: The files written, evaluation.json first; none unless the images are the run's own test images.
        write_error: Why a file could not be written, as one line.
        status: How far the run was trained; None for a model that comes from no run.
        weights: Fingerprint of the weights and the preprocessing that were measured.
    """

    data: str = ""
    split: str = ""
    weights: str = ""
    files: tuple[Path, ...] = ()
    write_error: str | None = None
    status: TrainingStatus | None = None

    @property
    def metrics(self) -> Mapping[str, MetricValue]:
        """The metrics of the task and the loss, by the names that they have in metrics.jsonl."""
        raise NotImplementedError

    def to_json(self) -> dict[str, object]:
        """Return the evaluation as plain dictionaries, without the files."""
        content = {"data": self.data, "split": self.split, **status_to_json(self.status), **asdict(self)}
        return {key: value for key, value in content.items() if key not in ("files", "write_error", "status")}

    @check_arguments
    def save(self, folder: str | Path) -> tuple[Path, ...]:
        """Write evaluation.json into a folder, and return its path."""
        path = Path(folder) / "evaluation.json"
        write_text(path, json.dumps(self.to_json(), indent=2) + "\n")
        return (path,)

    def summary(self) -> str:
        """Format the metrics, one per line."""
        rows = [(name, one.value, *one.interval) for name, one in self.metrics.items()]
        return "\n".join(f"{name:<6} {value:.4f}  ({low:.4f} to {high:.4f})" for name, value, low, high in rows)

    def __str__(self) -> str:
        return f"{self.split} split of {self.data}: {self.summary()}"

    def __repr__(self) -> str:
        return str(self)
