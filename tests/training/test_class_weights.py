"""Class weights: loss and gradient equal torch's own weighted loss, also in micro-batches and over processes."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from tiny_run import RecordingCallback, tiny_recipe
from torch import nn

from vitreous.data.batch import Batch
from vitreous.data.class_weights import class_weights
from vitreous.data.image_set import ImageSet
from vitreous.model.vit import ViT
from vitreous.records import override
from vitreous.tasks.classification.loss import ClassificationLoss
from vitreous.training import training_data
from vitreous.training.accumulation import GradientAccumulator
from vitreous.training.distributed import DistributedContext
from vitreous.workflows.train import train

WEIGHTS = torch.tensor([0.3, 2.0, 0.7])
LABELS = torch.tensor([0, 0, 1, 2, 0, 2, 0, 0, 1, 0, 0, 2, 0])


class OneOfTwo(DistributedContext):
    """The shard of one process, without another process to communicate with."""

    def shard(self, count: int) -> slice:
        return slice(0, 6) if self.rank == 0 else slice(6, count)


def model_and_images(smoothing: float):
    torch.manual_seed(0)
    recipe = tiny_recipe("", precision="fp32", batch_size=13, label_smoothing=smoothing)
    plain = replace(recipe.model, num_classes=3, drop_path_rate=0.0, patch_drop_rate=0.0)
    model = ViT(plain).train()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.2 * torch.randn_like(weight))
    return recipe, model, torch.randn(13, 3, 12, 20)


def gradient_of(model: ViT) -> torch.Tensor:
    gradient = torch.cat([weight.grad.flatten() for weight in model.parameters()])
    model.zero_grad()
    return gradient


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("steps", [1, 3, 5])
def test_weighted_loss_is_torchs_in_any_number_of_micro_batches_and_processes(smoothing, steps):
    recipe, model, images = model_and_images(smoothing)
    wanted = nn.CrossEntropyLoss(WEIGHTS, label_smoothing=smoothing)(model(images), LABELS)
    wanted.backward()
    gradient = gradient_of(model)
    unweighted = nn.CrossEntropyLoss(label_smoothing=smoothing)(model(images), LABELS)
    assert abs(wanted - unweighted) > 0.01
    cut = replace(recipe, grad_accum_steps=steps)
    own, batch = ClassificationLoss(smoothing, WEIGHTS), Batch(images, LABELS)
    loss, _ = GradientAccumulator(model, cut, DistributedContext(), own).backward(batch, 0)
    assert loss.item() == pytest.approx(wanted.item(), abs=1e-5)
    assert torch.allclose(gradient_of(model), gradient, atol=1e-5)
    losses = [GradientAccumulator(model, cut, OneOfTwo(rank), own).backward(batch, 0)[0] for rank in (0, 1)]
    assert sum(losses).item() == pytest.approx(wanted.item(), abs=1e-5)
    assert torch.allclose(gradient_of(model), gradient, atol=1e-5)


def test_equal_weights_change_nothing():
    recipe, model, images = model_and_images(0.1)
    batch = Batch(images, LABELS)
    losses = [
        GradientAccumulator(model, recipe, DistributedContext(), ClassificationLoss(0.1, weights)).backward(batch, 0)[0]
        for weights in (None, torch.ones(3))
    ]
    assert losses[0].item() == pytest.approx(losses[1].item(), abs=1e-6)


def unbalanced(source, *options):
    """Load half of the red images and a tenth of the green ones."""
    training, validation = load(source, *options)
    kept = [i for i, label in enumerate(training.labels.tolist()) if label == 0 or i % (10 if label == 1 else 2) == 0]
    return training.select(kept), validation


def test_a_note_says_how_many_more_classes_have_no_image(monkeypatch, colored_folder, tmp_path):
    notes = RecordingCallback()

    def more_classes(source, *options):
        names = ("blue", "green", "red", *"abcdef")
        return tuple(replace(images, class_names=names) for images in load(source, *options))

    monkeypatch.setattr(training_data, "load_train_validation", more_classes)
    recipe = tiny_recipe(colored_folder, epochs=0.1, min_steps=2, validation_fraction=0.0)
    train(recipe, tmp_path / "run", callback=notes)
    assert "6 class(es) have no image to train on: a, b, c, d, e and 1 more" in notes.notes
    assert "only 2 steps: raise min_steps to train longer" in notes.notes


load = training_data.load_train_validation


def test_class_weights_come_from_the_training_images(colored_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(training_data, "load_train_validation", unbalanced)
    recorded, original = [], GradientAccumulator.__init__

    def record(self, model, recipe, distributed, loss, teacher=None):
        recorded.append(loss.weights)
        original(self, model, recipe, distributed, loss, teacher)

    monkeypatch.setattr(GradientAccumulator, "__init__", record)
    for name, weighting in (("a", "none"), ("b", "balanced")):
        train(override(tiny_recipe(colored_folder, epochs=1), {"class_weights": weighting}), tmp_path / name)
    training: ImageSet = unbalanced(f"folder:{colored_folder}", (12, 20))[0]
    assert recorded[0] is None and torch.equal(recorded[1], class_weights(training.labels.bincount()))
    first, second = (load_file(tmp_path / name / "model.safetensors") for name in "ab")
    assert any(not torch.equal(first[name], second[name]) for name in first)
