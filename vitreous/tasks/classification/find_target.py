"""From what a user names to a target of classification: a class, one class per image, a difference of two classes."""

import re
from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor

from vitreous.arguments import show
from vitreous.errors import InputError
from vitreous.model.classifier import ImageClassifier
from vitreous.model.prediction import Prediction
from vitreous.tasks.classification.targets import (
    ClassDifferenceTarget,
    ClassPerImageTarget,
    ClassTarget,
    PredictedClassTarget,
    parse_class_target,
)
from vitreous.tasks.targets import FeatureNormTarget, Target, is_target


def default_target(classifier: ImageClassifier) -> Target:
    """Return the predicted class, or the norm of the features of a model without classes."""
    return PredictedClassTarget() if classifier.class_names else FeatureNormTarget()


def find_class_target(classifier: ImageClassifier, target: object) -> Target:
    """Find the target that a user names.

    Args:
        classifier: the model.
        target: a class by name or index; a list or an array with one class per image; "cat - dog" for the difference of
            two classes; or a Target, which is checked.

    Raises:
        InputError: there is no such class; the message names similar ones.
    """
    if isinstance(target, list | tuple):
        target = class_indices(classifier, target)
    if not isinstance(target, str):
        names, found = classifier.class_names, parse_class_target(target)
        if isinstance(found, ClassTarget) and found.index < len(names):
            found = replace(found, name=names[found.index])
        found = _check_target(classifier, found or target)
        return replace(found, class_names=names) if isinstance(found, ClassPerImageTarget) else found
    if target in classifier.class_names:
        return ClassTarget(classifier.class_index(target), target)
    if meant := suggest_class_difference(target, classifier.class_names):
        raise InputError(f"there is no class '{target}': for the difference of two classes, write '{meant}'")
    if " - " in target:
        first, second = (ClassTarget(classifier.class_index(name), name) for name in target.split(" - ", 1))
        return ClassDifferenceTarget(first, second)
    return ClassTarget(classifier.class_index(target), target)


def class_indices(classifier: ImageClassifier, classes: Sequence[str | int]) -> list[int]:
    """Return the classes of several images with the index of each instead of its name.

    Raises:
        InputError: there is no such class.
    """
    return [classifier.class_index(one) if isinstance(one, str) else one for one in classes]


def suggest_class_difference(text: str, class_names: Sequence[str]) -> str | None:
    """Suggest "cat - dog" for a text such as "cat-dog" with the names of two classes; else None.

    >>> suggest_class_difference("cat-dog", ["cat", "dog"])
    'cat - dog'
    """
    for dash in re.finditer("[-–−]", text):
        names = text[: dash.start()].strip(), text[dash.end() :].strip()
        meant = " - ".join(names)
        if meant != text and all(name in class_names for name in names):
            return meant
    return None


def score_target(
    classifier: ImageClassifier, target: Target, logits: Tensor, predictions: Sequence[Prediction]
) -> list[float]:
    """Return the probability of a class, or the score of any other target, for each image.

    Args:
        classifier: the model.
        target: of all images, or one with a class for each of them.
        logits: the model's outputs (batch, classes).
        predictions: one for each image.
    """
    if isinstance(target, ClassTarget | ClassPerImageTarget) and classifier.class_names:
        count = len(predictions)
        indices = [target.index] * count if isinstance(target, ClassTarget) else target.indices.tolist()
        names = [classifier.class_names[index] for index in indices]
        return [dict(prediction.scores)[name] for prediction, name in zip(predictions, names, strict=True)]
    return target(logits).float().tolist()


def _check_target(classifier: ImageClassifier, target: object) -> Target:
    """Check a target that is given as an object.

    Raises:
        InputError: it isn't a target, or the model has no such class.
    """
    if not is_target(target):
        raise InputError(
            f"{show(target)} is not a target: give the name or index of a class, one class per image, or a Target"
        )
    indices = [target.index] if isinstance(target, ClassTarget) else []
    if isinstance(target, ClassPerImageTarget):
        indices = target.indices.tolist()
    count = len(classifier.class_names)
    if count and (wrong := next((index for index in indices if not 0 <= index < count), None)) is not None:
        raise InputError(f"there is no class {wrong}: the model has {count}, from 0")
    return target
