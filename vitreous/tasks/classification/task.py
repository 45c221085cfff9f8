"""The record of classification."""

from pathlib import Path

from vitreous.data.image_set import ImageSet
from vitreous.model.classifier import ImageClassifier
from vitreous.tasks.classification.evaluation import (
    ClassificationEvaluation,
    check_classes,
    check_exclusive,
    check_several_classes,
    evaluate,
    measure,
    predictions_of,
)
from vitreous.tasks.classification.find_target import default_target, find_class_target, score_target
from vitreous.tasks.classification.loss import make_loss
from vitreous.tasks.evaluation import Evaluation
from vitreous.tasks.task import Head, Metric, Outputs, Task


def make_head(images: ImageSet) -> Head:
    """Return one output for each class."""
    return Head(len(images.class_names), images.class_names)


def draw_evaluation(
    classifier: ImageClassifier, evaluation: Evaluation, outputs: Outputs, folder: Path
) -> tuple[Path, ...]:
    """Write confusion matrix, reliability diagram, risk-coverage curve and confident mistakes, and return the files."""
    from vitreous.tasks.classification import figures  # needs matplotlib, which explanations don't

    assert isinstance(evaluation, ClassificationEvaluation)
    return figures.draw_evaluation(evaluation, predictions_of(classifier, outputs), outputs.images, folder)


CLASSIFICATION = Task(
    name="classification",
    description="which of several classes an image shows",
    truth=("labels",),
    metrics=(Metric("top1", "top-1", "accuracy"),),
    model_type=ImageClassifier,
    make_head=make_head,
    check_training=check_several_classes,
    can_distill=True,
    make_loss=make_loss,
    measure=measure,
    check_model=check_exclusive,
    check_evaluation=check_classes,
    evaluate=evaluate,
    draw_evaluation=draw_evaluation,
    default_target=default_target,
    find_target=find_class_target,
    score_target=score_target,
)
