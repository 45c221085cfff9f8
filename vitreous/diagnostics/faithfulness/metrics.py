"""Metrics of maps: insertion and deletion (Petsiuk et al. 2018), ROAD (Rong et al. 2022), sensitivity-n, randomization.

For a faithful map, adding the most relevant patches first restores the prediction early (insertion), and removing them
first destroys it early (deletion). The shape of removed patches itself is a signal to the model; ROAD imputes them so
that it carries little information.
"""

import copy
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from vitreous.diagnostics.faithfulness.imputation import blur_fill, imputation_fill, mean_color_fill
from vitreous.diagnostics.faithfulness.perturbed_predictor import EvaluatedBatch
from vitreous.diagnostics.faithfulness.statistics import correlation, rank_correlation, sort_patches
from vitreous.explanation.method import ExplainableModel
from vitreous.model.parameter_order import forward_order
from vitreous.runtime import generator

CURVE_STEPS = 16
"""Steps of the insertion and deletion curves, equal up to whole patches."""
ROAD_FRACTIONS = (0.1, 0.3, 0.5, 0.7, 0.9)
"""Fractions of the patches that ROAD removes and imputes."""
NOISE_LEVEL = 0.01
"""Standard deviation of the noise on imputed pixels, in units of the normalized image."""
SET_FRACTIONS = (1 / 8, 1 / 4, 1 / 2)
"""Sizes n of the removed sets of sensitivity-n, as fractions of the patches."""
SETS_PER_SIZE = 100
STAGES = ("head", "all")
"""What is randomized: the weights of the classification head, or all weights."""

# The strings passed to `random` and `generator` enter the seeds: changing them would change the numbers.


def curve_counts(patches: int) -> np.ndarray:
    """Return how many patches are added or removed at each point of a curve, from none to all: int64 (points)."""
    return np.unique(np.linspace(0, patches, min(CURVE_STEPS, patches) + 1).round().astype(np.int64))


def road_counts(patches: int) -> np.ndarray:
    """Return how many patches ROAD removes at each fraction, at least one and never all: int64 (fractions)."""
    return np.clip(np.round(np.array(ROAD_FRACTIONS) * patches), 1, patches - 1).astype(np.int64)


def removal_curves(batch: EvaluatedBatch, maps: np.ndarray) -> dict[str, np.ndarray]:
    """Measure the target's value as patches are added or removed in the order of maps, float64 (images, patches).

    Returns:
        "insertion" and "deletion", (images, points) at `curve_counts`: insertion starts from the blurred image,
        deletion ends with the mean color. "road_most" and "road_least", (images, fractions), remove the most and the
        least relevant patches first. "road_most_same" and "road_least_same" are 1 where the target is still predicted.
    """
    predictor, patches = batch.predictor, maps.shape[1]
    ties = batch.random("lots between equal patches", lambda random: torch.rand(patches, generator=random))
    order = sort_patches(maps, ties.cpu().numpy())
    rank = torch.from_numpy(order.argsort(1)).to(predictor.inputs.device)
    shape = predictor.inputs.shape[1:]
    noise = NOISE_LEVEL * batch.random("imputation", lambda random: torch.randn(shape, generator=random))
    road, counts = imputation_fill(predictor.inputs, noise.to(predictor.inputs)), curve_counts(patches)
    inserted = predictor.predict(top_k_mask(rank, counts), blur_fill(predictor.inputs, predictor.patch_size))
    deleted = predictor.predict(~top_k_mask(rank, counts), mean_color_fill(predictor.inputs))
    most = predictor.predict(~top_k_mask(rank, road_counts(patches)), road)
    least = predictor.predict(top_k_mask(rank, patches - road_counts(patches)), road)
    found = {
        "insertion": inserted.value, "deletion": deleted.value, "road_most": most.value, "road_least": least.value,
        "road_most_same": most.is_predicted, "road_least_same": least.is_predicted,
    }  # fmt: skip
    return {name: values.cpu().numpy() for name, values in found.items()}


def top_k_mask(rank: Tensor, counts: np.ndarray) -> Tensor:
    """Return whether a patch is among the first k, from ranks (images, patches): bool (images, counts, patches)."""
    return rank[:, None] < torch.from_numpy(counts).to(rank)[None, :, None]


def set_sizes(patches: int) -> tuple[int, ...]:
    """Return the sizes n of the removed sets for a model with so many patches."""
    return tuple(sorted({max(1, round(fraction * patches)) for fraction in SET_FRACTIONS}))


