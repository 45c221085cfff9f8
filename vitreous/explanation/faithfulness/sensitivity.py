"""Does a map's sum over some patches say what their removal does? Sensitivity-n (Ancona et al. 2018, section 3)."""

import numpy as np
import torch
from torch import Tensor

from vitreous.evaluation.faithfulness import correlation
from vitreous.explanation.faithfulness.filling import mean_color
from vitreous.explanation.faithfulness.subject import Subject

SHARES = (1 / 8, 1 / 4, 1 / 2)
"""Of the patches: the sizes n of the sets that are removed."""
SETS = 100
"""Random sets of each size."""


def set_sizes(patches: int) -> tuple[int, ...]:
    """The sizes n of the sets, for a model with so many patches."""
    return tuple(sorted({max(1, round(share * patches)) for share in SHARES}))


def removed_sets(subject: Subject, patches: int) -> Tensor:
    """Random sets of patches, each image's own, the same for every method: bool (images, sizes, SETS, patches)."""
    lots = subject.drawn("sets", lambda random: torch.rand(len(set_sizes(patches)), SETS, patches, generator=random))
    sizes = torch.tensor(set_sizes(patches), device=lots.device)[:, None, None]
    return lots.argsort(-1).argsort(-1) < sizes


def score_changes(subject: Subject) -> np.ndarray:
    """By how much the target's score falls when a set is removed, to the mean color: (images, sizes, SETS)."""
    rows, columns = subject.asked.grid_hw
    removed = removed_sets(subject, rows * columns)
    scores = subject.asked.about(~removed.flatten(1, 2), mean_color(subject.asked.inputs)).score
    return (subject.asked.whole().double() - scores).view(removed.shape[:3]).cpu().numpy()


def sensitivity(subject: Subject, maps: np.ndarray, changes: np.ndarray) -> np.ndarray:
    """Correlation of the map's sum over a set with the score's change, over the sets of a size: (images, sizes)."""
    removed = removed_sets(subject, maps.shape[1]).cpu().numpy()
    sums = np.einsum("pskn,pn->psk", removed.astype(np.float64), maps)
    images, sizes, sets = sums.shape
    return correlation(sums.reshape(-1, sets), changes.reshape(-1, sets)).reshape(images, sizes)
