"""Divide images into splits: the same on every machine, whatever the seed of a run."""

import hashlib
import re

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
    if not 0 <= fraction < 1:
        raise InputError(f"validation_fraction {fraction} must be at least 0 and less than 1")
    held = max(1, round(count * fraction)) if fraction > 0 else 0
    if held >= count:
        raise InputError(f"validation_fraction {fraction} of {count} images leaves none to train on: lower it")
    order = np.argsort(np.random.PCG64(VALIDATION_SEED).random_raw(count), kind="stable")
    return np.sort(order[held:]), np.sort(order[:held])


def in_test_split(content: bytes, fraction: float = TEST_FRACTION) -> bool:
    """Whether a file with this content is in the test split; other files have no influence, nor has its name."""
    first = int.from_bytes(hashlib.sha256(content).digest()[:8], "big")
    return first / 2**64 < fraction
