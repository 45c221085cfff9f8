"""One map after the other, judged: all that is measured of a method on a batch of images."""

from collections.abc import Mapping

import numpy as np

from vitreous.evaluation.faithfulness import rank_correlation
from vitreous.explanation.faithfulness.removal import removal
from vitreous.explanation.faithfulness.sensitivity import sensitivity, set_sizes
from vitreous.explanation.faithfulness.subject import Subject
from vitreous.explanation.method import Model


def judge(subject: Subject, method: str, copies: Mapping[str, Model], changes: np.ndarray) -> dict[str, np.ndarray]:
    """Everything measured of a method's (or a baseline's) maps, by name; the first axis is the images.

    Beside what `removal` returns: "map" (images, patches) itself; "sensitivity-N" for each set size; and for each
    randomized copy "randomized-STAGE", the rank correlation of its map with the model's own, for signed maps also of
    their absolute values, "randomized-STAGE-absolute".

    Args:
        copies: the model with randomized weights, by stage (randomized.py).
        changes: what `score_changes` found, the same for every method.

    Raises:
        InputError: the method can't explain this model.
    """
    maps, signed = subject.maps(method)
    found = {"map": maps, **removal(subject, maps)}
    for size, column in zip(set_sizes(maps.shape[1]), sensitivity(subject, maps, changes).T, strict=True):
        found[f"sensitivity-{size}"] = column
    for stage, copy in copies.items():
        forgot, _ = subject.maps(method, copy, stage)
        found[f"randomized-{stage}"] = rank_correlation(maps, forgot)
        if signed:
            found[f"randomized-{stage}-absolute"] = rank_correlation(np.abs(maps), np.abs(forgot))
    return found
