"""Probe frozen features: how well kNN and logistic regression tell the classes of a data set apart by them."""

from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from torch import nn

from vitreous.arguments import check_arguments
from vitreous.callbacks import Callback, LogCallback, Progress
from vitreous.errors import InputError, unknown
from vitreous.evaluation.intervals import bootstrap_class_mean, bootstrap_draws, proportions
from vitreous.files import require_new_folder
from vitreous.model.classifier import ImageClassifier
from vitreous.model.vit import ViT
from vitreous.pretrained.load import load
from vitreous.runtime import choose_precision
from vitreous.transfer.feature_set import FeatureSet
from vitreous.transfer.probing.data import PROBE_FRACTION, ProbeData, cached_features, split_features
from vitreous.transfer.probing.fit import FITS, Choice, LinearClassifier
from vitreous.transfer.probing.result import ProbeResult, ProbeScore

ProbeMethod = Literal["knn", "logistic"]
PROBE_METHODS: tuple[str, ...] = get_args(ProbeMethod)


@check_arguments
def probe(
    model: str | Path | ImageClassifier,
    data: str,
    output: str | Path | None = None,
    *,
    methods: Sequence[ProbeMethod] = ("knn", "logistic"),
    shots: Sequence[int] = (),
    draws: int = 5,
    validation_fraction: float = PROBE_FRACTION,
    seed: int = 0,
    device: str = "auto",
    precision: str = "fp32",
    skip_unreadable: bool = False,
    callback: Callback | None = None,
) -> ProbeResult:
    """Measure how well frozen features tell the classes of a data set apart, and make a classifier of them.

    The features are the pooled vectors that `ImageClassifier.embed` gives. They are computed once and kept in the cache
    folder. "knn" lets the nearest training images by cosine similarity vote (Wu et al. 2018); "logistic" is multinomial
    logistic regression on standardized features. Validation images choose k and the penalty; then both learn from the
    training and validation images. Test images only report.

    Args:
        model: whatever `load` takes, or a loaded model.
        data: a source such as "folder:photos", or a file that `embed` wrote with this model.
        output: a new folder: probe.json, figures/probe.png and, after "logistic", a model for `load`, `predict`,
            `explain` and `explain_video`: the same weights with a linear head.
        methods: "knn", "logistic".
        shots: also learn from so few training images of each class. k and the penalty are chosen on all validation
            images.
        draws: how often these images are drawn.
        validation_fraction: of the training images of each class, where the source has no validation images.
        seed: of the draws.
        device: "auto", "cpu" or "cuda".
        precision: "fp32", "bf16", or "auto" for bf16 where the hardware has it.
        skip_unreadable: leave out images that can't be read, with a note, instead of refusing the data.
        callback: receives the progress and notes.

    Raises:
        InputError: the model or data can't be read, the data have one class, fewer images than classes, no validation
            or test images, or a file holds features of another model.

    Example:
        >>> vitreous.probe("dinov2:vits14", "folder:flowers", shots=[1, 5]).score("logistic").accuracy  # doctest: +SKIP
        Estimate(value=0.974, low=0.96, high=0.983, n=870, direction='higher')
    """
    callback = callback or LogCallback()
    check_probe(methods, shots, draws, output)
    classifier = load(model, device, callback=callback)
    precision = choose_precision(precision, classifier.device)
    features = cached_features(
        classifier, data, precision, callback, skip_unreadable=skip_unreadable,
        check=lambda labels: _split(labels, data, validation_fraction, shots, seed, Callback()),
    )  # fmt: skip
    parts = _split(features, data, validation_fraction, shots, seed, callback)
    measured, done, total = [], 0, len(methods) * (1 + draws * len(set(shots)))
    heads: list[LinearClassifier] = []
    for method in methods:
        for count in sorted(set(shots)):
            measured.append(_measure_shots(parts, method, count, draws, seed))
            done += draws
            callback.on_progress(Progress(done, total, f"{method}, {count} images per class"))
        choice = FITS[method](parts.training, parts, refit=True)
        measured.append(_score_all(parts, method, choice))
        heads += [] if choice.classifier is None else [choice.classifier]
        done += 1
        callback.on_progress(Progress(done, total, f"{method}, all images"))
    counts = len(parts.training), len(parts.validation), len(parts.test)
    is_pooled, probed = features.info.features == ("pooled",), None
    if heads and is_pooled:
        probed = with_linear_head(classifier, heads[-1], parts.class_names, callback)
    elif heads:
        callback.on_note(
            f"a head reads the pooled vector, not {' and '.join(features.info.features)}: no model is kept"
        )
    found = ProbeResult(
        str(classifier.origin), features.info.fingerprint, data, parts.class_names, counts, features.info.width, draws,
        tuple(measured), probed,
    )  # fmt: skip
    if output is not None:
        found.save(output)
    return found


