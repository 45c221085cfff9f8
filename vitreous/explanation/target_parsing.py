"""From what a user names to a target: a text, a region, or what the model's task knows, such as a class."""

from collections.abc import Sequence
from functools import cache

from vitreous.callbacks import Callback, LogCallback
from vitreous.explanation.regions import PixelRegion, parse_region
from vitreous.explanation.registry import METHODS
from vitreous.explanation.text_targets import text_target
from vitreous.imaging.geometry import Geometry
from vitreous.model.classifier import ImageClassifier
from vitreous.tasks.registry import find_task
from vitreous.tasks.targets import Target


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
    task = find_task(classifier.task)
    if target is None:
        return task.default_target(classifier)
    if isinstance(target, PixelRegion):
        return target
    if isinstance(target, str) and target not in classifier.class_names:
        if target.startswith("text:"):
            return text_target(classifier, target.removeprefix("text:").strip())
        if target.startswith("region:"):
            return parse_region(target)
    return task.find_target(classifier, target)


def target_for_image(target: Target | PixelRegion, geometry: Geometry, patch_size: int) -> Target:
    """Return the target on one image: the patches of a PixelRegion, any other target as it is."""
    return target.to_target(geometry, patch_size) if isinstance(target, PixelRegion) else target


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
