"""RandAugment: each operation is Pillow's, truth moves with the image, and seed and step decide what is drawn."""

import math

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps

from vitreous.data.augment import Augment, augment
from vitreous.data.batch import Batch
from vitreous.data.image_set import ImageSet
from vitreous.data.loader import Normalize, TrainingBatches
from vitreous.data.rand_augment import GEOMETRIC_OPERATIONS, OPERATIONS, Draw, draw_operations, rand_augment
from vitreous.errors import InputError

HEIGHT, WIDTH = 22, 34
LEVELS = torch.tensor([-1.0, -0.93, -0.4, 0.0, 0.25, 0.9, 1.0, 0.55], dtype=torch.float64)


def make_images(channels=3, count=8) -> torch.Tensor:
    """Smooth images of a narrow range of values with noise, the last of them of one value."""
    random = torch.Generator().manual_seed(0)
    coarse = torch.rand(count, channels, 4, 5, generator=random)
    smooth = torch.nn.functional.interpolate(coarse, (HEIGHT, WIDTH), mode="bicubic") * 160 + 30
    images = (smooth + torch.randint(20, (count, channels, HEIGHT, WIDTH), generator=random)).clamp(0, 255).byte()
    images[-1] = 77
    return images


def apply(operation, batch, levels=LEVELS) -> Batch:
    return rand_augment(batch, (Draw(torch.full((len(batch),), OPERATIONS.index(operation)), levels),))


def applied(operation, images, levels=LEVELS) -> torch.Tensor:
    return apply(operation, Batch(images, torch.zeros(len(images))), levels).images


def affine(image, *matrix, resample=Image.Resampling.BILINEAR, fill=128):
    fills = fill if image.mode in ("L", "1") else (fill,) * 3
    return image.transform(image.size, Image.Transform.AFFINE, matrix, resample, fillcolor=fills)


def pillow(operation, image, level, resample=Image.Resampling.BILINEAR, fill=128) -> Image.Image:
    """The operation as Pillow does it, with the parameters of the paper."""
    size, signed = abs(level), {"resample": resample, "fill": fill}
    enhance = {
        "color": ImageEnhance.Color, "contrast": ImageEnhance.Contrast, "brightness": ImageEnhance.Brightness,
        "sharpness": ImageEnhance.Sharpness,
    }  # fmt: skip
    if operation in enhance:
        return enhance[operation](image).enhance(1 + 0.9 * level)
    fills = fill if image.mode in ("L", "1") else (fill,) * 3
    return {
        "identity": lambda: image,
        "auto_contrast": lambda: ImageOps.autocontrast(image),
        "equalize": lambda: ImageOps.equalize(image),
        "solarize": lambda: ImageOps.solarize(image, 256 - round(256 * size)),
        "posterize": lambda: ImageOps.posterize(image, 8 - round(4 * size)),
        "rotate": lambda: image.rotate(30 * level, resample, fillcolor=fills),
        "shear_x": lambda: affine(image, 1, 0.3 * level, 0, 0, 1, 0, **signed),
        "shear_y": lambda: affine(image, 1, 0, 0, 0.3 * level, 1, 0, **signed),
        "translate_x": lambda: affine(image, 1, 0, round(150 / 331 * WIDTH * level), 0, 1, 0, **signed),
        "translate_y": lambda: affine(image, 1, 0, 0, 0, 1, round(150 / 331 * HEIGHT * level), **signed),
    }[operation]()


def to_pillow(image) -> Image.Image:
    array = image.numpy()
    return Image.fromarray(array[0] if len(array) == 1 else np.ascontiguousarray(array.transpose(1, 2, 0)))


EXACT = {"identity", "auto_contrast", "equalize", "solarize", "posterize", "translate_x", "translate_y"}