def random_patch_sets(batch: EvaluatedBatch, patches: int, sets: int = SETS_PER_SIZE) -> Tensor:
    """Draw random sets of patches for each image, the same for all methods: bool (images, sizes, sets, patches)."""
    shape = (len(set_sizes(patches)), sets, patches)
    values = batch.random("sets", lambda random: torch.rand(shape, generator=random))
    sizes = torch.tensor(set_sizes(patches), device=values.device)[:, None, None]
    return values.argsort(-1).argsort(-1) < sizes


def score_drops(batch: EvaluatedBatch, sets: int = SETS_PER_SIZE) -> np.ndarray:
    """Measure by how much the score drops when a random set becomes the mean color: (images, sizes, sets)."""
    rows, columns = batch.predictor.grid_size
    removed = random_patch_sets(batch, rows * columns, sets)
    scores = batch.predictor.predict(~removed.flatten(1, 2), mean_color_fill(batch.predictor.inputs)).score
    return (batch.predictor.original_score().double() - scores).view(removed.shape[:3]).cpu().numpy()


def sensitivity_n(batch: EvaluatedBatch, maps: np.ndarray, drops: np.ndarray) -> np.ndarray:
    """Correlate the sum of a map over a set with the drop of the score (Ancona et al. 2018): (images, sizes).

    Args:
        batch: the images.
        maps: float64 (images, patches).
        drops: of `score_drops`.
    """
    removed = random_patch_sets(batch, maps.shape[1], drops.shape[2]).cpu().numpy()
    sums = np.einsum("pskn,pn->psk", removed.astype(np.float64), maps)
    images, sizes, sets = sums.shape
    return correlation(sums.reshape(-1, sets), drops.reshape(-1, sets)).reshape(images, sizes)


def score_maps(
    batch: EvaluatedBatch, method: str, copies: Mapping[str, ExplainableModel], drops: np.ndarray
) -> dict[str, np.ndarray]:
    """Measure everything about the maps of a method or a baseline; the first axis of each value is the images.

    Besides the values of `removal_curves`: "map" (images, patches), the map itself; "sensitivity_N" for each set size;
    and for each randomized copy "randomized_STAGE", the rank correlation of its map with that of the model, for signed
    maps also that of the absolute values, "randomized_STAGE_absolute".

    Args:
        batch: the images.
        method: name of the method or baseline.
        copies: models with randomized weights, by stage.
        drops: of `score_drops`, the same for all methods.

    Raises:
        InputError: the method can't explain this model.
    """
    maps, is_signed = batch.patch_maps(method)
    found = {"map": maps, **removal_curves(batch, maps)}
    for size, column in zip(set_sizes(maps.shape[1]), sensitivity_n(batch, maps, drops).T, strict=True):
        found[f"sensitivity_{size}"] = column
    for stage, model in copies.items():
        randomized, _ = batch.patch_maps(method, model, stage)
        found[f"randomized_{stage}"] = rank_correlation(maps, randomized)
        if is_signed:
            found[f"randomized_{stage}_absolute"] = rank_correlation(np.abs(maps), np.abs(randomized))
    return found


def randomize_weights(model: nn.Module, stage: str, num_classes: int, seed: int) -> nn.Module | None:
    """Return a copy of the model with randomized weights (Adebayo et al. 2018, section 3); the model is unchanged.

    Each weight tensor keeps its mean and standard deviation, so that the layers work in the range that they were made
    for. None for the head of a model in which no head is found.
    """
    assert stage in STAGES, stage
    randomized = copy.deepcopy(model)
    part = randomized if stage == "all" else classification_head(randomized, num_classes)
    if part is None:
        return None
    _redraw(part, generator(seed, "randomised weights", stage))
    return randomized


def classification_head(model: nn.Module, num_classes: int) -> nn.Linear | None:
    """Return the last linear layer of a model with so many outputs, whatever its name."""
    found = [part for part in model.modules() if isinstance(part, nn.Linear) and part.out_features == num_classes]
    return found[-1] if found else None


@torch.no_grad()
def _redraw(part: nn.Module, random: torch.Generator) -> None:
    """Draw the parameters anew, in place, each from a normal distribution with its own mean and standard deviation."""
    parameters = dict(part.named_parameters())
    for names in forward_order(part):
        weights: list[Tensor] = [parameters[name] for name in names]
        joined = weights[0] if len(weights) == 1 else torch.cat(weights, 1)
        drawn = torch.randn(joined.shape, generator=random).to(joined)
        drawn = joined.mean() + joined.std(correction=0) * drawn
        parts = [drawn] if len(weights) == 1 else drawn.split([weight.shape[1] for weight in weights], 1)
        for weight, values in zip(weights, parts, strict=True):
            weight.copy_(values)
