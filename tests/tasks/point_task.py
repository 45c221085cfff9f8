"""A task that exists in tests only: where the object's center is, from the boxes of `shapes`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vitreous.data.batch import Batch
from vitreous.data.image_set import ImageSet
from vitreous.errors import InputError
from vitreous.model.classifier import ImageClassifier
from vitreous.model.prediction import Prediction
from vitreous.tasks.classification.targets import ClassTarget
from vitreous.tasks.evaluation import Evaluation, MetricValue
from vitreous.tasks.targets import Target
from vitreous.tasks.task import Outputs, OutputSpec, Task, TaskMetric

NAMES = ("y", "x")


@dataclass(frozen=True, repr=False)
class PointPrediction(Prediction):
    """A point, drawn as a magenta square."""

    def caption(self) -> str:
        """Return the point as fractions of height and width."""
        values = dict(self.scores)
        return f"at {values['y']:.2f}, {values['x']:.2f}"

    def draw(self, image_u8: np.ndarray) -> np.ndarray:
        """Mark the point."""
        values, drawn = dict(self.scores), image_u8.copy()
        row, column = (int(np.clip(values[n], 0, 0.99) * side) for n, side in zip(NAMES, image_u8.shape, strict=False))
        drawn[max(0, row - 1) : row + 2, max(0, column - 1) : column + 2] = (255, 0, 255)
        return drawn


class PointModel(ImageClassifier):
    """A model whose outputs are y and x."""

    task = "point"

    def postprocess(self, logits: Tensor) -> list[Prediction]:
        """Turn outputs (batch, 2) into points."""
        return [PointPrediction(tuple(zip(NAMES, row, strict=True)), "regression") for row in logits.tolist()]


def centers(boxes: Tensor, size_hw: Sequence[int]) -> Tensor:
    """Return the centers of boxes (batch, 4) as fractions of height and width: (batch, 2)."""
    return (boxes[:, :2] + boxes[:, 2:]).float() / 2 / torch.tensor(size_hw, device=boxes.device)


class PointLoss:
    """The mean squared distance."""

    def __call__(self, outputs: Tensor, batch: Batch) -> Tensor:
        return (outputs.float() - self.truth(batch)).square().sum(1).mean()

    def weight(self, batch: Batch) -> float:
        return len(batch)

    def score(self, outputs: Tensor, batch: Batch) -> Tensor:
        return (outputs.float() - self.truth(batch)).norm(dim=1).sum()

    def truth(self, batch: Batch) -> Tensor:
        assert batch.boxes is not None
        return centers(batch.boxes, batch.images.shape[2:])

    def distill(
        self, outputs: Tensor, teacher_outputs: Tensor, batch: Batch, temperature: float
    ) -> tuple[Tensor, Tensor]:
        raise AssertionError("this task can't be distilled")


@dataclass(frozen=True, kw_only=True, repr=False)
class PointEvaluation(Evaluation):
    """The mean distance."""

    distance: float

    @property
    def metrics(self) -> Mapping[str, MetricValue]:
        """The distance, with an interval of no width."""
        return {"distance": MetricValue(self.distance, (self.distance, self.distance))}


def distance(outputs: Tensor, images: ImageSet) -> float:
    """Return the mean distance from outputs (count, 2) to the centers."""
    assert images.boxes is not None
    return (outputs - centers(images.boxes, images.images_u8.shape[2:]).to(outputs.device)).norm(dim=1).mean().item()


def check_training(images: ImageSet, source: str) -> None:
    """Refuse a single image."""
    if len(images) < 2:
        raise InputError(f"{source} has too few images")


def draw_figures(classifier: ImageClassifier, evaluation: Evaluation, outputs: Outputs, folder: Path) -> tuple[Path]:
    """Write one file."""
    folder.mkdir(exist_ok=True)
    (folder / "points.txt").write_text(str(len(outputs.values)))
    return (folder / "points.txt",)


def find_target(classifier: ImageClassifier, target: object) -> Target:
    """Find "y" or "x"."""
    if target not in NAMES:
        raise InputError(f"there is no coordinate '{target}': choose y or x")
    return ClassTarget(NAMES.index(str(target)), str(target))


POINT = Task(
    name="point",
    description="where the object is",
    truth=("boxes",),
    metrics=(TaskMetric("distance", "distance", "distance to the center", higher_is_better=False, is_fraction=False),),
    model_type=PointModel,
    describe_outputs=lambda images: OutputSpec(2, NAMES),
    check_training=check_training,
    can_distill=False,
    loss_settings=(),
    can_calibrate=False,
    make_loss=lambda images, settings, device: PointLoss(),
    measure=lambda batches, images: dict.fromkeys(("distance", "loss"), distance(torch.cat(list(batches)), images)),
    check_model=lambda classifier: None,
    check_evaluation=lambda classifier, images, source: None,
    evaluate=lambda classifier, test, validation: PointEvaluation(distance=distance(test.values, test.images)),
    draw_figures=draw_figures,
    default_target=lambda classifier: ClassTarget(0, "y"),
    find_target=find_target,
    score_target=lambda classifier, target, outputs, predictions: target(outputs).tolist(),
)
