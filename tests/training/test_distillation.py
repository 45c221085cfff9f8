"""Distillation: the loss is that of its paper, the teacher treats each image by itself, and only the ViT is saved."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from tiny_run import tiny_recipe
from torch.nn import functional

from vitreous.data.batch import Batch
from vitreous.errors import InputError
from vitreous.model.vit import ViT
from vitreous.records import override
from vitreous.runs.run_folder import RunFolder
from vitreous.tasks.classification.loss import ClassificationLoss, distillation_loss
from vitreous.training.accumulation import GradientAccumulator
from vitreous.training.checkpoint import initial_state
from vitreous.training.distillation import DistillationSettings, Teacher
from vitreous.training.distributed import DistributedContext
from vitreous.training.recipe import Recipe
from vitreous.workflows.train import train

SETTINGS = DistillationSettings(weight=0.6, teacher_width=3)


def recipe_with(**changes) -> Recipe:
    return tiny_recipe("", precision="fp32", batch_size=13, **{"distillation": SETTINGS, **changes})


def make_teacher(**changes) -> Teacher:
    torch.manual_seed(0)
    one = Teacher(DistillationSettings(weight=0.5, teacher_width=4, **changes), recipe_with().model)
    torch.nn.init.normal_(one.head.weight)
    return one


@given(st.floats(0.5, 8), st.integers(0, 2**31))
@settings(max_examples=20, deadline=None)
def test_the_distillation_loss_is_the_divergence_times_the_temperature_squared(temperature, seed):
    torch.manual_seed(seed)
    logits, teacher_logits = (
        torch.randn(6, 4, dtype=torch.float64, requires_grad=True),
        torch.randn(6, 4, dtype=torch.float64),
    )
    (ours,) = torch.autograd.grad(distillation_loss(logits, teacher_logits, temperature), logits)
    terms = functional.kl_div(
        (logits / temperature).log_softmax(1), (teacher_logits / temperature).softmax(1), reduction="batchmean"
    )
    (theirs,) = torch.autograd.grad(terms * temperature**2, logits)
    assert torch.allclose(ours, theirs, atol=1e-6)


def test_weights_give_a_weighted_mean_and_the_teacher_gets_no_gradient():
    torch.manual_seed(0)
    logits, teacher_logits = torch.randn(3, 4), torch.randn(3, 4, requires_grad=True)
    each = torch.stack([distillation_loss(logits[i : i + 1], teacher_logits[i : i + 1], 2.0) for i in range(3)])
    weights = torch.tensor([1.0, 0.0, 3.0])
    assert distillation_loss(logits, teacher_logits, 2.0, weights) == pytest.approx((each[0] + 3 * each[2]).item() / 4)
    assert not distillation_loss(logits, teacher_logits, 2.0).requires_grad


@pytest.mark.parametrize("size_hw", [(12, 20), (4, 8), (5, 3)])
def test_a_teacher_classifies_each_image_by_itself_at_any_size(size_hw):
    one, images = make_teacher(), torch.randn(5, 3, *size_hw)
    together = one(images)
    assert together.shape == (5, recipe_with().model.num_classes) and together.std() > 0.01
    assert torch.allclose(torch.cat([one(image[None]) for image in images]), together, atol=1e-5)


def test_its_first_channels_start_as_the_input_channels():
    block = make_teacher().blocks[0]
    kernel = block.weight.unflatten(1, (3, 3, -1)).permute(0, 3, 1, 2)
    images = torch.randn(2, 3, 6, 6)
    assert torch.allclose(functional.conv2d(images, kernel, padding=1)[:, :3], images)


def model_and_teacher(recipe: Recipe) -> tuple[ViT, Teacher, torch.Tensor, torch.Tensor]:
    """Return a model and a teacher whose outputs differ between images, and images and labels."""
    torch.manual_seed(0)
    model = ViT(recipe.model).train()
    state = initial_state(model, recipe)
    assert state.teacher is not None
    with torch.no_grad():
        for weight in (*model.parameters(), *state.teacher.parameters()):
            weight.add_(0.2 * torch.randn_like(weight))
    return model, state.teacher, torch.randn(13, 3, 12, 20), torch.randint(3, (13,))


def gradients_of(*models: torch.nn.Module) -> torch.Tensor:
    found = [weight.grad.flatten() for model in models for weight in model.parameters() if weight.grad is not None]
    assert len(found) == sum(len(list(model.parameters())) for model in models)
    assert all(gradient.abs().max() > 0 for gradient in found)
    return torch.cat(found)


@pytest.mark.parametrize("steps", [2, 5, 13])
def test_micro_batches_give_the_gradient_of_the_whole_batch(steps):
    found = []
    for count in (1, steps):
        recipe = override(recipe_with(), {"grad_accum_steps": count, "model.num_classes": 3})
        model, own, images, labels = model_and_teacher(recipe)
        task_loss = ClassificationLoss(recipe.label_smoothing, torch.tensor([1.0, 2.0, 0.5]))
        accumulator = GradientAccumulator(model, recipe, DistributedContext(), task_loss, own)
        loss, _ = accumulator.backward(Batch(images, labels), 5)
        found.append((loss, gradients_of(model, own)))
    (loss, gradient), (other_loss, other_gradient) = found
    assert torch.allclose(loss, other_loss, atol=1e-6) and torch.allclose(gradient, other_gradient, atol=1e-5)


@pytest.mark.parametrize("weights", [None, torch.tensor([1.0, 2.0, 0.5])])
def test_the_weight_mixes_the_loss_on_the_labels_with_distillation(weights):
    changes = {"model.num_classes": 3, "model.patch_drop_rate": 0, "model.drop_path_rate": 0}
    recipe = override(recipe_with(), changes)
    model, own, images, labels = model_and_teacher(recipe)
    accumulator = GradientAccumulator(
        model, recipe, DistributedContext(), ClassificationLoss(recipe.label_smoothing, weights), own
    )
    loss, _ = accumulator.backward(Batch(images, labels), 5)
    ours = gradients_of(model, own)
    model.zero_grad()
    own.zero_grad()
    logits, teacher_logits = model(images), own(images)
    hard = functional.cross_entropy(logits, labels, weights, label_smoothing=recipe.label_smoothing)
    distilled = distillation_loss(logits, teacher_logits, 2.0, None if weights is None else weights[labels])
    (0.4 * hard + 0.6 * distilled + functional.cross_entropy(teacher_logits, labels, weights)).backward()
    assert loss == pytest.approx(hard.item(), abs=1e-6)
    assert torch.allclose(ours, gradients_of(model, own), atol=1e-5)


def test_the_teacher_is_in_the_checkpoint_but_not_in_the_saved_model(colored_folder, tmp_path):
    recipe = tiny_recipe(colored_folder, epochs=1, distillation=SETTINGS, ema_decay=None)
    train(recipe, tmp_path / "run")
    model, saved = load_file(tmp_path / "run" / "model.safetensors"), load_file(RunFolder(tmp_path / "run").checkpoint)
    assert {name.removeprefix("model/") for name in saved if name.startswith("model/")} == set(model)
    assert any(name.startswith("teacher/") for name in saved)
    assert any(name.startswith("optimizer/teacher-muon/") for name in saved)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"distillation.weight": "1"}, "distillation.weight is 1"),
        ({"distillation.weight": "-0.1"}, "at least 0"),
        ({"distillation.temperature": "0"}, "above 0"),
        ({"distillation.teacher_width": "0"}, "it must be 1 to 10,000 channels"),
        ({"distillation.teacher_learning_rate": "-1"}, r"distillation\.teacher_learning_rate is -1"),
        ({"distillation.teacher_adamw_learning_rate": "nan"}, r"distillation\.teacher_adamw_learning_rate is nan"),
        ({"fsdp": "true"}, "leave out fsdp"),
    ],
)
def test_settings_out_of_range_are_refused(changes, words):
    with pytest.raises(InputError, match=words):
        override(recipe_with(), changes)
