"""From what a user names to a target: a class, a difference of classes, a text, a region, or a Target itself."""

import re
from collections.abc import Sequence
from dataclasses import replace
from functools import cache

from vitreous.arguments import show
from vitreous.callbacks import Callback, LogCallback
from vitreous.errors import InputError
from vitreous.explanation.regions import PixelRegion, parse_region
from vitreous.explanation.registry import METHODS
from vitreous.explanation.targets import (
    ClassDifferenceTarget,
    ClassPerImageTarget,
    ClassTarget,
    FeatureNormTarget,
    PredictedClassTarget,
    Target,
    is_target,
    parse_class_target,
)
from vitreous.explanation.text_targets import text_target
from vitreous.imaging.geometry import Geometry
from vitreous.model.classifier import ImageClassifier


def find_target(
    classifier: ImageClassifier, target: str | int | Sequence[str | int] | Target | PixelRegion | None
) -> Target | PixelRegion:
    """Find the target that a user names.

    Args:
        classifier: the model.
        target: a class by name or index; a list or an array with one class per image; "cat - dog" for the difference of
            two classes; "text:a photo of a cat" for an image-text model; "region:x0,y0,x1,y1" in pixels; a Target or
            PixelRegion, which is checked; None for the predicted class, or for the norm of the features of a model
            without classes.

    Raises:
        InputError: there is no such class (the message names similar ones), or the model doesn't encode texts.
    """
    if target is None:
        return PredictedClassTarget() if classifier.class_names else FeatureNormTarget()
    if isinstance(target, PixelRegion):
        return target
    if isinstance(target, list | tuple):
        target = class_indices(classifier, target)
    if not isinstance(target, str):
        found = parse_class_target(target)
        if isinstance(found, ClassTarget):
            found = replace(found, name=_class_name(classifier, found.index))
        return _check_target(classifier, found or target)
    if target in classifier.class_names:
        return ClassTarget(classifier.class_index(target), target)
    if target.startswith("text:"):
        return text_target(classifier, target.removeprefix("text:").strip())
    if target.startswith("region:"):
        return parse_region(target)
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


def target_for_image(target: Target | PixelRegion, geometry: Geometry, patch_size: int) -> Target:
    """Return the target on one image: the patches of a PixelRegion, any other target as it is."""
    return target.to_target(geometry, patch_size) if isinstance(target, PixelRegion) else target


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


def _class_name(classifier: ImageClassifier, index: int) -> str:
    return classifier.class_names[index] if 0 <= index < len(classifier.class_names) else f"class {index}"


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


def note_unused_target(methods: Sequence[str], target: object, callback: Callback | None) -> None:
    """Report in one line that a target is given on which no map of these methods depends.

    Args:
        methods: names in the table of methods.
        target: what the user named; None for nothing.
        callback: receives the note; None for the log, once.
    """
    if target is None or any(METHODS[name].is_class_specific for name in methods):
        return
    able = ", ".join(name for name, method in METHODS.items() if method.is_class_specific)
    verb = "doesn't" if len(methods) == 1 else "don't"
    note = f"{' and '.join(methods)} {verb} depend on the target; these methods do: {able}"
    if callback is None:
        _log_once(note)
    else:
        callback.on_note(note)


@cache
def _log_once(note: str) -> None:
    LogCallback().on_note(note)
