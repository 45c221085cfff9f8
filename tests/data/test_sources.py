"""Datasets by name, their splits, and the record of labeled images."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from vitreous.data import sources
from vitreous.data.image_set import ImageSet
from vitreous.data.read_options import ReadOptions, read_options_for
from vitreous.data.sources import SOURCES, PublishedImages, load_images
from vitreous.data.splits import HoldOut, hold_out, in_test_split
from vitreous.errors import InputError
from vitreous.imaging.preprocessing import Preprocessing, preprocess_image


def some_images(count: int = 40, seed: int = 0) -> ImageSet:
    random = torch.Generator().manual_seed(seed)
    images_u8 = torch.randint(0, 256, (count, 3, 6, 8), dtype=torch.uint8, generator=random)
    return ImageSet(images_u8, torch.arange(count) % 3, ("a", "b", "c"))


@pytest.fixture
def loaded_splits(monkeypatch):
    """Replace CIFAR-10 by a few random images; the list of the splits that were read."""
    splits = []

    def load(dataset, split):
        splits.append(split)
        return some_images(40, seed=len(split))

    monkeypatch.setattr(sources, "load_cifar", load)
    return splits


@pytest.fixture
def photos(tmp_path):
    random = np.random.default_rng(0)
    for split, count in {"train": 8, "val": 3, "test": 2}.items():
        for name in ("cat", "dog"):
            (tmp_path / split / name).mkdir(parents=True)
            for number in range(count):
                image = random.integers(0, 256, (5, 7, 3), dtype=np.uint8)
                Image.fromarray(image).save(tmp_path / split / name / f"{number}.png")
    return tmp_path


def test_train_and_validation_together_are_the_published_training_split(loaded_splits):
    train, validation, both = (
        load_images("cifar10", s, None, 0.2) for s in ("train", "validation", "train+validation")
    )
    assert (len(train), len(validation), len(both)) == (31, 9, 40)  # some of each class
    images = [{image.numpy().tobytes() for image in split.images_u8} for split in (train, validation, both)]
    assert not images[0] & images[1] and images[0] | images[1] == images[2]
    assert set(loaded_splits) == {"train"}


def test_the_test_split_is_read_for_test_only(loaded_splits):
    assert len(load_images("cifar10", "test")) == 40
    assert loaded_splits == ["test"]


def test_the_held_out_images_are_the_same_on_every_machine():
    assert hold_out(50_000, 0.05)[1][:6].tolist() == [18, 44, 51, 55, 105, 163]
    assert hold_out(10, 0.3)[1].tolist() == [0, 3, 9]


@given(st.integers(20, 500), st.floats(0, 0.9))
def test_the_held_out_split_has_the_right_size(count, fraction):
    kept, held = hold_out(count, fraction)
    assert sorted([*kept, *held]) == list(range(count))
    assert abs(len(held) - count * fraction) <= 1 and (len(held) > 0) == (fraction > 0)


@pytest.mark.parametrize(
    ("counts", "fraction", "held"),
    [((3, 3, 3, 3, 3, 3, 4, 4, 4, 4), 0.1, [1] * 10), ((4, 4), 0.1, [1, 1]), ((40, 1, 2), 0.1, [4, 0, 1]),
     ((1, 1), 0.1, [0, 0]), ((30, 2, 3), 0.8, [24, 1, 2])],
)  # fmt: skip
def test_few_images_are_held_out_by_class(counts, fraction, held):
    labels = np.repeat(np.arange(len(counts)), counts)
    kept, found = HoldOut(fraction).divide(labels)
    assert sorted([*kept, *found]) == list(range(len(labels)))
    assert np.bincount(labels[found], minlength=len(counts)).tolist() == held
    assert np.bincount(labels[kept]).min() > 0
    plain = HoldOut(fraction, by_class=False).divide(labels)
    assert all(np.array_equal(one, other) for one, other in zip(plain, hold_out(len(labels), fraction), strict=True))


@pytest.mark.parametrize("fraction", [0.0, 0.05, 0.1])
def test_many_images_are_divided_as_before_whatever_their_classes(fraction):
    labels = np.random.default_rng(1).integers(0, 10, 5000)
    parts = zip(HoldOut(fraction).divide(labels), hold_out(5000, fraction), strict=True)
    assert all(np.array_equal(one, other) for one, other in parts)


@pytest.mark.parametrize("fraction", [-0.1, 1.0, 0.99, float("nan")])
def test_a_fraction_that_leaves_no_training_images_is_refused(loaded_splits, fraction):
    with pytest.raises(InputError, match="validation_fraction"):
        load_images("cifar10", "train", None, fraction)


def test_an_empty_validation_split_is_refused(loaded_splits):
    assert len(load_images("cifar10", "train", None, 0.0)) == 40
    with pytest.raises(InputError, match="leaves no validation images"):
        load_images("cifar10", "validation", None, 0.0)


def test_the_fraction_of_files_for_testing():
    fraction = np.mean([in_test_split(str(number).encode()) for number in range(20_000)])
    assert fraction == pytest.approx(0.15, abs=0.01)


def test_validation_images_of_the_source_are_used(photos):
    counts = [len(load_images(f"folder:{photos}", s)) for s in ("train", "validation", "train+validation", "test")]
    assert counts == [16, 6, 22, 4]


@pytest.mark.parametrize("channels", [1, 3])
def test_published_images_are_squashed_to_the_wanted_size(loaded_splits, monkeypatch, channels):
    ramp = torch.arange(8, dtype=torch.uint8).mul(30).expand(1100, channels, 6, 8).contiguous()
    images = ImageSet(ramp, torch.zeros(1100, dtype=torch.int64), ("a",))
    monkeypatch.setattr(sources, "load_cifar", lambda dataset, split: images)
    larger = load_images("cifar10", "test", (9, 16), options=ReadOptions(interpolation="bilinear"))
    assert larger.images_u8.shape == (1100, channels, 9, 16) and larger.images_u8.dtype == torch.uint8
    rows = larger.images_u8[-1, 0].int()
    assert torch.equal(rows[0], rows[-1]) and (rows[0].diff() >= 0).all() and rows[0, -1] == 210
    assert load_images("cifar10", "test", (6, 8)) is images


def test_shapes_have_boxes_and_masks(monkeypatch):
    monkeypatch.setattr(sources, "SHAPES_COUNTS_AND_SEEDS", {"train": (20, 1), "test": (10, 2)})
    train, validation = (load_images("shapes", split, (48, 48), 0.25) for split in ("train", "validation"))
    assert train.images_u8.shape == (13, 3, 48, 48) and len(validation) == 7
    assert train.boxes is not None and train.masks is not None and train.masks.shape == (13, 48, 48)
    with pytest.raises(InputError, match="48 x 64"):
        load_images("shapes", "test", (48, 64))


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("cifar01", "there is no source 'cifar01': did you mean 'cifar10'"),
        ("cifar10:here", "there is no source"),
        ("nonsense:x", "folder:DIR"),
        ("", "there is no source"),
        ("folder", "names no folder: write folder:DIR"),
        ("parquet:", "names no folder: write parquet:DIR"),
        ("folder:/nowhere", "there is no folder /nowhere"),
        ("parquet:/nowhere", "there is no folder /nowhere"),
        ("/tmp", "write folder:/tmp"),
    ],
)
def test_an_invalid_source_is_a_one_line_error(source, words):
    with pytest.raises(InputError) as caught:
        load_images(source, "train")
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_an_unknown_split_is_refused():
    with pytest.raises(InputError, match="did you mean 'validation'"):
        load_images("cifar10", "validaton")


def test_every_source_describes_itself():
    assert all(source.description and "\n" not in source.description for source in SOURCES.values())


def test_select_keeps_labels_boxes_and_masks():
    images_u8, labels, names = some_images().images_u8, some_images().labels, ("a", "b", "c")
    images = ImageSet(images_u8, labels, names, torch.arange(160).reshape(40, 4), images_u8[:, 0] > 100)
    selected = images.select(np.array([5, 3]))
    assert len(selected) == 2 and selected.labels.tolist() == [2, 0] and selected.class_names == names
    assert torch.equal(selected.images_u8, images_u8[[5, 3]]) and torch.equal(selected.masks, images.masks[[5, 3]])
    assert selected.boxes.tolist() == [[20, 21, 22, 23], [12, 13, 14, 15]]


def test_the_fingerprint_distinguishes_data():
    base = some_images()
    other_pixels, other_labels = base.images_u8.clone(), base.labels.clone()
    other_pixels[0, 0, 0, 0] ^= 1
    other_labels[0] = 1
    variants = [
        base,
        ImageSet(other_pixels, base.labels, base.class_names),
        ImageSet(base.images_u8, other_labels, base.class_names),
        ImageSet(base.images_u8, base.labels, ("a", "b", "d")),
        ImageSet(base.images_u8.transpose(2, 3), base.labels, base.class_names),
        base.select(range(39)),
        base.select([]),
    ]
    assert len({images.fingerprint() for images in variants}) == len(variants)
    assert base.fingerprint() == some_images().fingerprint()
    permuted = base.images_u8.permute(2, 3, 0, 1).contiguous().permute(2, 3, 0, 1)
    assert ImageSet(permuted, base.labels, base.class_names).fingerprint() == base.fingerprint()


def test_an_inconsistent_image_set_is_a_bug():
    good = some_images(4)
    with pytest.raises(AssertionError):
        ImageSet(good.images_u8.float(), good.labels, good.class_names)
    with pytest.raises(AssertionError):
        ImageSet(good.images_u8, good.labels[:3], good.class_names)
    with pytest.raises(AssertionError):
        ImageSet(good.images_u8, good.labels, ("a", "b"))
    with pytest.raises(AssertionError):
        ImageSet(good.images_u8, good.labels, good.class_names, masks=torch.zeros(4, 8, 6, dtype=torch.bool))


@pytest.mark.parametrize(("interpolation", "crop_pct"), [("bicubic", 1.0), ("bilinear", 1.0), ("bicubic", 0.875)])
def test_published_images_are_resized_to_the_pixels_that_a_model_predicts_from(interpolation, crop_pct):
    random = np.random.default_rng(0)
    images_u8 = torch.from_numpy(random.integers(0, 256, (4, 3, 32, 32), dtype=np.uint8))
    dataset = PublishedImages(lambda split: ImageSet(images_u8, torch.zeros(4, dtype=torch.int64), ("cat", "dog")))
    for size in ((64, 64), (32, 32)):
        preprocessing = Preprocessing(
            size, "squash", (0.0,) * 3, (1.0,) * 3, 8, crop_pct=crop_pct, interpolation=interpolation
        )
        loaded = dataset.load("test", size, read_options_for(preprocessing)).images_u8
        for image_u8, found in zip(images_u8, loaded, strict=True):
            pixels, _ = preprocess_image(image_u8.permute(1, 2, 0).numpy(), preprocessing)
            assert torch.equal((pixels * 255).round().to(torch.uint8), found)


def test_boxes_and_masks_of_both_splits_are_kept(monkeypatch):
    monkeypatch.setattr(sources, "SHAPES_COUNTS_AND_SEEDS", {"train": (40, 1), "test": (10, 2)})
    parts = [load_images("shapes", split, (32, 32), 0.25) for split in ("train", "validation")]
    both = load_images("shapes", "train+validation", (32, 32), 0.25)
    assert both.boxes is not None and both.masks is not None and len(both) == len(both.boxes) == len(both.masks) == 40
    assert torch.equal(both.boxes, torch.cat([one.boxes for one in parts]))
    assert torch.equal(both.masks, torch.cat([one.masks for one in parts]))