@pytest.mark.parametrize("channels", [3, 1])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_operations_are_pillows(operation, channels):
    images = make_images(channels)
    found = applied(operation, images)
    assert found.dtype == torch.uint8 and found.shape == images.shape
    for image, result, level in zip(images, found, LEVELS.tolist(), strict=True):
        expected = np.asarray(pillow(operation, to_pillow(image), level))
        expected = torch.from_numpy(expected.copy()).view(HEIGHT, WIDTH, channels).permute(2, 0, 1)
        difference = result.int() - expected.int()
        if operation in ("rotate", "shear_x", "shear_y"):  # Pillow doesn't round what it has interpolated
            assert set(difference.unique().tolist()) <= {0, 1} and difference.float().mean() < 0.5, level
        else:
            assert difference.abs().max() <= (operation not in EXACT) and (difference != 0).float().mean() < 0.01, level
    is_same = [torch.equal(image, result) for image, result in zip(images, found, strict=True)]
    assert is_same[3] or operation in ("auto_contrast", "equalize")  # magnitude 0
    if operation not in ("identity", "color") or (operation == "color" and channels == 3):
        assert sum(is_same) < 4


def test_color_is_the_identity_where_there_is_none():
    images = make_images(1)
    assert torch.equal(applied("color", images), images)


@pytest.mark.parametrize("operation", GEOMETRIC_OPERATIONS)
def test_masks_move_as_pillows_nearest_pixels(operation):
    masks = make_images(1)[:, 0] > 110
    batch = apply(operation, Batch(make_images(), torch.zeros(len(LEVELS)), masks=masks))
    assert batch.masks.dtype == torch.bool
    for mask, result, level in zip(masks, batch.masks, LEVELS.tolist(), strict=True):
        image = Image.fromarray(mask.numpy().astype(np.uint8) * 255)
        expected = np.asarray(pillow(operation, image, level, Image.Resampling.NEAREST, fill=0)) > 0
        assert (expected != result.numpy()).mean() < 0.005  # of sources on the border of two pixels


@pytest.mark.parametrize("operation", GEOMETRIC_OPERATIONS)
def test_boxes_are_around_the_moved_object(operation):
    boxes = torch.tensor([[6, 8, 15, 20]]).repeat(len(LEVELS), 1)
    masks = torch.zeros(len(LEVELS), HEIGHT, WIDTH, dtype=torch.bool)
    masks[:, 6:15, 8:20] = True
    batch = apply(operation, Batch(masks[:, None] * torch.tensor(255).byte(), boxes[:, 0], boxes, masks))
    for mask, (top, left, bottom, right), level in zip(batch.masks, batch.boxes.tolist(), LEVELS, strict=True):
        rows, columns = mask.any(1).nonzero().flatten().tolist(), mask.any(0).nonzero().flatten().tolist()
        gaps = [rows[0] - top, columns[0] - left, bottom - 1 - rows[-1], right - 1 - columns[-1]]
        assert all(0 <= gap <= 1 for gap in gaps), (level, gaps)
    assert batch.boxes[3].tolist() == [6, 8, 15, 20]
    if "rotate" not in operation and "shear" not in operation:
        assert (batch.boxes[6] != batch.boxes[0]).any()


def test_a_box_of_known_corners_rotates_to_their_hull():
    box = torch.tensor([[9, 15, 13, 19]])  # 4 × 4 around the center of the image: its corners are 2√2 from it
    batch = apply("rotate", Batch(make_images(3, 1), box[:, 0], box), torch.ones(1, dtype=torch.float64))
    reach = 2 * math.sqrt(2) * math.cos(math.radians(15))
    first, last = math.floor(-reach), math.ceil(reach)
    assert batch.boxes.tolist() == [[11 + first, 17 + first, 11 + last, 17 + last]]


def test_several_boxes_an_image_and_empty_ones():
    boxes = torch.tensor([[[6, 8, 15, 20], [0, 0, 0, 0], [0, 0, 3, 3]]]).repeat(2, 1, 1)
    levels = torch.tensor([1.0, -1.0], dtype=torch.float64)
    batch = apply("translate_x", Batch(make_images(3, 2), torch.zeros(2), boxes), levels)
    assert batch.boxes.tolist() == [[[6, 0, 15, 5], [0] * 4, [0] * 4], [[6, 23, 15, 34], [0] * 4, [0, 15, 3, 18]]]
    rotated = apply("rotate", Batch(make_images(3, 2), torch.zeros(2), boxes), levels / 3)
    assert (rotated.boxes[:, 1] == 0).all() and (rotated.boxes[:, 0] != boxes[:, 0]).any()


