"""Batches are cut, flipped and shifted as they should be, and are a function of seed and step."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vitreous.data import statistics
from vitreous.data.augment import Augment, augment, flipped_images
from vitreous.data.batch import Batch
from vitreous.data.image_set import ImageSet
from vitreous.data.loader import Normalize, TrainingBatches, epoch_order, sequential_batches
from vitreous.data.statistics import channel_statistics


def make_images(count=10, height=6, width=9) -> ImageSet:
    torch.manual_seed(0)
    images = torch.randint(256, (count, 3, height, width), dtype=torch.uint8)
    return ImageSet(images, torch.arange(count) % 2, ("a", "b"))


def batches(count=10, batch_size=4, **augmentation) -> TrainingBatches:
    return TrainingBatches(
        make_images(count), batch_size, Augment(**augmentation), 0, normalize=Normalize((0,) * 3, (1,) * 3)
    )


def augmented(images, step=0, **settings):
    return augment(Batch(images, torch.zeros(len(images))), None, Augment(**settings), 0, step).images


def test_without_augmentation_images_are_as_they_were():
    images = make_images().images_u8[[3, 1, 3]]
    assert torch.equal(augmented(images), images)


def test_every_second_showing_is_mirrored():
    images, indexes = make_images().images_u8, torch.arange(10)
    flipped = [flipped_images(indexes, torch.full((10,), epoch), 10, 0) for epoch in range(4)]
    batch = Batch(images, torch.zeros(10))
    shown = [augment(batch, flipped[epoch], Augment(flip=True), 0, epoch).images for epoch in range(4)]
    assert torch.equal(shown[0], shown[2]) and torch.equal(shown[1], shown[3])
    assert torch.equal(shown[0].flip(3), shown[1])
    as_they_were = [torch.equal(shown[0][i], images[i]) for i in range(10)]
    assert 0 < sum(as_they_were) < 10


@given(shift=st.integers(1, 5), step=st.integers(0, 50))
@settings(max_examples=20, deadline=None)
def test_shifts_are_windows_of_the_reflected_image(shift, step):
    images = make_images().images_u8
    shown = augmented(images, step, shift=shift)
    padded = torch.nn.functional.pad(images.float(), (shift,) * 4, "reflect").to(torch.uint8)
    for i in range(10):
        windows = padded[i].unfold(1, 6, 1).unfold(2, 9, 1).permute(1, 2, 0, 3, 4).flatten(0, 1)
        assert (windows == shown[i]).flatten(1).all(1).any()


def test_cutout_grays_a_square_of_that_side_at_most():
    images = torch.zeros(200, 1, 12, 12, dtype=torch.uint8)
    gray = augmented(images, cutout=4) == 128
    areas = gray.flatten(1).sum(1)
    assert areas.max() == 16 and areas.min() >= 1
    assert gray.any(0).all()


def test_an_epoch_shows_each_image_once_and_epochs_follow_without_a_gap():
    whole = batches(count=10, batch_size=4)
    order = torch.cat([whole.batch(step).images for step in range(5)])
    images = whole.images.images_u8 / 255
    shown = [int((images == image).flatten(1).all(1).nonzero()) for image in order]
    assert sorted(shown[:10]) == sorted(shown[10:]) == list(range(10)) and shown[:10] != shown[10:]
    assert shown[:10] == epoch_order(10, 0, 0).tolist()


def test_a_batch_is_a_function_of_seed_and_step():
    first, second = batches(flip=True, shift=2), batches(flip=True, shift=2)
    second.batch(0)
    assert torch.equal(first.batch(7).images, second.batch(7).images)
    assert not torch.equal(first.batch(7).images, first.batch(8).images)


def test_a_batch_may_be_larger_than_the_set():
    batch = batches(count=3, batch_size=8).batch(0)
    assert len(batch) == len(batch.images) == len(batch.labels) == 8


def test_evaluation_reads_all_images_in_order():
    whole = make_images()
    inputs = torch.cat([part for part, _ in sequential_batches(whole, 4, Normalize((0.5,) * 3, (0.5,) * 3))])
    assert torch.allclose(inputs, whole.images_u8 / 127.5 - 1, atol=1e-5)


def test_statistics_are_numpys():
    whole = make_images()
    mean, std = channel_statistics(whole)
    numbers = whole.images_u8.double() / 255
    assert mean == pytest.approx(numbers.mean((0, 2, 3)).tolist(), abs=1e-6)
    assert std == pytest.approx(numbers.std((0, 2, 3), correction=0).tolist(), abs=1e-6)


def test_batches_come_where_they_are_wanted_and_the_images_stay():
    here = batches()
    there = TrainingBatches(
        here.images, 4, Augment(flip=True), 0, normalize=Normalize((0,) * 3, (1,) * 3), device=torch.device("meta")
    )
    assert there.batch(0).images.device.type == there.batch(0).labels.device.type == "meta"
    assert there.images.images_u8.device.type == here.batch(0).images.device.type == "cpu"


def test_statistics_counted_in_parts_are_those_of_the_whole(monkeypatch):
    whole = channel_statistics(make_images())
    monkeypatch.setattr(statistics, "CHUNK", 3)
    assert channel_statistics(make_images()) == whole
