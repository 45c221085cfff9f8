"""The record of classification."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from vitreous.model.classifier import ImageClassifier
from vitreous.tasks.classification.find_target import default_target, find_class_target, score_target
from vitreous.tasks.task import LossSettings, Outputs, OutputSpec, Task, TaskLoss, TaskMetric

if TYPE_CHECKING:
    from vitreous.data.image_set import ImageSet
    from vitreous.tasks.evaluation import Evaluation

# What only training and evaluation need is imported when it is used: explanations start faster without.


def _describe_outputs(images: "ImageSet") -> OutputSpec:
    return OutputSpec(len(images.class_names), images.class_names)


def _check_training(images: "ImageSet", source: str) -> None:
    from vitreous.tasks.classification.evaluation import check_several_classes

    check_several_classes(images, source)


def _make_loss(images: "ImageSet", settings: LossSettings, device: torch.device) -> TaskLoss:
    from vitreous.tasks.classification.loss import make_loss

    return make_loss(images, settings, device)


def _measure(batches: Iterable[Tensor], images: "ImageSet") -> Mapping[str, float]:
    from vitreous.tasks.classification.evaluation import measure

    return measure(batches, images)


def _check_model(classifier: ImageClassifier) -> None:
    """Check that a model's classes exclude each other.

    Raises:
        InputError: they don't.
    """
    classifier.to_logits(torch.zeros(1, max(1, len(classifier.class_names))))


def _check_evaluation(classifier: ImageClassifier, images: "ImageSet", source: str) -> None:
    from vitreous.tasks.classification.evaluation import check_classes

    check_classes(classifier, images, source)


def _evaluate(classifier: ImageClassifier, test: Outputs, validation: Outputs | None) -> "Evaluation":
    from vitreous.tasks.classification.evaluation import evaluate

    return evaluate(classifier, test, validation)


def _draw_figures(
    classifier: ImageClassifier, evaluation: "Evaluation", outputs: Outputs, folder: Path
) -> tuple[Path, ...]:
    from vitreous.tasks.classification.evaluation import ClassificationEvaluation, predictions_of
    from vitreous.tasks.classification.figures import draw_evaluation

    assert isinstance(evaluation, ClassificationEvaluation)
    return draw_evaluation(evaluation, predictions_of(classifier, outputs), outputs.images, folder)


CLASSIFICATION = Task(
    name="classification",
    description="which of several classes an image shows",
    truth=("labels",),
    metrics=(TaskMetric("top1", "top-1", "accuracy"),),
    model_type=ImageClassifier,
    describe_outputs=_describe_outputs,
    check_training=_check_training,
    can_distill=True,
    loss_settings=("label_smoothing", "class_weights"),
    can_calibrate=True,
    make_loss=_make_loss,
    measure=_measure,
    check_model=_check_model,
    check_evaluation=_check_evaluation,
    evaluate=_evaluate,
    draw_figures=_draw_figures,
    default_target=default_target,
    find_target=find_class_target,
    score_target=score_target,
)
