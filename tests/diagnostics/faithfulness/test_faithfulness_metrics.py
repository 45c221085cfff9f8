"""Metrics on a linear model, for which the best map, the worst map and the mean of random maps are known."""

import numpy as np
import pytest
import torch
from torch import nn

from vitreous.diagnostics.faithfulness.imputation import mean_color_fill
from vitreous.diagnostics.faithfulness.metrics import (
    STAGES,
    curve_counts,
    random_patch_sets,
    randomize_weights,
    removal_curves,
    road_counts,
    score_drops,
    score_maps,
    sensitivity_n,
    set_sizes,
)
from vitreous.diagnostics.faithfulness.perturbed_predictor import (
    EvaluatedBatch,
    PerturbedPredictor,
    cell_size,
    prepare_batch,
)
from vitreous.diagnostics.faithfulness.statistics import area_under_curve
from vitreous.errors import InputError
from vitreous.evaluation.intervals import bootstrap_mean
from vitreous.explanation.patch_maps import BASELINES, baseline_map, patch_maps, to_patches
from vitreous.imaging.preprocessing import Preprocessing
from vitreous.model.classifier import ImageClassifier
from vitreous.model.config import ViTConfig
from vitreous.model.vit import ViT
from vitreous.tasks.classification.targets import ClassTarget
from vitreous.tasks.targets import DirectionTarget

PATCH, GRID = 2, (3, 5)
PATCHES = GRID[0] * GRID[1]
COUNT = 24


