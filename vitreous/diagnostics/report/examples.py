"""Images of the test set with their maps: the most confident mistakes, the least certain hits."""

from collections.abc import Sequence

import numpy as np

from vitreous.data.image_set import ImageSet
from vitreous.diagnostics.report.content import Example, Gallery, Section
from vitreous.diagnostics.report.images import encode_map, encode_thumbnail
from vitreous.diagnostics.report.performance import Performance
from vitreous.errors import InputError
from vitreous.evaluation.report import Predictions
from vitreous.explanation.explain import explain_batch
from vitreous.explanation.registry import METHODS
from vitreous.explanation.result import Explanation
from vitreous.model.classifier import ImageClassifier
from vitreous.tasks.classification.evaluation import predictions_of
from vitreous.tasks.classification.figures import format_confidence
from vitreous.tasks.classification.task import CLASSIFICATION
from vitreous.tasks.task import Outputs

NUM_EXAMPLES = 8
DEFAULT_METHOD = "gradient-rollout"
"""Explains a class, so that the map of the predicted class can be compared with that of the true one."""


def examples_section(performance: Performance, method: str) -> Section:
    """Show mistakes and hits of a classifier; of any other task some images with their predictions."""
    classifier, outputs = performance.subject.classifier, performance.outputs
    title, split = "Examples", performance.evaluation.split
    assert outputs is not None
    try:
        if classifier.task != CLASSIFICATION.name:
            gallery = Gallery("", "", spaced_examples(classifier, outputs, method))
            shown = f"{len(gallery.examples)} {split} images, evenly spaced"
            return Section("examples", title, f"{shown}. Maps: {describe_method(method)}.", (gallery,))
        predictions = predictions_of(classifier, outputs)
        arguments = classifier, outputs, predictions, method, split
        galleries = mistakes(*arguments), hits(*arguments)
    except InputError as error:
        return Section("examples", title, missing=f"Not shown: {error}.")
    count = f"{len(predictions.labels):,} {split} images"
    note = f"Among {count}. Maps: {describe_method(method)}. Each map has its own color scale."
    return Section("examples", title, note, galleries)


def describe_method(method: str) -> str:
    """Return a method's name, with what it shows."""
    return f"{method}, {METHODS[method].summary}"


def mistakes(
    classifier: ImageClassifier, outputs: Outputs, predictions: Predictions, method: str, split: str
) -> Gallery:
    """Show the wrong predictions with the highest confidence, each with the maps of predicted and true class."""
    wrong = np.flatnonzero(~predictions.correct)
    chosen = wrong[np.argsort(-predictions.confidence[wrong], kind="stable")][:NUM_EXAMPLES]
    title = "The most confident mistakes"
    if not chosen.size:
        return Gallery(title, f"There are none: all {len(predictions.labels):,} predictions are right.", ())
    note = f"{chosen.size} of {wrong.size:,} wrong predictions, the most confident first."
    return Gallery(title, note, class_examples(classifier, outputs, predictions, chosen, method, split))


def hits(classifier: ImageClassifier, outputs: Outputs, predictions: Predictions, method: str, split: str) -> Gallery:
    """Show the right predictions with the lowest confidence."""
    right = np.flatnonzero(predictions.correct)
    chosen = right[np.argsort(predictions.confidence[right], kind="stable")][:NUM_EXAMPLES]
    note = (
        f"{chosen.size} of {right.size:,} right predictions, the least certain first."
        if chosen.size
        else "There are none."
    )
    examples = class_examples(classifier, outputs, predictions, chosen, method, split)
    return Gallery("The least certain hits", note, examples)


def class_examples(
    classifier: ImageClassifier,
    outputs: Outputs,
    predictions: Predictions,
    indexes: np.ndarray,
    method: str,
    split: str,
) -> tuple[Example, ...]:
    """Make an example of each image at `indexes`: image, map of the predicted class, and of the true one if another."""
    images = [image_of(outputs.images, index) for index in indexes.tolist()]
    names, examples = classifier.class_names, []
    predicted, truths = predictions.predicted[indexes], predictions.labels[indexes]
    both = METHODS[method].is_class_specific and bool((predicted != truths).any())
    maps = explain_classes(classifier, images, predicted, method)
    true_maps: Sequence[Explanation | None] = (
        explain_classes(classifier, images, truths, method) if both else [None] * len(images)
    )
    for order, index in enumerate(indexes.tolist()):
        guess, truth, is_right = names[predicted[order]], names[truths[order]], predicted[order] == truths[order]
        confidence = format_confidence(float(predictions.confidence[index]))
        shown = [encode_thumbnail(images[order], "image", f"{split} image, true class {truth}")]
        shown.append(encode_map(maps[order], f"for {guess}" if METHODS[method].is_class_specific else "map"))
        other = true_maps[order]
        if other is not None and not is_right:
            shown.append(encode_map(other, f"for {truth}"))
        lines = (f"{guess} {confidence}",) if is_right else (f"{guess} {confidence}", f"is {truth}")
        examples.append(Example(tuple(shown), lines, "correct" if is_right else "wrong"))
    return tuple(examples)


def explain_classes(
    classifier: ImageClassifier, images: Sequence[np.ndarray], classes: np.ndarray, method: str
) -> list[Explanation]:
    """Explain one class of each image, given by its index."""
    if not len(images):
        return []
    target = classes.tolist() if METHODS[method].is_class_specific else None
    return explain_batch(classifier, images, method, target=target)


def spaced_examples(classifier: ImageClassifier, outputs: Outputs, method: str) -> tuple[Example, ...]:
    """Make an example of each of a few images, evenly spaced, with the prediction drawn on it."""
    count = len(outputs.values)
    indexes = np.linspace(0, count - 1, min(NUM_EXAMPLES, count)).round().astype(int).tolist()
    images = [image_of(outputs.images, index) for index in indexes]
    found = []
    for explanation in explain_batch(classifier, images, method):
        caption = explanation.prediction.caption()
        drawn = encode_thumbnail(explanation.prediction.draw(explanation.image_u8), "prediction", f"image, {caption}")
        found.append(Example((drawn, encode_map(explanation, explanation.target or "map")), (caption,), "plain"))
    return tuple(found)


def image_of(images: ImageSet, index: int) -> np.ndarray:
    """Return an image of a set: uint8 (height, width, 3)."""
    return images.images_u8[index].expand(3, -1, -1).permute(1, 2, 0).cpu().numpy()
