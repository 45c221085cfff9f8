"""Gradient accumulation: the gradient equals that of the whole batch; a batch that doesn't fit gets a hint."""

import re
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_run import tiny_recipe

from vitreous.data import loader
from vitreous.data.batch import Batch
from vitreous.data.image_set import ImageSet
from vitreous.errors import InputError
from vitreous.model.vit import ViT
from vitreous.tasks.classification.loss import ClassificationLoss
from vitreous.training.accumulation import BatchDraws, GradientAccumulator, out_of_memory_hint
from vitreous.training.distributed import DistributedContext
from vitreous.training.loop import validation_batch_size
from vitreous.workflows.train import train


def gradients(**changes):
    """Return loss, correct predictions and gradient of a batch of 13; the model uses all kinds of random numbers."""
    torch.manual_seed(0)
    recipe = tiny_recipe("", precision="fp32", batch_size=13)
    recipe = replace(recipe, model=replace(recipe.model, num_classes=3, drop_path_rate=0.4), **changes)
    model = ViT(recipe.model).train()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.2 * torch.randn_like(weight))
    images, labels = torch.randn(13, 3, 12, 20), torch.randint(3, (13,))
    accumulator = GradientAccumulator(model, recipe, DistributedContext(), ClassificationLoss(recipe.label_smoothing))
    with accumulator.checkpointing():
        loss, correct = accumulator.backward(Batch(images, labels), 5)
    assert "forward" not in vars(model.blocks[0])
    return loss, correct, torch.cat([weight.grad.flatten() for weight in model.parameters()])


@settings(max_examples=8, deadline=None)
@given(st.integers(2, 13), st.booleans())
def test_micro_batches_give_the_gradient_of_the_whole_batch(steps, checkpointing):
    loss, correct, gradient = gradients()
    other_loss, other_correct, other_gradient = gradients(grad_accum_steps=steps, grad_checkpointing=checkpointing)
    assert torch.allclose(loss, other_loss, atol=1e-6) and correct == other_correct
    assert torch.allclose(gradient, other_gradient, atol=1e-5)


def test_gradient_checkpointing_changes_no_bit():
    assert all(map(torch.equal, gradients(), gradients(grad_checkpointing=True)))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_run_with_gradient_checkpointing_gives_the_same_bytes(precision, colored_folder, tmp_path):
    for name, checkpointing in (("a", False), ("b", True)):
        train(
            tiny_recipe(colored_folder, epochs=1, precision=precision, grad_checkpointing=checkpointing),
            tmp_path / name,
        )
    assert (tmp_path / "a" / "model.safetensors").read_bytes() == (tmp_path / "b" / "model.safetensors").read_bytes()


def test_random_numbers_of_a_part_are_those_of_the_whole_batch():
    torch.manual_seed(3)
    whole, next_whole = torch.rand(10, 4), torch.rand(10, 1, 1)
    for part in (slice(0, 3), slice(3, 10)):
        with BatchDraws(torch.Generator().manual_seed(3), part, 10):
            count = part.stop - part.start
            assert torch.equal(torch.rand(count, 4), whole[part])
            assert torch.equal(torch.rand(count, 1, 1), next_whole[part])
    with BatchDraws(torch.Generator(), slice(0, 3), 10), pytest.raises(AssertionError, match="not an image"):
        torch.rand(4)


def test_more_micro_batches_than_images_are_refused(colored_folder, tmp_path):
    with pytest.raises(
        InputError, match=r"batch_size is 3: .* with 4 micro-batch\(es\) each: raise it to 4 or lower grad_accum_steps"
    ):
        train(tiny_recipe(colored_folder, batch_size=3, grad_accum_steps=4), tmp_path / "run")
    with pytest.raises(InputError, match="batch_size is 114: "):  # which is all that there are
        train(tiny_recipe(colored_folder, batch_size=200, grad_accum_steps=150), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def allocate(*arguments):
    return torch.empty(2**61, dtype=torch.uint8)


def on_a_gpu(*arguments):
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")


def in_python(*arguments):
    raise MemoryError


@pytest.mark.parametrize("failing", [allocate, on_a_gpu, in_python])
def test_the_error_for_a_batch_that_does_not_fit_names_the_settings_to_change(
    failing, monkeypatch, colored_folder, tmp_path
):
    monkeypatch.setattr(ViT, "forward", failing)
    hint = "grad_accum_steps=2 or grad_checkpointing=true"
    words = rf"a batch of 16 images in 1 micro-batch\(es\) doesn't fit .* {hint}"
    with pytest.raises(InputError, match=words):
        train(tiny_recipe(colored_folder), tmp_path / "run")


def short_of_memory(monkeypatch, most, *, training):
    """Make a model fail for more than `most` images, in training or else in validation."""
    forward = ViT.forward

    def limited(self, images, trace=None):
        if self.training == training and len(images) > most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")
        return forward(self, images, trace)

    monkeypatch.setattr(ViT, "forward", limited)


@pytest.mark.parametrize(
    ("training", "words"),
    [
        (True, r"a batch of 16 images in 1 micro-batch\(es\) .* or grad_checkpointing=true, which"),
        (
            False,
            "a batch of 4 validation images doesn't fit into memory: "
            "resume \\(--resume\\) with the setting grad_accum_steps=2, which",
        ),
    ],
)
def test_the_hint_can_be_followed(training, words, monkeypatch, colored_folder, tmp_path):
    monkeypatch.setattr(loader, "INFERENCE_BATCH", 4)
    short_of_memory(monkeypatch, 8 if training else 2, training=training)
    recipe = tiny_recipe(colored_folder, epochs=1)
    with pytest.raises(InputError, match=words) as caught:
        train(recipe, tmp_path / "run")
    hint = re.search(r"resume \(--resume\) with the setting (\w+)=(\w+)", str(caught.value))
    assert train(recipe, tmp_path / "run", resume=True, settings=dict([hint.groups()])).finished


@pytest.mark.parametrize(
    ("changes", "world_size", "gradients", "hint"),
    [
        ({"grad_accum_steps": 3}, 2, True, r"grad_accum_steps=6 or grad_checkpointing=true"),
        ({"grad_accum_steps": 6, "grad_checkpointing": True}, 2, True, r"grad_accum_steps=8,"),
        ({"grad_accum_steps": 16}, 1, True, r"with the setting grad_checkpointing=true"),
        ({"grad_accum_steps": 8}, 2, False, r"start a new run with a smaller model"),
    ],
)
def test_the_hint_names_no_setting_that_is_used_already(changes, world_size, gradients, hint):
    recipe = tiny_recipe("", **changes)
    with pytest.raises(InputError, match=hint), out_of_memory_hint("all", recipe, world_size, gradients=gradients):
        raise MemoryError


def test_validation_batches_of_large_images_are_smaller():
    counts = []
    for size_hw in ((12, 20), (100, 180), (224, 224)):
        images = torch.zeros((1, 3, *size_hw), dtype=torch.uint8)
        image_set = ImageSet(images, torch.zeros(1, dtype=torch.int64), ("a", "b"))
        counts.append(
            [validation_batch_size(image_set, tiny_recipe("", grad_accum_steps=steps)) for steps in (1, 2, 16)]
        )
    assert counts == [[500, 250, 31], [100, 50, 6], [100, 50, 6]]


def test_other_errors_are_not_taken_for_out_of_memory():
    with pytest.raises(RuntimeError, match="shape"), out_of_memory_hint("all", tiny_recipe("")):
        raise RuntimeError("shape mismatch")
