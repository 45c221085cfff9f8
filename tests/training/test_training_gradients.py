"""The gradient of a batch is the same in parts as in one, and one that doesn't fit says what to change."""

import re
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from runs import tiny_recipe

from vitreous.data import loader
from vitreous.data.image_set import ImageSet
from vitreous.errors import InputError
from vitreous.model.vit import ViT
from vitreous.training.accumulation import GradientAccumulator, global_rng_draws, out_of_memory_hint
from vitreous.training.distributed import DistributedContext
from vitreous.training.loop import validation_batch_size
from vitreous.workflows.train import train


def gradients(**changes):
    """Loss, images told right, and the gradient of a batch of 13, on a model with all random numbers there are."""
    torch.manual_seed(0)
    recipe = tiny_recipe("", precision="fp32", batch_size=13)
    recipe = replace(recipe, model=replace(recipe.model, num_classes=3, drop_path_rate=0.4), **changes)
    model = ViT(recipe.model).train()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.2 * torch.randn_like(weight))
    images, labels = torch.randn(13, 3, 12, 20), torch.randint(3, (13,))
    learner = GradientAccumulator(model, recipe, DistributedContext())
    with learner.checkpointing():
        loss, right = learner.backward(images, labels, 5)
    assert "forward" not in vars(model.blocks[0])
    return loss, right, torch.cat([weight.grad.flatten() for weight in model.parameters()])


@settings(max_examples=8, deadline=None)
@given(st.integers(2, 13), st.booleans())
def test_parts_make_the_whole(parts, again):
    loss, right, gradient = gradients()
    loss_in_parts, right_in_parts, gradient_in_parts = gradients(accumulate=parts, checkpoint_activations=again)
    assert torch.allclose(loss, loss_in_parts, atol=1e-6) and right == right_in_parts
    assert torch.allclose(gradient, gradient_in_parts, atol=1e-5)


def test_activations_computed_again_change_no_bit():
    assert all(map(torch.equal, gradients(), gradients(checkpoint_activations=True)))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_run_that_computes_activations_again_gives_the_same_bytes(precision, colored_folder, tmp_path):
    for name, again in (("a", False), ("b", True)):
        train(tiny_recipe(colored_folder, epochs=1, precision=precision, checkpoint_activations=again), tmp_path / name)
    assert (tmp_path / "a" / "model.safetensors").read_bytes() == (tmp_path / "b" / "model.safetensors").read_bytes()


def test_random_numbers_of_a_part_are_those_of_the_whole():
    torch.manual_seed(3)
    whole, next_whole = torch.rand(10, 4), torch.rand(10, 1, 1)
    for part in (slice(0, 3), slice(3, 10)):
        torch.manual_seed(3)
        with global_rng_draws(part, 10):
            count = part.stop - part.start
            assert torch.equal(torch.rand(count, 4), whole[part])
            assert torch.equal(torch.rand(count, 1, 1), next_whole[part])
    with global_rng_draws(slice(0, 3), 10), pytest.raises(AssertionError, match="no image's"):
        torch.rand(4)


def test_more_parts_than_images_are_refused(colored_folder, tmp_path):
    with pytest.raises(InputError, match=r"batch_size is 3: .* in 4 part\(s\) each: raise it to 4 or lower accumulate"):
        train(tiny_recipe(colored_folder, batch_size=3, accumulate=4), tmp_path / "run")
    with pytest.raises(InputError, match="batch_size is 114: "):  # which is all that there are
        train(tiny_recipe(colored_folder, batch_size=200, accumulate=150), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def allocate(*arguments):
    return torch.empty(2**61, dtype=torch.uint8)


def on_a_gpu(*arguments):
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")


def in_python(*arguments):
    raise MemoryError


@pytest.mark.parametrize("failing", [allocate, on_a_gpu, in_python])
def test_a_batch_that_does_not_fit_says_what_to_change(failing, monkeypatch, colored_folder, tmp_path):
    monkeypatch.setattr(ViT, "forward", failing)
    words = r"a batch of 16 images in 1 part\(s\) doesn't fit .* accumulate=2 or --set checkpoint_activations=true"
    with pytest.raises(InputError, match=words):
        train(tiny_recipe(colored_folder), tmp_path / "run")


def short_of_memory(monkeypatch, most, *, training):
    """Have a model in training, or else in validation, fail for more than `most` images."""
    forward = ViT.forward

    def limited(self, images, trace=None):
        if self.training == training and len(images) > most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")
        return forward(self, images, trace)

    monkeypatch.setattr(ViT, "forward", limited)


@pytest.mark.parametrize(
    ("training", "words"),
    [
        (True, r"a batch of 16 images in 1 part\(s\) .* or --set checkpoint_activations=true, which"),
        (
            False,
            "a part of 4 validation images doesn't fit into memory: go on with --resume --set accumulate=2, which",
        ),
    ],
)
def test_the_advice_can_be_followed(training, words, monkeypatch, colored_folder, tmp_path):
    monkeypatch.setattr(loader, "AT_ONCE", 4)
    short_of_memory(monkeypatch, 8 if training else 2, training=training)
    recipe = tiny_recipe(colored_folder, epochs=1)
    with pytest.raises(InputError, match=words) as caught:
        train(recipe, tmp_path / "run")
    advised = re.search(r"go on with --resume --set (\w+)=(\w+)", str(caught.value))
    assert train(recipe, tmp_path / "run", resume=True, settings=dict([advised.groups()])).finished


@pytest.mark.parametrize(
    ("changes", "processes", "gradients", "advice"),
    [
        ({"accumulate": 3}, 2, True, r"--set accumulate=6 or --set checkpoint_activations=true"),
        ({"accumulate": 6, "checkpoint_activations": True}, 2, True, r"--set accumulate=8,"),
        ({"accumulate": 16}, 1, True, r"--resume --set checkpoint_activations=true"),
        ({"accumulate": 8}, 2, False, r"start a new run with a smaller model"),
    ],
)
def test_nothing_is_advised_that_is_done_already(changes, processes, gradients, advice):
    recipe = tiny_recipe("", **changes)
    with pytest.raises(InputError, match=advice), out_of_memory_hint("all", recipe, processes, gradients=gradients):
        raise MemoryError


def test_large_images_are_validated_fewer_at_once():
    counts = []
    for size_hw in ((12, 20), (100, 180), (224, 224)):
        images = torch.zeros((1, 3, *size_hw), dtype=torch.uint8)
        image_set = ImageSet(images, torch.zeros(1, dtype=torch.int64), ("a", "b"))
        counts.append([validation_batch_size(image_set, tiny_recipe("", accumulate=parts)) for parts in (1, 2, 16)])
    assert counts == [[500, 250, 31], [100, 50, 6], [100, 50, 6]]


def test_other_errors_are_not_taken_for_want_of_memory():
    with pytest.raises(RuntimeError, match="shape"), out_of_memory_hint("all", tiny_recipe("")):
        raise RuntimeError("shape mismatch")
