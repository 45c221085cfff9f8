"""A task: what a model learns, and all that training, evaluation, explanation and the faces know of it."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

import torch
from torch import Tensor

from vitreous.model.classifier import ImageClassifier
from vitreous.model.prediction import Prediction
from vitreous.tasks.targets import Target

if TYPE_CHECKING:  # explanations need neither data nor statistics
    from vitreous.data.batch import Batch, Truth
    from vitreous.data.image_set import ImageSet
    from vitreous.tasks.evaluation import Evaluation


@dataclass(frozen=True)
class TaskMetric:
    """A number that says how good a model is.

    Attributes:
        name: in metrics.jsonl, such as "top1".
        label: for people, such as "top-1".
        title: of the axis of a figure, such as "accuracy".
        higher_is_better: its direction.
        is_fraction: whether it is between 0 and 1, and written in per cent.

    >>> TaskMetric("top1", "top-1", "accuracy").format(0.9187)
    '91.9%'
    """

    name: str
    label: str
    title: str
    higher_is_better: bool = True
    is_fraction: bool = True

    def format(self, value: float, decimals: int = 1) -> str:
        """Write a value for people."""
        return f"{value:.{decimals}%}" if self.is_fraction else f"{value:.{decimals + 2}g}"

    def rank(self, value: float) -> float:
        """Return a number that is higher for a better value; NaN is the worst of all.

        >>> TaskMetric("mse", "MSE", "squared error", higher_is_better=False).rank(0.5)
        -0.5
        """
        if math.isnan(value):
            return -math.inf
        return value if self.higher_is_better else -value


@dataclass(frozen=True)
class OutputSpec:
    """The outputs of a model: their number, and the names of the classes among them.

    >>> OutputSpec(2, ("cat", "dog")).num_outputs
    2
    """

    num_outputs: int
    class_names: tuple[str, ...] = ()


@dataclass(frozen=True)
class LossSettings:
    """The settings of a recipe that change its loss.

    Attributes:
        label_smoothing: between 0 and 1.
        class_weights: of the classes in the loss.
    """

    label_smoothing: float = 0.0
    class_weights: Literal["none", "balanced"] = "none"


class TaskLoss(Protocol):
    """The loss of a task over batches, made for the training images of a run."""

    def __call__(self, outputs: Tensor, batch: "Batch") -> Tensor:
        """Compute the (weighted) mean loss of a batch from the model's outputs (batch, ...)."""
        ...

    def weight(self, batch: "Batch") -> float | Tensor:
        """Return what a batch counts in the mean over several: its number of images, or the sum of their weights."""
        ...

    def score(self, outputs: Tensor, batch: "Batch") -> Tensor:
        """Add up the task's first metric over the images of a batch, for the progress of training."""
        ...

    def distill(
        self, outputs: Tensor, teacher_outputs: Tensor, batch: "Batch", temperature: float
    ) -> tuple[Tensor, Tensor]:
        """Compute the mean distillation loss of a batch, and the loss that the teacher itself learns from."""
        ...


@dataclass(frozen=True)
class Task:
    """What a model learns.

    A model gives outputs (batch, ...). `model_type` turns them into one `Prediction` for each image, which knows how it
    is written and drawn: `Prediction.caption` and `Prediction.draw`. A task with richer answers, such as masks, has its
    own subclass of both.

    Attributes:
        name: in `TASKS`, in recipe.json and in config.json.
        description: one line for lists.
        truth: which parts of a sample the model learns from; augmentation moves them together with the image.
        metrics: measured on validation images, besides the loss; the first of them chooses the best weights.
        model_type: of a trained model: its `postprocess` turns outputs into predictions.
        describe_outputs: returns the head for images of a training set.
        check_training: refuses training images that the task can't learn from, of a source that is named.
        can_distill: whether its loss can learn from a teacher's outputs.
        loss_settings: the settings of a recipe that its loss uses, fields of `LossSettings`.
        can_calibrate: whether its evaluation fits a temperature on validation images.
        make_loss: makes the loss for a training set, and batches on a device.
        measure: computes the metrics and "loss" of outputs for all images of a set, in batches and in order. The
            outputs are on the CPU, the images perhaps not.
        check_model: refuses a model whose outputs can't be evaluated.
        check_evaluation: refuses images that don't fit a model, of a source that is named.
        evaluate: makes the full report from a model's outputs for images; with those for validation images too, what
            is fitted on them (temperature scaling).
        draw_figures: writes the figures of a report into a folder.
        default_target: what an explanation explains if nothing is named.
        find_target: finds the target that a user names, by a text, a number or an object.
        score_target: the score of a target for each image, in the unit that people read, from outputs and predictions.
    """

    name: str
    description: str
    truth: tuple["Truth", ...]
    metrics: tuple[TaskMetric, ...]
    model_type: type[ImageClassifier]
    describe_outputs: Callable[["ImageSet"], OutputSpec]
    check_training: Callable[["ImageSet", str], None]
    can_distill: bool
    loss_settings: tuple[str, ...]
    can_calibrate: bool
    make_loss: Callable[["ImageSet", LossSettings, torch.device], TaskLoss]
    measure: Callable[[Iterable[Tensor], "ImageSet"], Mapping[str, float]]
    check_model: Callable[[ImageClassifier], None]
    check_evaluation: Callable[[ImageClassifier, "ImageSet", str], None]
    evaluate: Callable[[ImageClassifier, "Outputs", "Outputs | None"], "Evaluation"]
    draw_figures: Callable[[ImageClassifier, "Evaluation", "Outputs", Path], tuple[Path, ...]]
    default_target: Callable[[ImageClassifier], Target]
    find_target: Callable[[ImageClassifier, object], Target]
    score_target: Callable[[ImageClassifier, Target, Tensor, Sequence[Prediction]], list[float]]

    @property
    def metric(self) -> TaskMetric:
        """The first metric, by which the best weights are chosen."""
        return self.metrics[0]


@dataclass(frozen=True)
class Outputs:
    """A model's outputs for a set of images, in order.

    Attributes:
        values: float (images, ...), on the CPU.
        images: at the model's input size, with their truth.
    """

    values: Tensor
    images: "ImageSet"