def check_probe(methods: Sequence[str], shots: Sequence[int], draws: int, output: str | Path | None) -> None:
    """Refuse a request before a model is loaded for it.

    Raises:
        InputError: there is no such method, a number is below 1, or the folder holds something.
    """
    for method in methods:
        if method not in PROBE_METHODS:
            raise unknown("method", method, PROBE_METHODS)
    if not methods:
        raise InputError(f"no methods are named: give one or more of {', '.join(PROBE_METHODS)}")
    for name, number in [*(("shots", one) for one in shots), ("draws", draws)]:
        if number < 1:
            raise InputError(f"{name} {number} is too few: give 1 or more")
    if output is not None:
        require_new_folder(Path(output))


def _split(
    features: FeatureSet, source: str, validation_fraction: float, shots: Sequence[int], seed: int, callback: Callback
) -> ProbeData:
    """Divide features into training, validation and test images.

    Raises:
        InputError: as `split_features`, or a class has too few images for one of the shots.
    """
    parts = split_features(features, validation_fraction, callback, source)
    if shots:
        parts.draw(max(shots), 0, seed)
    return parts


def _measure_shots(data: ProbeData, method: str, shots: int, draws: int, seed: int) -> ProbeScore:
    """Learn from `shots` images of each class, several times."""
    choices = [FITS[method](data.draw(shots, number, seed), data, refit=False) for number in range(draws)]
    hits = np.stack([(one.scores.argmax(1) == data.test.labels).numpy() for one in choices], 1)
    validation = float(np.mean([one.validation_accuracy for one in choices]))
    return ProbeScore(method, shots, bootstrap_draws(hits), validation, tuple(one.setting for one in choices))


def _score_all(data: ProbeData, method: str, choice: Choice) -> ProbeScore:
    """Score a classifier that has learned from all training and validation images."""
    truths = data.test.labels.numpy()
    hits = (choice.scores.argmax(1) == data.test.labels).numpy()
    (accuracy,) = proportions(hits[:, None])
    by_class = [proportions(hits[truths == label][:, None])[0] for label in np.unique(truths)]
    names = tuple(data.class_names[label] for label in np.unique(truths))
    mean = bootstrap_class_mean(hits, truths)
    return ProbeScore(
        method, None, accuracy, choice.validation_accuracy, (choice.setting,), mean,
        dict(zip(names, by_class, strict=True)),
    )  # fmt: skip


def with_linear_head(
    classifier: ImageClassifier, linear: LinearClassifier, class_names: Sequence[str], callback: Callback
) -> ImageClassifier | None:
    """Return the model with a linear map of its pooled vector as head; None, with a note, for a wrapped module.

    Where the pooled vector is itself a linear map, such as the projection of an image-text model, both become one.
    """
    if not isinstance(classifier.model, ViT):
        callback.on_note(
            "the model is a wrapped module of another kind: its head can't be replaced, so no model is kept"
        )
        return None
    vit, weight, bias = deepcopy(classifier.model), linear.weight, linear.bias
    if not classifier.class_names and isinstance(projection := vit.head, nn.Linear):
        bias = bias if projection.bias is None else bias + weight @ projection.bias.detach().to(weight)
        weight = weight @ projection.weight.detach().to(weight)
    vit.reset_classifier(len(class_names))
    assert isinstance(vit.head, nn.Linear)
    with torch.no_grad():
        vit.head.weight.copy_(weight)
        vit.head.bias.copy_(bias)
    return ImageClassifier(vit, classifier.preprocessing, class_names)
