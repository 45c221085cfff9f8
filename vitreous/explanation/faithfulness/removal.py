"""Patches added and taken away in a map's order: insertion, deletion (Petsiuk et al. 2018) and ROAD (Rong et al. 2022).

Of a good map, the most relevant patches bring the answer back early (insertion) and take it away early (deletion). What
a removed patch leaves behind is itself a sign to the model; ROAD fills it so that it tells as little as may be.
"""

import numpy as np
import torch
from torch import Tensor

from vitreous.evaluation.faithfulness import most_relevant_first
from vitreous.explanation.faithfulness.filling import blurred, imputed, mean_color
from vitreous.explanation.faithfulness.subject import Subject

STEPS = 16
"""Equal steps (as equal as whole patches allow) of the insertion and deletion curves."""
ROAD_SHARES = (0.1, 0.3, 0.5, 0.7, 0.9)
"""Of the patches, removed and imputed."""
NOISE = 0.01
"""Standard deviation of what is added to imputed pixels, in units of the normalized image."""


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
