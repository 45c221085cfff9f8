"""Mixup and CutMix: what is mixed, in which parts, and that the seed and the step decide it."""

import pytest
import torch
from torch.nn import functional

from vitreous.data.augment import Augment
from vitreous.data.batch import Batch
from vitreous.data.image_set import ImageSet
from vitreous.data.loader import Normalize, TrainingBatches
from vitreous.data.mixing import mix_batch
from vitreous.errors import InputError
from vitreous.tasks.classification.loss import classification_loss, label_weights

IMAGES = torch.rand(6, 3, 12, 20, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([0, 1, 2, 0, 3, 1])


def mixed(step=0, seed=0, **settings):
    batch = mix_batch(Batch(IMAGES, LABELS), 4, Augment(**settings), seed, step)
    return batch.images, batch.labels


def parts(targets):
    """The part of each image itself, where the other one has another class."""
    differ = LABELS.roll(1) != LABELS
    return targets[torch.arange(6), LABELS][differ]


@pytest.mark.parametrize("step", range(4))
def test_mixup_adds_images_and_labels_in_the_same_parts(step):
    images, targets = mixed(step, mixup=1.0)
    assert torch.allclose(targets.sum(1), torch.ones(6))
    kept = parts(targets)[0]
    assert torch.allclose(parts(targets), kept)
    assert torch.allclose(images, kept * IMAGES + (1 - kept) * IMAGES.roll(1, 0), atol=1e-6)


@pytest.mark.parametrize("step", range(8))
def test_cutmix_pastes_a_box_whose_area_is_the_part_of_the_label(step):
    images, targets = mixed(step, cutmix=1.0)
    pasted = (images != IMAGES).any(1)
    assert torch.equal(images[:, :, pasted[0]], IMAGES.roll(1, 0)[:, :, pasted[0]])
    rows, columns = pasted[0].any(1), pasted[0].any(0)
    assert torch.equal(pasted, (rows[:, None] & columns).expand(6, -1, -1))
    assert torch.allclose(parts(targets), 1 - pasted[0].float().mean())


def test_seed_and_step_decide_the_parts():
    drawn = [float(parts(mixed(step, seed, mixup=0.5)[1])[0]) for seed in (0, 1) for step in range(20)]
    assert len(set(drawn)) == 40 and drawn[:20] == [float(parts(mixed(step, mixup=0.5)[1])[0]) for step in range(20)]
    assert 0.3 < sum(drawn) / 40 < 0.7


def test_with_both_each_batch_is_mixed_in_one_of_the_two_ways():
    pasted = [bool(((images := mixed(step, mixup=1.0, cutmix=1.0)[0]) == IMAGES).any()) for step in range(40)]
    assert images.shape == IMAGES.shape and 10 < sum(pasted) < 30


def test_the_batches_of_training_are_mixed_after_everything_else():
    data = ImageSet((IMAGES * 255).byte(), LABELS, ("a", "b", "c", "d"))
    normalize = Normalize((0.5,) * 3, (0.2,) * 3)
    plain = TrainingBatches(data, 4, Augment(flip=True, shift=2), 5, normalize=normalize)
    settings = Augment(flip=True, shift=2, mixup=0.3)
    expected = mix_batch(plain.batch(3), 4, settings, 5, 3)
    found = TrainingBatches(data, 4, settings, 5, normalize=normalize).batch(3)
    assert torch.equal(found.images, expected.images) and torch.equal(found.labels, expected.labels)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weights", [None, torch.tensor([1.0, 2.0, 0.5, 3.0])])
def test_the_loss_on_soft_labels_is_that_on_labels_where_they_are_certain(smoothing, weights):
    logits = torch.randn(6, 4, generator=torch.Generator().manual_seed(1))
    certain = functional.one_hot(LABELS, 4).float()
    hard, soft = (classification_loss(logits, labels, smoothing, weights) for labels in (LABELS, certain))
    assert torch.allclose(hard, soft)
    if weights is None:  # and that of two labels is the mean of both, in their parts
        targets = torch.lerp(certain.roll(1, 0), certain, 0.3)
        both = 0.3 * hard + 0.7 * classification_loss(logits, LABELS.roll(1), smoothing)
        assert torch.allclose(classification_loss(logits, targets, smoothing), both)
    else:
        assert torch.equal(label_weights(certain, weights), label_weights(LABELS, weights))


@pytest.mark.parametrize("name", ["mixup", "cutmix"])
@pytest.mark.parametrize("value", [-0.1, float("nan"), 2000.0])
def test_a_parameter_out_of_range_is_refused(name, value):
    with pytest.raises(InputError, match=f"{name} is {value}: it must be 0 to 1000, 0 for none"):
        Augment(**{name: value})
