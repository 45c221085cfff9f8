"""The features that a probe is trained, validated and tested on, computed once and kept in the cache folder."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vitreous.callbacks import Callback
from vitreous.data.sources import absolute_source
from vitreous.data.splits import hold_out_by_class
from vitreous.downloads import cache_dir, file_lock
from vitreous.errors import InputError
from vitreous.files import make_folder
from vitreous.model.classifier import ImageClassifier
from vitreous.model.vit import ViT
from vitreous.runtime import generator
from vitreous.transfer.embed import EmbedJob, open_job, without_vectors, write_features
from vitreous.transfer.feature_set import FeatureInfo, FeatureSet
from vitreous.transfer.images import ALL_SPLITS, NO_LABEL

CACHE_VERSION = 1
"""Raise it when the same model and images would give other features."""
MIN_CLASSES = 2
PROBE_FRACTION = 0.2
"""Of the training images, held out to choose settings where a source has no validation images."""


@dataclass(frozen=True)
class LabeledFeatures:
    """Features, float32 (images, width), and labels, int64 (images)."""

    vectors: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def select(self, indexes: Tensor | np.ndarray) -> "LabeledFeatures":
        """Return the images at `indexes`."""
        chosen = torch.as_tensor(indexes, dtype=torch.int64)
        return LabeledFeatures(self.vectors[chosen], self.labels[chosen])

    def join(self, other: "LabeledFeatures") -> "LabeledFeatures":
        """Return the images of both."""
        return LabeledFeatures(torch.cat([self.vectors, other.vectors]), torch.cat([self.labels, other.labels]))


@dataclass(frozen=True)
class ProbeData:
    """Features of three parts of a data set: validation chooses, test reports."""

    training: LabeledFeatures
    validation: LabeledFeatures
    test: LabeledFeatures
    class_names: tuple[str, ...]
    source: str

    def draw(self, shots: int, number: int, seed: int) -> LabeledFeatures:
        """Draw `shots` training images of each class; more shots of one number include those of fewer.

        Raises:
            InputError: a class has fewer.
        """
        chosen = []
        for label, name in enumerate(self.class_names):
            members = (self.training.labels == label).nonzero()[:, 0]
            if len(members) < shots:
                raise InputError(
                    f"{shots} shots are more than the {len(members)} training images of the class '{name}' "
                    "(without those held out for validation): give fewer"
                )
            order = torch.randperm(len(members), generator=generator(seed, "shots", number, label))
            chosen.append(members[order[:shots]])
        return self.training.select(torch.cat(chosen))


def cached_features(
    classifier: ImageClassifier,
    source: str,
    precision: str,
    callback: Callback,
    *,
    skip_unreadable: bool = False,
    check: Callable[[FeatureSet], object] | None = None,
) -> FeatureSet:
    """Return the pooled vectors of all images of a source, from the cache folder if they were computed before.

    They are computed again for other weights, another preprocessing, or changed images. A file of features is read.

    Args:
        classifier: the model.
        source: as `embed` takes it, or the path of a file that `embed` wrote.
        precision: "fp32" or "bf16".
        callback: receives the progress.
        skip_unreadable: leave out images that can't be read.
        check: refuses labels and splits, which it gets without vectors, before any are computed.

    Raises:
        InputError: the source can't be read, or holds features of another model.
    """
    if source.endswith(".parquet"):
        if not Path(source).is_file():
            raise InputError(f"there is no file {source}: write it with vitreous embed, or give a source of images")
        return FeatureSet.load(source, classifier)
    job = open_job(classifier, _absolute(source), precision=precision, callback=callback)
    job = replace(job, skip_unreadable=skip_unreadable)
    info = replace(job.info, data=source)
    if check is not None:
        check(replace(without_vectors(job), info=info))
    folder = cache_dir() / "features"
    path = folder / f"{_cache_key(job)}.parquet"
    make_folder(folder)
    with file_lock(path.with_suffix(".lock")):
        if path.is_file():
            try:
                found = replace(FeatureSet.load(path, classifier), info=info)
            except InputError as error:
                callback.on_note(f"computing the features again: {error}")
            else:
                if skipped := len(job.stream) - len(found):
                    images = f"{len(job.stream):,} images can't be read and are skipped"
                    callback.on_note(f"{skipped:,} of {images}; `vitreous data` lists them")
                return found
        write_features(job, path)
        callback.on_note(f"features kept in {path}")
        return replace(FeatureSet.load(path, classifier), info=info)


def _absolute(source: str) -> str:
    """Return a source, or the path of a plain folder, that is valid in any folder."""
    folder = Path(source).expanduser()
    try:
        return absolute_source(source)
    except InputError:
        if not folder.is_dir():
            raise
        return str(folder.resolve())


def _cache_key(job: EmbedJob) -> str:
    info = job.info
    key = (CACHE_VERSION, info.space, info.precision, info.data, info.split, info.data_fingerprint, job.batch_size)
    key += ("skip",) if job.skip_unreadable else ()
    if not isinstance(
        job.extractor.classifier.model, ViT
    ):  # its code may change, which no fingerprint of weights tells
        key += (job.gray_features.numpy().tobytes(),)
    return hashlib.sha256(repr(key).encode()).hexdigest()[:32]


def split_features(
    features: FeatureSet, validation_fraction: float, callback: Callback, source: str | None = None
) -> ProbeData:
    """Divide features into training, validation and test images.

    Args:
        features: of all images.
        validation_fraction: of the training images of each class, held out where there are no validation images.
        callback: `on_note` is told if validation images are tested on.
        source: what messages call the features: the file, if they are of one.

    Raises:
        InputError: there are no labels, one class only, fewer images than classes, a class without training images, or
            no validation or test images.
    """
    info = features.info
    if (features.labels == NO_LABEL).any() or not info.class_names:
        raise InputError(
            f"'{info.data}' has no labels: a probe needs them, such as folder:DIR with one folder per class"
        )
    names = set(features.splits)
    if info.split != ALL_SPLITS and len(names) == 1:
        only = "training" if names == {"train"} else min(names)
        raise InputError(f"{source or info.data} has only {only} images: embed with --split all")
    test_name = "test" if "test" in names else _test_split(info.data, names, callback)
    training = _part(features, "train")
    if len(training) < len(info.class_names):
        raise InputError(
            f"'{info.data}' has {len(training)} training images for {len(info.class_names)} classes: add some"
        )
    if absent := _classes_without_training(info, features.labels, training.labels):
        raise InputError(
            f"'{info.data}' has no training image that can be read of the class(es) {', '.join(absent)}: repair or add "
            "some, or remove the class"
        )
    if len(training.labels.unique()) < MIN_CLASSES:
        raise InputError(f"the training images of '{info.data}' are all of one class: a probe needs two or more")
    if "validation" in names and test_name != "validation":
        validation = _part(features, "validation")
    else:
        kept, held = hold_out_by_class(training.labels.numpy(), validation_fraction)
        training, validation = training.select(kept), training.select(held)
    if not len(validation):
        raise InputError(
            f"'{info.data}' has no validation images, and --validation-fraction {validation_fraction} holds none out: "
            "k and the penalty are chosen on them, so raise it, or add images"
        )
    return ProbeData(training, validation, _part(features, test_name), info.class_names, info.data)


def _classes_without_training(info: FeatureInfo, labels: np.ndarray, training: Tensor) -> list[str]:
    """Return the classes that can't be learned, although there are images of them: others, or unreadable ones.

    Classes of a folder always have images; other sources may name classes that they have no images of.
    """
    known = set(labels.tolist()) if not info.data.startswith("folder:") else range(len(info.class_names))
    learned = set(training.tolist())
    return [name for label, name in enumerate(info.class_names) if label in known and label not in learned]


def _test_split(source: str, names: set[str], callback: Callback) -> str:
    """Return the split that is tested on where none is called so.

    Raises:
        InputError: there is none.
    """
    if "validation" in names:
        callback.on_note(f"{source} has no test images: the probe is tested on its validation images")
        return "validation"
    raise InputError(f"'{source}' has no test images, only {' and '.join(sorted(names))}: a probe is measured on them")


def _part(features: FeatureSet, split: str) -> LabeledFeatures:
    chosen = np.array([name == split for name in features.splits])
    return LabeledFeatures(torch.from_numpy(features.vectors[chosen]), torch.from_numpy(features.labels[chosen]))