class LinearModel(nn.Module):
    """The score is a weighted sum of the patches' means, so the contribution of each patch is known."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = torch.rand(PATCHES, generator=torch.Generator().manual_seed(1), dtype=torch.float64) + 0.1

    def contributions(self, images):
        return nn.functional.avg_pool2d(images.double().mean(1), PATCH).flatten(1) * self.weights

    def forward(self, images, trace=None):
        return self.contributions(images).sum(1, keepdim=True)


def linear_batch() -> tuple[EvaluatedBatch, np.ndarray]:
    """Return a batch of the linear model, and its true maps (images, patches)."""
    model, random = LinearModel(), torch.Generator().manual_seed(2)
    inputs = torch.rand(COUNT, 3, GRID[0] * PATCH, GRID[1] * PATCH, generator=random) + 0.2
    predictor = PerturbedPredictor(
        model, inputs, DirectionTarget(torch.ones(COUNT, 1), "sum"), PATCH, has_classes=False
    )
    return EvaluatedBatch(range(COUNT), predictor, seed=0), model.contributions(inputs).numpy()


def tiny(**options) -> ImageClassifier:
    torch.manual_seed(0)
    vit = ViT(
        ViTConfig(
            (8, 12), 4, **{"embed_dim": 16, "depth": 2, "num_heads": 2, "num_classes": 3, "reg_tokens": 1, **options}
        )
    )
    with torch.no_grad():
        for weight in vit.parameters():
            weight.normal_(std=0.3)
    names = ["cat", "dog", "eel"][: vit.config.num_classes]
    return ImageClassifier(vit, Preprocessing((8, 12), "squash", (0.5,) * 3, (0.25,) * 3, 4), names)


def images(count: int = 3) -> list[np.ndarray]:
    return list(np.random.default_rng(0).integers(0, 256, (count, 8, 12, 3), np.uint8))


def test_deletion_is_what_the_sum_says_and_the_true_map_is_best():
    batch, truth = linear_batch()
    fractions = curve_counts(PATCHES) / PATCHES
    found = {name: removal_curves(batch, maps)["deletion"] for name, maps in orders(truth).items()}
    ranked = np.sort(truth, 1)
    left = {"true": ranked, "reversed": ranked[:, ::-1]}  # the last value is removed last
    for name, parts in left.items():
        removed = np.concatenate([np.zeros((COUNT, 1)), parts[:, ::-1].cumsum(1)], 1)[:, curve_counts(PATCHES)]
        assert np.allclose(found[name], 1 - removed / truth.sum(1, keepdims=True), atol=1e-6)
    areas = {name: area_under_curve(fractions, curves) for name, curves in found.items()}
    assert (areas["true"] < areas["random"]).all() and (areas["random"] < areas["reversed"]).all()
    score = bootstrap_mean(areas["random"], "lower")
    assert score.low < 0.5 < score.high, "a random order removes as much at each step, on average"


def orders(truth: np.ndarray) -> dict[str, np.ndarray]:
    return {"true": truth, "reversed": -truth, "random": np.random.default_rng(3).random(truth.shape)}


def test_insertion_starts_from_the_blurred_image_and_ends_at_the_whole():
    batch, truth = linear_batch()
    model, inputs = batch.predictor.model, batch.predictor.inputs
    blurred = model.contributions(blur_directly(inputs)).numpy()
    gain = truth - blurred
    ranked = -np.sort(-gain, 1)
    inserted = np.concatenate([np.zeros((COUNT, 1)), ranked.cumsum(1)], 1)[:, curve_counts(PATCHES)]
    expected = (blurred.sum(1, keepdims=True) + inserted) / truth.sum(1, keepdims=True)
    found = {name: removal_curves(batch, maps)["insertion"] for name, maps in orders(gain).items()}
    assert np.allclose(found["true"], expected, atol=1e-6)
    assert np.allclose(found["true"][:, -1], 1)
    areas = [area_under_curve(curve_counts(PATCHES) / PATCHES, found[name]) for name in ("true", "random", "reversed")]
    assert (areas[0] > areas[1]).all() and (areas[1] > areas[2]).all()


def blur_directly(inputs: torch.Tensor) -> torch.Tensor:
    """Blur by the definition of the Gaussian, one pixel at a time."""
    _, _, height, width = inputs.shape
    y, x = np.mgrid[:height, :width]
    result = torch.empty_like(inputs)
    for row in range(height):
        for column in range(width):
            weights = np.exp(-((y - row) ** 2 + (x - column) ** 2) / (2 * PATCH**2))
            result[:, :, row, column] = (inputs * torch.from_numpy(weights / weights.sum())).sum((2, 3))
    return result


def test_road_ranks_the_true_map_first_and_the_reversed_last():
    model = LinearModel()
    inputs = torch.zeros(COUNT, 3, GRID[0] * PATCH, GRID[1] * PATCH)
    bright = torch.rand(COUNT, PATCHES, generator=torch.Generator().manual_seed(4))
    inputs[:] = bright.view(COUNT, 1, *GRID).repeat_interleave(PATCH, 2).repeat_interleave(PATCH, 3)
    predictor = PerturbedPredictor(
        model, inputs, DirectionTarget(torch.ones(COUNT, 1), "sum"), PATCH, has_classes=False
    )
    batch, truth = EvaluatedBatch(range(COUNT), predictor, seed=0), model.contributions(inputs).numpy()
    most = {name: removal_curves(batch, maps)["road_most"].mean() for name, maps in orders(truth).items()}
    least = {name: removal_curves(batch, maps)["road_least"].mean() for name, maps in orders(truth).items()}
    assert most["true"] < most["random"] < most["reversed"]
    assert least["true"] > least["random"] > least["reversed"]
    assert np.isclose(most["true"], least["reversed"], atol=0.02), (
        "the most relevant of one are the least relevant of the other"
    )


def test_the_sum_of_the_true_map_correlates_perfectly_with_the_score_drop():
    batch, truth = linear_batch()
    drops = score_drops(batch)
    assert drops.shape == (COUNT, len(set_sizes(PATCHES)), 100)
    assert np.allclose(sensitivity_n(batch, truth, drops), 1)
    assert np.allclose(sensitivity_n(batch, 3 - 2 * truth, drops), -1)
    random = sensitivity_n(batch, orders(truth)["random"], drops).mean(1)
    score = bootstrap_mean(random, "higher")
    assert score.low < 0 < score.high
    assert (random_patch_sets(batch, PATCHES).sum(-1).cpu() == torch.tensor(set_sizes(PATCHES))[:, None]).all()


def test_a_constant_map_removes_patches_in_random_order():
    batch, truth = linear_batch()
    values = batch.random("lots between equal patches", lambda random: torch.rand(PATCHES, generator=random))
    constant, random = (removal_curves(batch, maps)["deletion"] for maps in (np.ones_like(truth), -values.numpy()))
    assert np.array_equal(constant, random) and not (np.diff(values) > 0).all(1).any()


def test_the_batch_size_of_variants_changes_nothing():
    batch, truth = linear_batch()
    small = EvaluatedBatch(batch.indexes, PerturbedPredictor(**{**vars(batch.predictor), "batch_size": 7}), batch.seed)
    for name, values in removal_curves(batch, truth).items():
        assert np.allclose(values, removal_curves(small, truth)[name], atol=1e-6), name
    assert np.allclose(score_drops(batch), score_drops(small), atol=1e-6)


def test_an_image_alone_is_measured_as_in_a_batch():
    batch, truth = linear_batch()
    predictor = batch.predictor
    alone = PerturbedPredictor(
        predictor.model, predictor.inputs[5:6], DirectionTarget(torch.ones(1, 1), "sum"), PATCH, has_classes=False
    )
    one = EvaluatedBatch([5], alone, seed=0)
    for name, values in removal_curves(one, truth[5:6]).items():
        assert np.allclose(values, removal_curves(batch, truth)[name][5:6], atol=1e-6), name
    assert np.allclose(score_drops(one), score_drops(batch)[5:6], atol=1e-6)


def test_out_of_memory_halves_the_batch_size():
    class Narrow(LinearModel):
        def forward(self, images, trace=None):
            if len(images) > COUNT:
                raise torch.OutOfMemoryError("too many at once")
            return super().forward(images)

    batch, truth = linear_batch()
    predictor = PerturbedPredictor(**{**vars(batch.predictor), "model": Narrow(), "batch_size": 100})
    narrow = EvaluatedBatch(batch.indexes, predictor, 0)
    assert np.allclose(removal_curves(narrow, truth)["deletion"], removal_curves(batch, truth)["deletion"], atol=1e-6)
    assert predictor.batch_size == 12


@pytest.mark.parametrize("method", ["attention", "grad-cam", "input-x-gradient", *BASELINES])
def test_everything_is_measured_and_the_model_is_unchanged(method):
    model = tiny()
    before = {name: value.clone() for name, value in model.model.state_dict().items()}
    batch = prepare_batch(model, images(), [3, 1, 4])
    copies = {stage: randomize_weights(model.model, stage, 3, 0) for stage in STAGES}
    found = score_maps(batch, method, copies, score_drops(batch))
    assert all(np.isfinite(values).all() and len(values) == 3 for values in found.values())
    assert {"map", "insertion", "road_least_same", "randomized_head", "randomized_all"} <= set(found)
    assert ("randomized_all_absolute" in found) == (method == "input-x-gradient")
    assert all(torch.equal(before[name], value) for name, value in model.model.state_dict().items())
    assert all(weight.grad is None for weight in model.model.parameters())
    assert not model.model.training and torch.is_grad_enabled()
    assert not any(module._forward_hooks or module._backward_hooks for module in model.model.modules())
    if method in ("attention", "center bias"):
        assert np.allclose(found["randomized_head"], 1), "its map doesn't depend on the head"


def test_the_target_is_the_class_predicted_for_the_original_image():
    model = tiny()
    batch = prepare_batch(model, images(), range(3))
    predicted = [model.class_index(model.predict(image).label) for image in images()]
    assert batch.predictor.target.directions.argmax(1).tolist() == predicted
    kept = torch.zeros(3, 1, 6, dtype=torch.bool)
    outputs = batch.predictor.predict(kept, mean_color_fill(batch.predictor.inputs))
    empty = torch.softmax(model.model(torch.zeros(1, 3, 8, 12)).double(), 1)[0]
    assert np.allclose(outputs.value[:, 0], empty.detach()[predicted], atol=1e-6)
    assert outputs.is_predicted[:, 0].tolist() == [float(label == empty.argmax()) for label in predicted]
    assert prepare_batch(model, images(), range(3), [2, 0, 1]).predictor.target.directions.argmax(1).tolist() == [
        2,
        0,
        1,
    ]


def test_a_model_without_classes_has_its_own_features_as_target():
    model = tiny(num_classes=0)
    batch = prepare_batch(model, images(), range(3))
    copies = {stage: copy for stage in STAGES if (copy := randomize_weights(model.model, stage, 0, 0)) is not None}
    assert list(copies) == ["all"], "there is no head to randomize"
    found = score_maps(batch, "grad-cam", copies, score_drops(batch))
    assert np.allclose(found["insertion"][:, -1], 1) and np.allclose(found["deletion"][:, 0], 1)


def test_a_randomized_model_keeps_the_deviation_of_its_weights_only():
    model = tiny()
    for stage in STAGES:
        copy, again = (randomize_weights(model.model, stage, 3, 0) for _ in range(2))
        assert copy is not None and again is not None
        pairs = list(zip(model.model.named_parameters(), copy.parameters(), again.parameters(), strict=True))
        for (name, old), new, same in pairs:
            assert torch.equal(new, same)
            is_random = stage == "all" or name.startswith("head.")
            assert torch.equal(old, new) != is_random, name
            if is_random and old.numel() > 100:
                assert new.std().item() == pytest.approx(old.std().item(), rel=0.3)


@pytest.mark.parametrize(
    ("size_hw", "patch", "side"), [((224, 224), 14, 14), ((32, 48), 1, 2), ((15, 10), 1, 1), ((7, 9), 1, 1)]
)
def test_a_model_without_patches_has_cells_of_about_1_14_of_a_side(size_hw, patch, side):
    assert cell_size(size_hw, patch) == side


def test_maps_are_averaged_over_patches_which_they_must_divide():
    pixels = np.arange(24.0).reshape(4, 6)
    assert to_patches(pixels, (2, 3)).tolist() == [3.5, 5.5, 7.5, 15.5, 17.5, 19.5]
    assert to_patches(pixels, (4, 6)).tolist() == pixels.ravel().tolist()
    with pytest.raises(InputError, match="its 4 × 6 values"):
        to_patches(pixels, (3, 3))
    with pytest.raises(InputError, match="did you mean 'rollout'"):
        patch_maps(tiny().model, torch.zeros(1, 3, 8, 12), "rolout", ClassTarget(0, "cat"), (2, 3))


def test_baselines_depend_on_the_grid_only():
    center = baseline_map("center bias", (3, 5), 0, 0).reshape(3, 5)
    assert np.unravel_index(center.argmax(), center.shape) == (1, 2)
    assert np.allclose(center, center[::-1, ::-1]) and center[0, 2] == center[2, 2] < center[1, 2]
    draws = [baseline_map("random map", (3, 5), *key) for key in [(0, 0), (0, 1), (1, 0), (0, 0, "all"), (0, 0)]]
    assert np.array_equal(draws[0], draws[-1])
    assert len({draw.tobytes() for draw in draws}) == 4


@pytest.mark.parametrize("patches", [4, 15, 64, 257])
def test_counts_for_any_grid(patches):
    assert (
        curve_counts(patches)[0] == 0
        and curve_counts(patches)[-1] == patches
        and (np.diff(curve_counts(patches)) > 0).all()
    )
    assert (road_counts(patches) >= 1).all() and (road_counts(patches) < patches).all()
    assert set_sizes(patches)[0] >= 1 and set_sizes(patches)[-1] < patches