def test_each_image_draws_its_own_operations_and_all_are_drawn_as_often():
    draws = draw_operations(7000, 2, 9, 0.5, torch.Generator().manual_seed(0))
    assert len(draws) == 2 and not torch.equal(draws[0].kinds, draws[1].kinds)
    for draw in draws:
        counts = draw.kinds.bincount(minlength=len(OPERATIONS))
        assert len(counts) == 14 and (counts - 500).abs().max() < 100
        sizes = draw.levels.abs()
        assert sizes.mean() == pytest.approx(0.9, abs=0.01) and sizes.std() == pytest.approx(0.05, abs=0.01)
        assert sizes.max() <= 1 and (draw.levels > 0).float().mean() == pytest.approx(0.5, abs=0.03)
    (steady,) = draw_operations(50, 1, 5, 0, torch.Generator().manual_seed(0))
    assert (steady.levels.abs() == 0.5).all()


def test_images_of_a_batch_are_changed_as_they_would_be_alone():
    random = torch.Generator().manual_seed(1)
    images, masks = make_images(3, 40), make_images(1, 40)[:, 0] > 110
    boxes = torch.tensor([[6, 8, 15, 20]]).repeat(40, 1)
    batch = Batch(images, torch.arange(40), boxes, masks)
    before = {name: value.clone() for name, value in batch.tensors().items()}
    draws = draw_operations(40, 3, 8, 1, random)
    together = rand_augment(batch, draws)
    for i in range(40):
        part = slice(i, i + 1)
        alone = rand_augment(batch.part(part), tuple(Draw(draw.kinds[part], draw.levels[part]) for draw in draws))
        for name, value in alone.tensors().items():
            assert torch.equal(value, together.part(part).tensors()[name]), (i, name)
    assert all(torch.equal(value, batch.tensors()[name]) for name, value in before.items())
    assert not torch.equal(together.images, images)


def sequence(seed=0, truth=("labels",), **settings) -> TrainingBatches:
    boxes = torch.tensor([[6, 8, 15, 20]]).repeat(8, 1)
    data = ImageSet(make_images(), torch.arange(8) % 2, ("a", "b"), boxes, make_images(1)[:, 0] > 110)
    normalize = Normalize((0.0,) * 3, (1 / 255,) * 3)
    return TrainingBatches(data, 8, Augment(**settings), seed, normalize=normalize, truth=truth)


def test_seed_and_step_decide_the_operations_and_zero_draws_nothing():
    one = sequence(randaugment_ops=2)
    expected = one.batch(3).images
    one.batch(0)
    assert torch.equal(one.batch(3).images, expected)
    assert torch.equal(sequence(truth=("labels", "boxes", "masks"), randaugment_ops=2).batch(3).images, expected)
    others = [sequence(seed=1, randaugment_ops=2), sequence(randaugment_ops=1), sequence()]
    assert not any(torch.equal(other.batch(3).images, expected) for other in others)
    plain = sequence(flip=True, shift=3, cutout=4)
    same = sequence(flip=True, shift=3, cutout=4, randaugment_magnitude=3.0)
    assert torch.equal(plain.batch(2).images, same.batch(2).images)


def test_flips_shifts_and_cutout_are_the_same_with_and_without_it():
    images = make_images()
    batch = Batch(images, torch.zeros(8))
    with_it, without = (
        augment(batch, torch.arange(8) % 2 == 0, Augment(shift=3, cutout=6, randaugment_ops=ops), 0, 0).images
        for ops in (1, 0)
    )
    assert torch.equal((without == 128).all(1), (without == 128).all(1) & (with_it == 128).all(1))
    draws = draw_operations(8, 1, 9.0, 0.5, torch.Generator().manual_seed(0))
    assert len(draws) == 1 and not torch.equal(with_it, without)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"randaugment_ops": -1}, "randaugment_ops is -1: it must be 0 to 14, 0 for none"),
        ({"randaugment_ops": 15}, "randaugment_ops is 15: it must be 0 to 14"),
        ({"randaugment_magnitude": 30.0}, "randaugment_magnitude is 30.0: it must be 0 to 10$"),
        ({"randaugment_magnitude": float("nan")}, "randaugment_magnitude is nan: it must be 0 to 10$"),
        ({"randaugment_magnitude_std": -0.5}, "randaugment_magnitude_std is -0.5: it must be 0 to 10$"),
    ],
)
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        Augment(**settings)
