"""Sources by name, their splits, and the record that they come in."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from vitreous.data import sources
from vitreous.data.image_set import ImageSet
from vitreous.data.sources import SOURCES, load_images
from vitreous.data.splits import hold_out, in_test_split
from vitreous.errors import InputError


def some_images(count: int = 40, seed: int = 0) -> ImageSet:
    random = torch.Generator().manual_seed(seed)
    images_u8 = torch.randint(0, 256, (count, 3, 6, 8), dtype=torch.uint8, generator=random)
    return ImageSet(images_u8, torch.arange(count) % 3, ("a", "b", "c"))


@pytest.fixture
def asked(monkeypatch):
    """CIFAR-10 replaced by a few random images; the list of the parts that were read."""
    parts = []

    def load(dataset, part):
        parts.append(part)
        return some_images(40, seed=len(part))

    monkeypatch.setattr(sources, "load_cifar", load)
    return parts


@pytest.fixture
def photos(tmp_path):
    random = np.random.default_rng(0)
    for part, count in {"train": 8, "val": 3, "test": 2}.items():
        for name in ("cat", "dog"):
            (tmp_path / part / name).mkdir(parents=True)
            for number in range(count):
                image = random.integers(0, 256, (5, 7, 3), dtype=np.uint8)
                Image.fromarray(image).save(tmp_path / part / name / f"{number}.png")
    return tmp_path


def test_training_and_validation_together_are_the_training_part(asked):
    train, validation, both = (
        load_images("cifar10", s, None, 0.2) for s in ("train", "validation", "train+validation")
    )
    assert (len(train), len(validation), len(both)) == (32, 8, 40)
    images = [{image.numpy().tobytes() for image in part.images_u8} for part in (train, validation, both)]
    assert not images[0] & images[1] and images[0] | images[1] == images[2]
    assert set(asked) == {"train"}


def test_the_test_part_is_read_for_test_only(asked):
    assert len(load_images("cifar10", "test")) == 40
    assert asked == ["test"]


def test_the_held_out_images_are_the_same_on_every_machine():
    assert hold_out(50_000, 0.05)[1][:6].tolist() == [18, 44, 51, 55, 105, 163]
    assert hold_out(10, 0.3)[1].tolist() == [0, 3, 9]


@given(st.integers(20, 500), st.floats(0, 0.9))
def test_held_out_images_are_a_part_of_the_right_size(count, fraction):
    kept, held = hold_out(count, fraction)
    assert sorted([*kept, *held]) == list(range(count))
    assert abs(len(held) - count * fraction) <= 1 and (len(held) > 0) == (fraction > 0)


@pytest.mark.parametrize("fraction", [-0.1, 1.0, 0.99, float("nan")])
def test_a_fraction_that_leaves_nothing_to_train_on_is_refused(asked, fraction):
    with pytest.raises(InputError, match="validation_fraction"):
        load_images("cifar10", "train", None, fraction)


def test_no_validation_images_are_refused(asked):
    assert len(load_images("cifar10", "train", None, 0.0)) == 40
    with pytest.raises(InputError, match="leaves no validation images"):
        load_images("cifar10", "validation", None, 0.0)


def test_the_share_of_files_for_testing():
    share = np.mean([in_test_split(str(number).encode()) for number in range(20_000)])
    assert share == pytest.approx(0.15, abs=0.01)


def test_validation_images_of_the_source_are_used(photos):
    counts = [len(load_images(f"folder:{photos}", s)) for s in ("train", "validation", "train+validation", "test")]
    assert counts == [16, 6, 22, 4]


@pytest.mark.parametrize("channels", [1, 3])
def test_ready_made_images_are_stretched_to_the_models_size(asked, monkeypatch, channels):
    ramp = torch.arange(8, dtype=torch.uint8).mul(30).expand(1100, channels, 6, 8).contiguous()
    images = ImageSet(ramp, torch.zeros(1100, dtype=torch.int64), ("a",))
    monkeypatch.setattr(sources, "load_cifar", lambda dataset, part: images)
    larger = load_images("cifar10", "test", (9, 16))
    assert larger.images_u8.shape == (1100, channels, 9, 16) and larger.images_u8.dtype == torch.uint8
    rows = larger.images_u8[-1, 0].int()
    assert torch.equal(rows[0], rows[-1]) and (rows[0].diff() >= 0).all() and rows[0, -1] == 210
    assert load_images("cifar10", "test", (6, 8)) is images


def test_shapes_come_with_their_places(monkeypatch):
    monkeypatch.setattr(sources, "SHAPES_COUNTS_AND_SEEDS", {"train": (20, 1), "test": (10, 2)})
    train, validation = (load_images("shapes", split, (48, 48), 0.25) for split in ("train", "validation"))
    assert train.images_u8.shape == (15, 3, 48, 48) and len(validation) == 5
    assert train.boxes is not None and train.masks is not None and train.masks.shape == (15, 48, 48)
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
        ("parquet:/nowhere", "/nowhere has no train"),
        ("/tmp", "write folder:/tmp"),
    ],
)
def test_unusable_names_of_sources_are_one_line(source, words):
    with pytest.raises(InputError) as caught:
        load_images(source, "train")
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_an_unknown_split_is_refused():
    with pytest.raises(InputError, match="did you mean 'validation'"):
        load_images("cifar10", "validaton")


def test_every_source_describes_itself():
    assert all(source.description and "\n" not in source.description for source in SOURCES.values())


def test_images_are_selected_with_all_that_belongs_to_them():
    images_u8, labels, names = some_images().images_u8, some_images().labels, ("a", "b", "c")
    images = ImageSet(images_u8, labels, names, torch.arange(160).reshape(40, 4), images_u8[:, 0] > 100)
    chosen = images.select(np.array([5, 3]))
    assert len(chosen) == 2 and chosen.labels.tolist() == [2, 0] and chosen.class_names == names
    assert torch.equal(chosen.images_u8, images_u8[[5, 3]]) and torch.equal(chosen.masks, images.masks[[5, 3]])
    assert chosen.boxes.tolist() == [[20, 21, 22, 23], [12, 13, 14, 15]]


def test_the_fingerprint_tells_data_apart():
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
    turned = base.images_u8.permute(2, 3, 0, 1).contiguous().permute(2, 3, 0, 1)
    assert ImageSet(turned, base.labels, base.class_names).fingerprint() == base.fingerprint()


def test_images_that_contradict_themselves_are_a_bug():
    good = some_images(4)
    with pytest.raises(AssertionError):
        ImageSet(good.images_u8.float(), good.labels, good.class_names)
    with pytest.raises(AssertionError):
        ImageSet(good.images_u8, good.labels[:3], good.class_names)
    with pytest.raises(AssertionError):
        ImageSet(good.images_u8, good.labels, ("a", "b"))
    with pytest.raises(AssertionError):
        ImageSet(good.images_u8, good.labels, good.class_names, masks=torch.zeros(4, 8, 6, dtype=torch.bool))
