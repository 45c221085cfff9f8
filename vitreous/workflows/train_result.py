"""What `train` returns: where the run is, how far it is, and how good."""

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from vitreous.model.classifier import ImageClassifier
from vitreous.pretrained.load import load
from vitreous.tasks.task import TaskMetric


@dataclass(frozen=True, repr=False)
class TrainResult:
    """The state of a run when `train` returns.

    Attributes:
        path: The run folder.
        finished: False if the callback stopped the run; everything is saved, and `resume=True` continues it.
        metric: What is measured besides the loss, such as top-1.
        validation_score: The metric of the last validation, or under early stopping of the best; None without
            validation images.
    """

    path: Path
    finished: bool
    step: int
    steps: int
    metric: TaskMetric
    validation_score: float | None
    device: str = field(default="auto", compare=False)

    @cached_property
    def model(self) -> ImageClassifier:
        """The trained model, loaded from the run folder when it is first used."""
        return load(self.path, self.device)

    def to_json(self) -> dict[str, object]:
        """Return the state as a plain dictionary."""
        names = ("finished", "step", "steps", "validation_score")
        values = {name: getattr(self, name) for name in names}
        return {"path": str(self.path), **values, "metric": self.metric.name}

    def __repr__(self) -> str:
        state = "finished" if self.finished else f"stopped after step {self.step:,} of {self.steps:,}"
        score, metric = self.validation_score, self.metric
        scores = "" if score is None else f", validation {metric.label} {metric.format(score, 2)}"
        return f"TrainResult({self.path}: {state}{scores})"
