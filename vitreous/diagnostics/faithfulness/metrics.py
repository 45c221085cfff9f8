"""Patches added and taken away in a map's order: insertion, deletion (Petsiuk et al. 2018) and ROAD (Rong et al. 2022).

Of a good map, the most relevant patches bring the answer back early (insertion) and take it away early (deletion). What
a removed patch leaves behind is itself a sign to the model; ROAD fills it so that it tells as little as may be.
"""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from vitreous.diagnostics.faithfulness.imputation import blurred, imputed, mean_color
from vitreous.diagnostics.faithfulness.perturbed_predictor import Subject
from vitreous.diagnostics.faithfulness.statistics import correlation, most_relevant_first, rank_correlation
from vitreous.explanation.method import ExplainableModel

STEPS = 16
"""Equal steps (as equal as whole patches allow) of the insertion and deletion curves."""
ROAD_SHARES = (0.1, 0.3, 0.5, 0.7, 0.9)
"""Of the patches, removed and imputed."""
NOISE = 0.01
"""Standard deviation of what is added to imputed pixels, in units of the normalized image."""


SHARES = (1 / 8, 1 / 4, 1 / 2)
"""Of the patches: the sizes n of the sets that are removed."""
SETS = 100
"""Random sets of each size."""


def steps(patches: int) -> np.ndarray:
    """How many patches are added or taken away at each point of a curve: from none to all, int64 (points)."""
    return np.unique(np.linspace(0, patches, min(STEPS, patches) + 1).round().astype(np.int64))


def road_counts(patches: int) -> np.ndarray:
    """How many patches ROAD removes at each of its shares: at least one, never all; int64 (shares)."""
    return np.clip(np.round(np.array(ROAD_SHARES) * patches), 1, patches - 1).astype(np.int64)


def removal(subject: Subject, maps: np.ndarray) -> dict[str, np.ndarray]:
    """How much of the target there is as patches are added or removed in the order of maps (images, patches).

    "insertion" and "deletion" are (images, points) at `steps`; insertion starts from the blurred image, deletion
    ends with the mean color. "road-most" and "road-least", the most and the least relevant patches first, are
    (images, shares), and so are "road-most-same" and "road-least-same": 1 where the target is still the prediction.
    """
    asked, patches = subject.asked, maps.shape[1]
    lots = subject.drawn("lots between equal patches", lambda random: torch.rand(patches, generator=random))
    order = most_relevant_first(maps, lots.cpu().numpy())
    place = torch.from_numpy(order.argsort(1)).to(asked.inputs.device)  # of each patch in the order
    noise = NOISE * subject.drawn("imputation", lambda random: torch.randn(asked.inputs.shape[1:], generator=random))
    road, gap = imputed(asked.inputs, noise.to(asked.inputs)), steps(patches)
    inserted = asked.about(first(place, gap), blurred(asked.inputs, asked.patch))
    deleted = asked.about(~first(place, gap), mean_color(asked.inputs))
    most = asked.about(~first(place, road_counts(patches)), road)
    least = asked.about(first(place, patches - road_counts(patches)), road)
    found = {
        "insertion": inserted.amount, "deletion": deleted.amount, "road-most": most.amount,
        "road-least": least.amount, "road-most-same": most.same, "road-least-same": least.same,
    }  # fmt: skip
    return {name: values.cpu().numpy() for name, values in found.items()}


def first(place: Tensor, counts: np.ndarray) -> Tensor:
    """Whether a patch is among the first so many: place (images, patches) to bool (images, counts, patches)."""
    return place[:, None] < torch.from_numpy(counts).to(place)[None, :, None]


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


def judge(
    subject: Subject, method: str, copies: Mapping[str, ExplainableModel], changes: np.ndarray
) -> dict[str, np.ndarray]:
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
