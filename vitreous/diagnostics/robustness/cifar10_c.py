"""CIFAR-10-C as published by Hendrycks and Dietterich (2019): corrupted copies of the CIFAR-10 test images.

The folder holds CORRUPTION.npy, uint8 (50,000, 32, 32, 3), for each corruption, with the 10,000 test images at severity
1, then at severity 2, and so on, and labels.npy (50,000). Source: https://zenodo.org/records/2535967.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from vitreous.data.image_set import ImageSet
from vitreous.data.read_options import read_options_for
from vitreous.data.sources import resize_image_set
from vitreous.diagnostics.robustness.corruptions import CORRUPTIONS, SEVERITIES
from vitreous.errors import InputError
from vitreous.files import os_error_reason
from vitreous.model.classifier import ImageClassifier

PREFIX = "cifar10-c:"
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
"""The classes of the labels 0 to 9."""


@dataclass(frozen=True)
class Cifar10C:
    """The files of one folder, opened but not read into memory."""

    images: dict[str, np.ndarray]
    """By corruption: uint8 (severities × images, 32, 32, 3)."""
    labels: np.ndarray
    """int64 (severities × images), indexes into `CLASSES`."""

    @property
    def num_images(self) -> int:
        """Images per severity."""
        return len(self.labels) // len(SEVERITIES)

    def load(self, corruption: str, severity: int, classifier: ImageClassifier, count: int | None = None) -> ImageSet:
        """Load the images of one corruption and severity at the input size of a model, with the model's labels.

        Args:
            corruption: a key of `images`.
            severity: 1 to 5.
            classifier: the model.
            count: number of images, spaced evenly; all by default.
        """
        start = (severity - 1) * self.num_images
        indexes = np.arange(self.num_images)
        if count is not None and count < self.num_images:
            indexes = torch.linspace(0, self.num_images - 1, count).round().long().numpy()
        pixels = np.ascontiguousarray(self.images[corruption][start + indexes].transpose(0, 3, 1, 2))
        to_label = torch.tensor([classifier.class_names.index(name) for name in CLASSES])
        labels = to_label[torch.from_numpy(self.labels[start + indexes])]
        images = ImageSet(torch.from_numpy(pixels), labels, tuple(classifier.class_names))
        preprocessing = classifier.preprocessing
        return resize_image_set(images, preprocessing.input_size, read_options_for(preprocessing))


def open_cifar10_c(folder: Path, classifier: ImageClassifier) -> Cifar10C:
    """Open the files of a folder; corruptions that are missing or not among the 15 of the benchmark are left out.

    Raises:
        InputError: there are no such files, they have another shape, or the model has other classes than CIFAR-10.
    """
    if sorted(classifier.class_names) != sorted(CLASSES) or len(classifier.preprocessing.mean) != 3:
        raise InputError(f"CIFAR-10-C needs a model of color images with the classes {', '.join(CLASSES)}")
    paths = {name: folder / f"{name}.npy" for name in CORRUPTIONS}
    images = {name: _open_array(path) for name, path in paths.items() if path.is_file()}
    labels_path = folder / "labels.npy"
    if not images or not labels_path.is_file():
        raise InputError(
            f"{folder} does not hold CIFAR-10-C (labels.npy and files such as fog.npy): download it from "
            "https://zenodo.org/records/2535967 and name its folder"
        )
    labels = _open_array(labels_path)
    if labels.ndim != 1 or not len(labels) or len(labels) % len(SEVERITIES) or labels.dtype.kind not in "iu":
        raise InputError(f"{labels_path} has shape {labels.shape}: it must hold the labels of 5 severities")
    if labels.min() < 0 or labels.max() >= len(CLASSES):
        raise InputError(f"{labels_path} has labels from {labels.min()} to {labels.max()}: they must be 0 to 9")
    for name, array in images.items():
        if array.shape != (len(labels), 32, 32, 3) or array.dtype != np.uint8:
            raise InputError(
                f"{paths[name]} has shape {array.shape} and type {array.dtype}: it must be uint8 "
                f"({len(labels)}, 32, 32, 3)"
            )
    return Cifar10C(images, labels.astype(np.int64))


def _open_array(path: Path) -> np.ndarray:
    try:
        return np.load(path, mmap_mode="r")
    except OSError as error:
        raise InputError(f"can't read {path}: {os_error_reason(error)}") from error
    except (ValueError, EOFError) as error:
        raise InputError(f"{path} is not a .npy file: {' '.join(str(error).split())}") from error
