"""Divide images into splits: the same on every machine, whatever the seed of a run."""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vitreous.errors import InputError

SPLITS = ("train", "validation", "test", "train+validation")
SPLIT_NAMES = {
    "train": ("train", "training"),
    "validation": ("validation", "val", "valid", "dev"),
    "test": ("test", "testing", "eval", "evaluation"),
}
"""What splits are called in the names of folders and files, in any capitals; of several, the first counts."""
TEST_FRACTION = 0.15
"""Of the images in a folder that has no test folder."""
VALIDATION_SEED = 20_240_229


def split_in_name(name: str) -> str | None:
    """Return the split that is a whole word in a folder's name; None if there is none, or more than one.

    >>> [split_in_name(name) for name in ("seg_train", "val2017", "TestSet", "trainset", "strain", "train-test")]
    ['train', 'validation', 'test', 'train', None, None]
    """
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    words = [word.removesuffix("set") for word in re.split(r"[\W\d_]+", spaced.lower())]
    found = [split for split, names in SPLIT_NAMES.items() for word in words if word in names]
    return found[0] if len(found) == 1 else None


def hold_out(count: int, fraction: float) -> tuple[np.ndarray, np.ndarray]:
    """Divide the indexes of `count` images into those to train on and those to validate on, both ascending.

    A fraction above 0 holds out at least one image. The order is drawn from PCG64's raw output, which numpy keeps the
    same in every version, as it does not promise for `Generator.permutation` (NEP 19).

    Raises:
        InputError: the fraction is outside 0 to 1, or leaves nothing to train on.
    """
    _check_fraction(fraction)
    held = max(1, round(count * fraction)) if fraction > 0 else 0
    if held >= count:
        raise InputError(f"validation_fraction {fraction} of {count} images leaves none to train on: lower it")
    order = np.argsort(np.random.PCG64(VALIDATION_SEED).random_raw(count), kind="stable")
    return np.sort(order[held:]), np.sort(order[:held])


def hold_out_by_class(labels: Sequence[int] | np.ndarray, fraction: float) -> tuple[np.ndarray, np.ndarray]:
    """Divide the images of each class by `hold_out`, so that small classes are in both parts; a single one is kept.

    Raises:
        InputError: the fraction is outside 0 to 1.
    """
    _check_fraction(fraction)
    kept, held = [np.arange(0)], [np.arange(0)]
    values = np.asarray(labels)
    for label in np.unique(values):
        (members,) = np.nonzero(values == label)
        count = len(members)
        own, other = hold_out(count, min(fraction, 1 - 1 / count)) if count > 1 else (np.arange(1), np.arange(0))
        kept.append(members[own])
        held.append(members[other])
    return np.sort(np.concatenate(kept)), np.sort(np.concatenate(held))


@dataclass(frozen=True)
class HoldOut:
    """Which training images are held out to validate on, where a dataset has no others.

    Attributes:
        fraction: of the images.
        by_class: draw from each class where a draw from all images would leave a class without any, on either side. So
            large datasets are divided as in the first versions, which drew from all images whatever their classes.
    """

    fraction: float
    by_class: bool = True

    def divide(self, labels: Sequence[int] | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the indexes of the images to train on and of those to validate on, both ascending.

        Raises:
            InputError: the fraction is outside 0 to 1, or leaves nothing to train on.
        """
        values = np.asarray(labels)
        parts = hold_out(len(values), self.fraction)
        if not self.by_class or self.fraction == 0:
            return parts
        classes, counts = np.unique(values, return_counts=True)
        trained_on, held_out = (np.isin(classes, values[part]) for part in parts)
        if trained_on.all() and held_out[counts > 1].all():
            return parts
        return hold_out_by_class(values, self.fraction)


def _check_fraction(fraction: float) -> None:
    if not 0 <= fraction < 1:
        raise InputError(f"validation_fraction {fraction} must be at least 0 and less than 1")


def in_test_split(content: bytes, fraction: float = TEST_FRACTION) -> bool:
    """Whether a file with this content is in the test split; other files have no influence, nor has its name."""
    first = int.from_bytes(hashlib.sha256(content).digest()[:8], "big")
    return first / 2**64 < fraction
