"""Known truth: a model that adds up patches, so that the best map, the worst one and a random one's mean are known."""

import numpy as np
import pytest
import torch
from torch import nn
from vitreous.diagnostics.faithfulness.randomization import STAGES, randomized

from vitreous.diagnostics.faithfulness.imputation import mean_color
from vitreous.diagnostics.faithfulness.metrics import (
    judge,
    removal,
    removed_sets,
    road_counts,
    score_changes,
    sensitivity,
    set_sizes,
    steps,
)
from vitreous.diagnostics.faithfulness.perturbed_predictor import Asked, Subject, subject, unit_side
from vitreous.diagnostics.faithfulness.statistics import area
from vitreous.errors import InputError
from vitreous.evaluation.intervals import bootstrap_mean
from vitreous.explanation.patch_maps import BASELINES, baseline_map, patch_maps, to_patches
from vitreous.explanation.targets import ClassTarget, DirectionTarget
from vitreous.imaging.preprocessing import Preprocessing
from vitreous.model.classifier import ImageClassifier
from vitreous.model.config import ViTConfig
from vitreous.model.vit import ViT

PATCH, GRID = 2, (3, 5)
PATCHES = GRID[0] * GRID[1]
COUNT = 24


class Adding(nn.Module):
    """The score is the weighted sum of the patches' means: linear, and each patch's part in it is known."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = torch.rand(PATCHES, generator=torch.Generator().manual_seed(1), dtype=torch.float64) + 0.1

    def parts(self, images):
        return nn.functional.avg_pool2d(images.double().mean(1), PATCH).flatten(1) * self.weights

    def forward(self, images, trace=None):
        return self.parts(images).sum(1, keepdim=True)


def adding() -> tuple[Subject, np.ndarray]:
    """Images under examination by the adding model, and its true maps (images, patches)."""
    model, random = Adding(), torch.Generator().manual_seed(2)
    inputs = torch.rand(COUNT, 3, GRID[0] * PATCH, GRID[1] * PATCH, generator=random) + 0.2
    asked = Asked(model, inputs, DirectionTarget(torch.ones(COUNT, 1), "sum"), PATCH, has_classes=False)
    return Subject(range(COUNT), asked, seed=0), model.parts(inputs).numpy()


def tiny(**options) -> ImageClassifier:
    torch.manual_seed(0)
    vit = ViT(ViTConfig((8, 12), 4, **{"embed_dim": 16, "depth": 2, "num_heads": 2, "num_classes": 3, "reg_tokens": 1, **options}))
    with torch.no_grad():
        for weight in vit.parameters():
            weight.normal_(std=0.3)
    names = ["cat", "dog", "eel"][: vit.config.num_classes]
    return ImageClassifier(vit, Preprocessing((8, 12), "squash", (0.5,) * 3, (0.25,) * 3, 4), names)


def images(count: int = 3) -> list[np.ndarray]:
    return list(np.random.default_rng(0).integers(0, 256, (count, 8, 12, 3), np.uint8))


def test_deletion_is_what_the_sum_says_and_the_true_map_is_best():
    examined, truth = adding()
    shares = steps(PATCHES) / PATCHES
    found = {name: removal(examined, maps)["deletion"] for name, maps in orders(truth).items()}
    ranked = np.sort(truth, 1)
    left = {"true": ranked, "reversed": ranked[:, ::-1]}  # what stays longest comes last
    for name, parts in left.items():
        removed = np.concatenate([np.zeros((COUNT, 1)), parts[:, ::-1].cumsum(1)], 1)[:, steps(PATCHES)]
        assert np.allclose(found[name], 1 - removed / truth.sum(1, keepdims=True), atol=1e-6)
    areas = {name: area(shares, curves) for name, curves in found.items()}
    assert (areas["true"] < areas["random"]).all() and (areas["random"] < areas["reversed"]).all()
    score = bootstrap_mean(areas["random"], "lower")
    assert score.low < 0.5 < score.high, "a random order takes away as much at each step, on the mean"


def orders(truth: np.ndarray) -> dict[str, np.ndarray]:
    return {"true": truth, "reversed": -truth, "random": np.random.default_rng(3).random(truth.shape)}


def test_insertion_starts_from_the_blurred_image_and_ends_at_the_whole():
    examined, truth = adding()
    model, inputs = examined.asked.model, examined.asked.inputs
    soft = model.parts(plainly_blurred(inputs)).numpy()
    gain = truth - soft
    ranked = -np.sort(-gain, 1)
    inserted = np.concatenate([np.zeros((COUNT, 1)), ranked.cumsum(1)], 1)[:, steps(PATCHES)]
    expected = (soft.sum(1, keepdims=True) + inserted) / truth.sum(1, keepdims=True)
    found = {name: removal(examined, maps)["insertion"] for name, maps in orders(gain).items()}
    assert np.allclose(found["true"], expected, atol=1e-6)
    assert np.allclose(found["true"][:, -1], 1)
    areas = [area(steps(PATCHES) / PATCHES, found[name]) for name in ("true", "random", "reversed")]
    assert (areas[0] > areas[1]).all() and (areas[1] > areas[2]).all()


def plainly_blurred(inputs: torch.Tensor) -> torch.Tensor:
    """Gaussian blur by its definition, a pixel at a time."""
    _, _, height, width = inputs.shape
    y, x = np.mgrid[:height, :width]
    result = torch.empty_like(inputs)
    for row in range(height):
        for column in range(width):
            weights = np.exp(-((y - row) ** 2 + (x - column) ** 2) / (2 * PATCH**2))
            result[:, :, row, column] = (inputs * torch.from_numpy(weights / weights.sum())).sum((2, 3))
    return result


def test_road_ranks_the_true_map_first_and_the_reversed_last():
    model = Adding()
    inputs = torch.zeros(COUNT, 3, GRID[0] * PATCH, GRID[1] * PATCH)
    bright = torch.rand(COUNT, PATCHES, generator=torch.Generator().manual_seed(4))
    inputs[:] = bright.view(COUNT, 1, *GRID).repeat_interleave(PATCH, 2).repeat_interleave(PATCH, 3)
    asked = Asked(model, inputs, DirectionTarget(torch.ones(COUNT, 1), "sum"), PATCH, has_classes=False)
    examined, truth = Subject(range(COUNT), asked, seed=0), model.parts(inputs).numpy()
    most = {name: removal(examined, maps)["road-most"].mean() for name, maps in orders(truth).items()}
    least = {name: removal(examined, maps)["road-least"].mean() for name, maps in orders(truth).items()}
    assert most["true"] < most["random"] < most["reversed"]
    assert least["true"] > least["random"] > least["reversed"]
    assert np.isclose(most["true"], least["reversed"], atol=0.02), "one's most relevant are the other's least"


def test_the_true_maps_sum_says_exactly_what_removing_does():
    examined, truth = adding()
    changes = score_changes(examined)
    assert changes.shape == (COUNT, len(set_sizes(PATCHES)), 100)
    assert np.allclose(sensitivity(examined, truth, changes), 1)
    assert np.allclose(sensitivity(examined, 3 - 2 * truth, changes), -1)
    random = sensitivity(examined, orders(truth)["random"], changes).mean(1)
    score = bootstrap_mean(random, "higher")
    assert score.low < 0 < score.high
    assert (removed_sets(examined, PATCHES).sum(-1).cpu() == torch.tensor(set_sizes(PATCHES))[:, None]).all()


def test_a_flat_map_takes_away_patches_by_lot():
    examined, truth = adding()
    lots = examined.drawn("lots between equal patches", lambda random: torch.rand(PATCHES, generator=random))
    flat, by_lot = (removal(examined, maps)["deletion"] for maps in (np.ones_like(truth), -lots.numpy()))
    assert np.array_equal(flat, by_lot) and not (np.diff(lots) > 0).all(1).any()


def test_how_many_are_asked_at_once_changes_nothing():
    examined, truth = adding()
    few = Subject(examined.numbers, Asked(**{**vars(examined.asked), "at_once": 7}), examined.seed)
    for name, values in removal(examined, truth).items():
        assert np.allclose(values, removal(few, truth)[name], atol=1e-6), name
    assert np.allclose(score_changes(examined), score_changes(few), atol=1e-6)


def test_an_image_alone_is_judged_as_in_company():
    examined, truth = adding()
    asked = examined.asked
    alone = Asked(asked.model, asked.inputs[5:6], DirectionTarget(torch.ones(1, 1), "sum"), PATCH, has_classes=False)
    one = Subject([5], alone, seed=0)
    for name, values in removal(one, truth[5:6]).items():
        assert np.allclose(values, removal(examined, truth)[name][5:6], atol=1e-6), name
    assert np.allclose(score_changes(one), score_changes(examined)[5:6], atol=1e-6)


def test_memory_that_is_short_halves_the_batch():
    class Narrow(Adding):
        def forward(self, images, trace=None):
            if len(images) > COUNT:
                raise torch.OutOfMemoryError("too many at once")
            return super().forward(images)

    examined, truth = adding()
    asked = Asked(**{**vars(examined.asked), "model": Narrow(), "at_once": 100})
    narrow = Subject(examined.numbers, asked, 0)
    assert np.allclose(removal(narrow, truth)["deletion"], removal(examined, truth)["deletion"], atol=1e-6)
    assert asked.at_once == 12


@pytest.mark.parametrize("method", ["attention", "grad-cam", "input-x-gradient", *BASELINES])
def test_everything_is_measured_and_nothing_is_left_on_the_model(method):
    model = tiny()
    before = {name: value.clone() for name, value in model.model.state_dict().items()}
    examined = subject(model, images(), [3, 1, 4])
    copies = {stage: randomized(model.model, stage, 3, 0) for stage in STAGES}
    found = judge(examined, method, copies, score_changes(examined))
    assert all(np.isfinite(values).all() and len(values) == 3 for values in found.values())
    assert {"map", "insertion", "road-least-same", "randomized-head", "randomized-all"} <= set(found)
    assert ("randomized-all-absolute" in found) == (method == "input-x-gradient")
    assert all(torch.equal(before[name], value) for name, value in model.model.state_dict().items())
    assert all(weight.grad is None for weight in model.model.parameters())
    assert not model.model.training and torch.is_grad_enabled()
    assert not any(module._forward_hooks or module._backward_hooks for module in model.model.modules())
    if method in ("attention", "centerd blob"):
        assert np.allclose(found["randomized-head"], 1), "its map is the same whatever the head"


def test_the_target_stays_the_class_that_was_predicted_at_first():
    model = tiny()
    examined = subject(model, images(), range(3))
    predicted = [model.class_index(model.predict(image).label) for image in images()]
    assert examined.asked.target.directions.argmax(1).tolist() == predicted
    kept = torch.zeros(3, 1, 6, dtype=torch.bool)
    answers = examined.asked.about(kept, mean_color(examined.asked.inputs))
    empty = torch.softmax(model.model(torch.zeros(1, 3, 8, 12)).double(), 1)[0]
    assert np.allclose(answers.amount[:, 0], empty.detach()[predicted], atol=1e-6)
    assert answers.same[:, 0].tolist() == [float(label == empty.argmax()) for label in predicted]
    assert subject(model, images(), range(3), [2, 0, 1]).asked.target.directions.argmax(1).tolist() == [2, 0, 1]


def test_a_model_without_classes_is_asked_for_its_own_vector():
    model = tiny(num_classes=0)
    examined = subject(model, images(), range(3))
    copies = {stage: copy for stage in STAGES if (copy := randomized(model.model, stage, 0, 0)) is not None}
    assert list(copies) == ["all"], "there is no head to forget"
    found = judge(examined, "grad-cam", copies, score_changes(examined))
    assert np.allclose(found["insertion"][:, -1], 1) and np.allclose(found["deletion"][:, 0], 1)


def test_a_randomized_model_keeps_the_size_of_its_weights_and_nothing_else():
    model = tiny()
    for stage in STAGES:
        copy, again = (randomized(model.model, stage, 3, 0) for _ in range(2))
        assert copy is not None and again is not None
        pairs = list(zip(model.model.named_parameters(), copy.parameters(), again.parameters(), strict=True))
        for (name, old), new, same in pairs:
            assert torch.equal(new, same)
            forgotten = stage == "all" or name.startswith("head.")
            assert torch.equal(old, new) != forgotten, name
            if forgotten and old.numel() > 100:
                assert new.std().item() == pytest.approx(old.std().item(), rel=0.3)


@pytest.mark.parametrize(
    ("size_hw", "patch", "side"), [((224, 224), 14, 14), ((32, 48), 1, 2), ((15, 10), 1, 1), ((7, 9), 1, 1)]
)
def test_a_model_without_patches_loses_squares_of_about_a_14th(size_hw, patch, side):
    assert unit_side(size_hw, patch) == side


def test_maps_are_averaged_over_patches_and_refused_where_they_do_not_fit():
    pixels = np.arange(24.0).reshape(4, 6)
    assert to_patches(pixels, (2, 3)).tolist() == [3.5, 5.5, 7.5, 15.5, 17.5, 19.5]
    assert to_patches(pixels, (4, 6)).tolist() == pixels.ravel().tolist()
    with pytest.raises(InputError, match="its 4 × 6 values"):
        to_patches(pixels, (3, 3))
    with pytest.raises(InputError, match="did you mean 'rollout'"):
        patch_maps(tiny().model, torch.zeros(1, 3, 8, 12), "rolout", ClassTarget(0, "cat"), (2, 3))


def test_baselines_know_the_grid_and_nothing_else():
    blob = baseline_map("centerd blob", (3, 5), 0, 0).reshape(3, 5)
    assert np.unravel_index(blob.argmax(), blob.shape) == (1, 2)
    assert np.allclose(blob, blob[::-1, ::-1]) and blob[0, 2] == blob[2, 2] < blob[1, 2]
    draws = [baseline_map("random map", (3, 5), *key) for key in [(0, 0), (0, 1), (1, 0), (0, 0, "all"), (0, 0)]]
    assert np.array_equal(draws[0], draws[-1])
    assert len({draw.tobytes() for draw in draws}) == 4


@pytest.mark.parametrize("patches", [4, 15, 64, 257])
def test_steps_and_shares_of_any_grid(patches):
    assert steps(patches)[0] == 0 and steps(patches)[-1] == patches and (np.diff(steps(patches)) > 0).all()
    assert (road_counts(patches) >= 1).all() and (road_counts(patches) < patches).all()
    assert set_sizes(patches)[0] >= 1 and set_sizes(patches)[-1] < patches
