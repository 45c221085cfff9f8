"""Truth moves with the images: masks pixel by pixel, boxes with the object; parts, sizes, and what can't be mixed."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vitreous.data.augment import Augment, augment
from vitreous.data.batch import Batch, clip_boxes
from vitreous.data.image_set import ImageSet
from vitreous.data.loader import Normalize, TrainingBatches
from vitreous.data.mixing import mix_batch
from vitreous.errors import InputError
from vitreous.training.progressive_resizing import ProgressiveResizing, resize_batch, resize_truth

HEIGHT, WIDTH = 14, 20
PLAIN = Normalize((0.0,), (1.0,))


def draw_objects(boxes) -> ImageSet:
    """Images that are white on the object and black elsewhere, so that the image itself shows where it is."""
    boxes = torch.tensor(boxes)
    masks = torch.zeros(len(boxes), HEIGHT, WIDTH, dtype=torch.bool)
    for mask, (top, left, bottom, right) in zip(masks, boxes, strict=True):
        mask[top:bottom, left:right] = True
    return ImageSet(masks[:, None] * torch.tensor(255).byte(), torch.arange(len(boxes)) % 2, ("a", "b"), boxes, masks)


CENTERED = draw_objects([[5, 6, 9, 12], [4, 4, 10, 7], [6, 9, 8, 16]])
"""Objects four pixels or more from the borders: no shift of up to three reflects them."""


def batches(data, *truth, batch_size=3, **augmentation) -> TrainingBatches:
    return TrainingBatches(data, batch_size, Augment(**augmentation), 0, normalize=PLAIN, truth=("labels", *truth))


def boxes_of(masks) -> list[list[int]]:
    """The smallest box around each mask; zeros if there is none."""
    found = []
    for mask in masks:
        rows, columns = mask.any(1).nonzero().flatten().tolist(), mask.any(0).nonzero().flatten().tolist()
        found.append([rows[0], columns[0], rows[-1] + 1, columns[-1] + 1] if rows else [0, 0, 0, 0])
    return found


@pytest.mark.parametrize("augmentation", [{}, {"flip": True}, {"shift": 3}, {"flip": True, "shift": 3}])
def test_masks_and_boxes_are_where_the_object_is(augmentation):
    sequence = batches(CENTERED, "boxes", "masks", **augmentation)
    seen = set()
    for step in range(20):
        batch = sequence.batch(step)
        assert torch.equal(batch.masks, batch.images[:, 0] > 0.5)
        assert batch.boxes.tolist() == boxes_of(batch.masks)
        seen |= {tuple(box) for box in batch.boxes.tolist()}
    assert len(seen) == (3 if not augmentation else 6 if "shift" not in augmentation else len(seen))
    assert "shift" not in augmentation or len(seen) > 20


@given(shift=st.integers(1, 12), step=st.integers(0, 50))
@settings(max_examples=30, deadline=None)
def test_at_the_borders_masks_are_reflected_and_boxes_cut_off(shift, step):
    data = draw_objects([[0, 0, 3, 5], [10, 15, 14, 20], [5, 0, 9, 20]])
    batch = batches(data, "boxes", "masks", shift=shift, flip=True).batch(step)
    assert torch.equal(batch.masks, batch.images[:, 0] > 0.5)
    bottom, right = batch.boxes[:, 2:].unbind(1)
    assert (batch.boxes >= 0).all() and (bottom <= HEIGHT).all() and (right <= WIDTH).all()
    for mask, box in zip(batch.masks, batch.boxes.tolist(), strict=True):
        assert box == [0, 0, 0, 0] or mask[box[0] : box[2], box[1] : box[3]].all()


def test_an_object_that_is_outside_has_an_empty_box():
    data = draw_objects([[0, 0, 2, 2], [0, 0, 14, 20]])
    found = [batches(data, "boxes", batch_size=2, shift=6).batch(step) for step in range(30)]
    corner = torch.cat([batch.boxes[batch.labels == 0] for batch in found])
    outside = (corner == 0).all(1)
    assert outside.any() and not outside.all()
    assert all(box[2] > box[0] and box[3] > box[1] for box in corner[~outside].tolist())
    assert (torch.cat([batch.boxes[batch.labels == 1] for batch in found]).diff(dim=1)[:, 1] != 0).all()


def test_cutout_changes_the_image_only():
    batch = batches(CENTERED, "boxes", "masks", cutout=8).batch(0)
    assert (batch.images == 128 / 255).any()
    assert batch.boxes.tolist() == boxes_of(batch.masks)
    assert sorted(batch.boxes.tolist()) == sorted(CENTERED.boxes.tolist())


def test_several_objects_an_image_move_as_one_each():
    boxes = torch.stack([CENTERED.boxes, CENTERED.boxes.roll(1, 0)], 1)
    flipped = torch.tensor([True, False, True])
    several, one, other = (
        augment(Batch(CENTERED.images_u8, CENTERED.labels, given), flipped, Augment(shift=4), 3, 1).boxes
        for given in (boxes, boxes[:, 0], boxes[:, 1])
    )
    assert torch.equal(several, torch.stack([one, other], 1)) and several.shape == (3, 2, 4)


def test_truth_that_the_task_does_not_learn_from_stays_away_and_changes_nothing():
    alone, whole = batches(CENTERED, flip=True, shift=4), batches(CENTERED, "masks", flip=True, shift=4)
    assert alone.batch(2).boxes is None and alone.batch(2).masks is None and whole.batch(2).boxes is None
    assert torch.equal(alone.batch(2).images, whole.batch(2).images)


def test_parts_hold_the_same_images_in_every_field():
    batch = batches(CENTERED, "boxes", "masks").batch(0)
    part = batch.part(slice(1, 3))
    assert (len(batch), len(part)) == (3, 2)
    for name in ("images", "labels", "boxes", "masks"):
        assert torch.equal(getattr(part, name), getattr(batch, name)[1:3])
    assert batches(CENTERED).batch(0).part(slice(0, 1)).masks is None


def test_a_batch_goes_to_a_device_as_a_whole():
    moved = batches(CENTERED, "boxes", "masks").batch(0).to(torch.device("meta"))
    assert {getattr(moved, name).device.type for name in ("images", "labels", "boxes", "masks")} == {"meta"}


def test_cutmix_pastes_masks_like_images():
    data = draw_objects([[0, 0, 14, 10], [3, 3, 12, 18], [5, 0, 9, 20]])
    for step in range(10):
        batch = batches(data, "masks", cutmix=1.0).batch(step)
        assert torch.equal(batch.masks, batch.images[:, 0] > 0.5) and batch.labels.shape == (3, 2)
    plain = batches(data, "masks").batch(4)
    assert not torch.equal(mix_batch(plain, 2, Augment(cutmix=1.0), 0, 4).masks, plain.masks)


@pytest.mark.parametrize(
    ("truth", "augmentation", "message"),
    [
        ("boxes", {"mixup": 0.2}, "augment.mixup can't mix the boxes that this task learns from: set augment.mixup=0$"),
        ("boxes", {"cutmix": 1.0}, "augment.cutmix can't mix the boxes that this task learns from"),
        ("masks", {"mixup": 0.2, "cutmix": 1.0}, "augment.mixup can't mix the masks .*; augment.cutmix can$"),
    ],
)
def test_truth_that_cannot_be_mixed_is_refused_when_the_run_is_set_up(truth, augmentation, message):
    with pytest.raises(InputError, match=message):
        batches(CENTERED, truth, **augmentation)


def test_truth_that_the_images_lack_is_refused():
    bare = ImageSet(CENTERED.images_u8, CENTERED.labels, CENTERED.class_names)
    with pytest.raises(InputError, match="the training images have no masks: give a source with masks, such as shapes"):
        batches(bare, "masks")


@pytest.mark.parametrize("scale", [0.5, 0.75])
def test_smaller_images_have_smaller_truth(scale):
    batch = batches(CENTERED, "boxes", "masks").batch(0)
    resizing = ProgressiveResizing(0.5, scale)
    small = resize_batch(1, 10, batch, resizing, 2)
    height, width = small.images.shape[2:]
    assert small.masks.shape == (3, height, width) and height < HEIGHT
    nearest = torch.nn.functional.interpolate(batch.masks[:, None].float(), (height, width), mode="nearest-exact")
    assert torch.equal(small.masks, nearest[:, 0] > 0)
    for box, smallest, old in zip(small.boxes.tolist(), boxes_of(small.masks), batch.boxes.tolist(), strict=True):
        assert box[0] <= smallest[0] and box[1] <= smallest[1] and box[2] >= smallest[2] and box[3] >= smallest[3]
        exact = [side * size for side, size in zip(old, [height / HEIGHT, width / WIDTH] * 2, strict=True)]
        assert all(abs(side - wanted) < 1 for side, wanted in zip(box, exact, strict=True))
    same = resize_truth(batch, batch.images)
    assert torch.equal(same.masks, batch.masks) and torch.equal(same.boxes, batch.boxes)


def test_clipped_boxes_are_inside_or_empty():
    boxes = torch.tensor([[-5, 3, 4, 90], [14, 0, 20, 5], [3, 8, 3, 9], [0, 0, 14, 20]])
    assert clip_boxes(boxes, (14, 20)).tolist() == [[0, 3, 4, 20], [0] * 4, [0] * 4, [0, 0, 14, 20]]
