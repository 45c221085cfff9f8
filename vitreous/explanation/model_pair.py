"""Explain images with two models: by one method, and for one target as far as both models have it."""

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from vitreous.errors import InputError
from vitreous.explanation.before_after import ExplanationPair
from vitreous.explanation.explain import ExplainTask, resolve_task, run_task
from vitreous.explanation.options import MethodOptions
from vitreous.explanation.regions import PixelRegion, Region
from vitreous.explanation.result import Explanation
from vitreous.explanation.target_parsing import find_target
from vitreous.model.classifier import ImageClassifier, ImageInput
from vitreous.tasks.classification.targets import PredictedClassTarget
from vitreous.tasks.targets import FeatureNormTarget, Target

MAX_NAMED = 6
"""Classes of both models that an error message names."""


@dataclass(frozen=True)
class ModelPair:
    """A model before tuning and the tuned one, or any other two whose maps are compared."""

    before: ImageClassifier
    after: ImageClassifier

    @property
    def names(self) -> tuple[str, str]:
        """What the models are called: the name of a file or folder, or the whole path where both have one name."""
        origins = _origin(self.before), _origin(self.after)
        before, after = (Path(one).resolve().name if Path(one).exists() else one for one in origins)
        return (before, after) if before != after else origins


@dataclass(frozen=True)
class PairTask:
    """What to compute with each model of a pair."""

    models: ModelPair
    before: ExplainTask
    after: ExplainTask


def resolve_pair_task(
    models: ModelPair,
    method: str,
    options: MethodOptions | None = None,
    target: str | int | PixelRegion | None = None,
    query: Region | None = None,
) -> PairTask:
    """Look up the method and the target in both models; a class by index is that of the later model.

    Raises:
        InputError: there is no such method, only one of the models has the target, or the method doesn't use one of
            the options.
    """
    before, after = (None, None) if target is None else _find_in_both(models, target)
    return PairTask(
        models,
        resolve_task(models.before, method, options, before, query),
        resolve_task(models.after, method, options, after, query),
    )


def run_pair_task(task: PairTask, images: Sequence[ImageInput]) -> list[ExplanationPair]:
    """Explain images with both models.

    Raises:
        InputError: an image can't be read, or the method can't explain one of the models.
    """
    return add_maps_before(task, run_task(task.models.after, images, task.after))


def add_maps_before(task: PairTask, after: Sequence[Explanation]) -> list[ExplanationPair]:
    """Explain the images of explanations by the later model with the earlier model.

    Raises:
        InputError: the method can't explain that model.
    """
    after = [_with_predicted_target(one, task.after) for one in after]
    names, given, shared = task.models.names, _has_given_target(task), _shared_classes(task, after)
    try:
        before = _explain_before(task, [one.image_u8 for one in after], shared)
    except InputError as error:
        raise InputError(f"{names[0]}: {error}") from None
    is_free = task.after.method.is_class_specific and not given
    return [
        ExplanationPair(first, second, names, given, not is_free or index in shared)
        for index, (first, second) in enumerate(zip(before, after, strict=True))
    ]


def _has_given_target(task: PairTask) -> bool:
    """Whether one target is certain before anything is predicted: one that was named, or that of both models' task."""
    targets = task.before.target, task.after.target
    if task.after.target_given:
        return True
    if any(isinstance(one, PredictedClassTarget | FeatureNormTarget | PixelRegion) for one in targets):
        return False
    return targets[0].name == targets[1].name


def _shared_classes(task: PairTask, after: Sequence[Explanation]) -> dict[int, str]:
    """Return the earlier model's name of the class that the later one predicts, for each image where it has it.

    Empty for a target that was named, and a method that doesn't depend on one.
    """
    is_predicted = isinstance(task.after.target, PredictedClassTarget)
    if task.after.target_given or not is_predicted or not task.after.method.is_class_specific:
        return {}
    classes = {_composed(name): name for name in task.models.before.class_names}
    labels = [_composed(one.prediction.label) if one.prediction.scores else "" for one in after]
    return {index: classes[label] for index, label in enumerate(labels) if label in classes}


def _explain_before(task: PairTask, images: Sequence[np.ndarray], shared: Mapping[int, str]) -> list[Explanation]:
    """Explain images with the earlier model: `shared` classes, or else as the task says."""
    model, others = task.models.before, [index for index in range(len(images)) if index not in shared]
    explained = run_task(model, [images[index] for index in others], task.before)
    found = dict(zip(others, (_with_predicted_target(one, task.before) for one in explained), strict=True))
    if shared:
        target = find_target(model, list(shared.values()))
        own = replace(task.before, target=target, target_given=True)
        found |= zip(shared, run_task(model, [images[index] for index in shared], own), strict=True)
    return [found[index] for index in range(len(images))]


def _with_predicted_target(one: Explanation, task: ExplainTask) -> Explanation:
    """Name the predicted class as the target, where that is what the map explains."""
    if not isinstance(task.target, PredictedClassTarget) or not task.method.is_class_specific:
        return one
    return replace(one, target=one.prediction.label, score=one.prediction.score)


def _find_in_both(
    models: ModelPair, target: str | int | PixelRegion
) -> tuple[Target | PixelRegion, Target | PixelRegion]:
    """Find a target in both models.

    Raises:
        InputError: a model doesn't have it.
    """
    names = models.after.class_names
    if isinstance(target, int) and 0 <= target < len(names):
        target = names[target]
    found, reasons = {}, {}
    for name, model in zip(("before", "after"), (models.before, models.after), strict=True):
        try:
            found[name] = find_target(model, target)
        except InputError as error:
            reasons[name] = str(error)
    if len(reasons) == 2:
        raise InputError(reasons["after"])
    if reasons:
        one, other = models.names if "before" in found else models.names[::-1]
        raise InputError(f"only '{one}' has the target '{target}', and '{other}' doesn't: {_advice(models)}")
    return found["before"], found["after"]


def _advice(models: ModelPair) -> str:
    known = {_composed(name) for name in models.before.class_names}
    both = [name for name in models.after.class_names if _composed(name) in known]
    if not both:
        return "leave out the target, and each map explains its own model"
    return f"choose a class of both ({', '.join([*both[:MAX_NAMED], *(['...'] if both[MAX_NAMED:] else [])])})"


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _origin(classifier: ImageClassifier) -> str:
    return classifier.origin or type(getattr(classifier.model, "module", classifier.model)).__name__
