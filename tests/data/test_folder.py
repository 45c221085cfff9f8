"""Folders of images, one folder per class."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vitreous.data.folder import IMAGE_EXTENSIONS, open_image_folder
from vitreous.data.image_set import ImageSet
from vitreous.data.read_options import ReadOptions
from vitreous.data.sources import evaluation_split
from vitreous.data.splits import HoldOut
from vitreous.errors import InputError
from vitreous.imaging.reading import FORMATS


def add_images(folder: Path, count: int, seed: int, size_hw: tuple[int, int] = (6, 9)) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    for number in range(count):
        image = random.integers(0, 256, (*size_hw, 3), dtype=np.uint8)
        Image.fromarray(image).save(folder / f"{number:03}.png")


@pytest.fixture
def flat(tmp_path):
    add_images(tmp_path / "photos" / "cat", 40, seed=1)
    add_images(tmp_path / "photos" / "dog", 30, seed=2)
    return tmp_path / "photos"


@pytest.fixture
def with_splits(tmp_path):
    for seed, split in enumerate(["train", "test", "val"]):
        add_images(tmp_path / "photos" / split / "cat", 3 + seed, seed)
        add_images(tmp_path / "photos" / split / "dog", 2, seed + 10)
    return tmp_path / "photos"


def load(
    folder: Path, split: str, image_size: tuple[int, int] | None = None, options: ReadOptions | None = None
) -> ImageSet:
    return open_image_folder(folder).load(split, image_size, options or ReadOptions())


def contents(images) -> set[bytes]:
    return {image.numpy().tobytes() for image in images.images_u8}


def error_of(folder: Path, split: str = "train", size_hw=(6, 9)) -> str:
    with pytest.raises(InputError) as caught:
        load(folder, split, size_hw)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_folder_without_splits_is_split_without_overlap(flat):
    train, test = load(flat, "train"), load(flat, "test")
    assert train.class_names == test.class_names == ("cat", "dog")
    assert train.images_u8.shape[1:] == (3, 6, 9)
    assert len(train) + len(test) == 70 and 3 <= len(test) <= 20
    assert not contents(train) & contents(test)
    assert torch.bincount(train.labels).min() > 0


def test_pixels_and_labels_belong_together(flat):
    train = load(flat, "train")
    for label, name in enumerate(train.class_names):
        own = {np.asarray(Image.open(path)).transpose(2, 0, 1).tobytes() for path in (flat / name).iterdir()}
        assert contents(train.select(torch.nonzero(train.labels == label)[:, 0])) <= own


def test_an_image_stays_in_its_split_when_others_are_added_or_renamed(flat):
    before = contents(load(flat, "test"))
    for path in (flat / "cat").iterdir():
        path.rename(path.with_name(f"renamed-{path.name}"))
    add_images(flat / "dog" / "more", 25, seed=3)
    after = load(flat, "test")
    assert before <= contents(after)
    assert len(after) + len(load(flat, "train")) == 95


def test_split_folders_are_the_splits(with_splits):
    assert [len(load(with_splits, split)) for split in ("train", "test", "validation")] == [5, 6, 7]
    assert open_image_folder(with_splits).has_validation
    shutil.rmtree(with_splits / "val")
    assert not open_image_folder(with_splits).has_validation


def test_a_class_may_be_called_train(tmp_path):
    add_images(tmp_path / "train", 30, seed=1)
    add_images(tmp_path / "car", 30, seed=2)
    assert load(tmp_path, "train").class_names == ("car", "train")
    assert not open_image_folder(tmp_path).has_validation


def test_images_of_any_size_are_resized(flat):
    add_images(flat / "cat", 3, seed=5, size_hw=(50, 20))
    assert load(flat, "train", (8, 12)).images_u8.shape[1:] == (3, 8, 12)
    assert "give one size for all" in error_of(flat, size_hw=None)


def test_other_files_are_ignored(flat):
    (flat / "README.md").write_text("about")
    (flat / "cat" / "notes.txt").write_text("about")
    (flat / ".cache").mkdir()
    assert load(flat, "train").class_names == ("cat", "dog")


def test_every_extension_of_a_decodable_format_is_an_image():
    Image.init()
    readable = {extension for extension, name in Image.registered_extensions().items() if name in FORMATS}
    assert readable <= IMAGE_EXTENSIONS and IMAGE_EXTENSIONS - readable <= {".avif", ".avifs", ".mpo"}


def test_unusual_extensions_are_images(flat):
    for extension in ("jfif", "JP2", "pbm"):
        image = Image.fromarray(np.zeros((6, 9, 3), np.uint8))
        image.convert("1" if extension == "pbm" else "RGB").save(flat / "cat" / f"more.{extension}")
    count = len(load(flat, "train")) + len(load(flat, "test"))
    assert count == 73 and open_image_folder(flat).skipped_files() == []


def test_files_in_no_split_are_listed_and_noted(with_splits):
    (with_splits / "README.md").touch()
    (with_splits / "loose.png").touch()
    (with_splits / "train" / "cat" / ".DS_Store").touch()
    (with_splits / "train" / "loose.jpg").touch()
    for name in ("1.heic", "2.HEIC", "3", "more/4.heic"):
        (with_splits / "train" / "cat" / name).parent.mkdir(exist_ok=True)
        (with_splits / "train" / "cat" / name).touch()
    add_images(with_splits / "valid" / "cat", 2, 1)
    shutil.rmtree(with_splits / "test" / "dog")  # has no effect on training
    names = [path.relative_to(with_splits).as_posix() for path in open_image_folder(with_splits).skipped_files()]
    assert names == [
        "loose.png", "train/cat/1.heic", "train/cat/2.HEIC", "train/cat/3", "train/cat/more/4.heic", "train/loose.jpg",
        "valid/cat/000.png", "valid/cat/001.png",
    ]  # fmt: skip
    notes = []
    open_image_folder(with_splits).load_train_validation(None, HoldOut(0.0), ReadOptions(on_note=notes.append))
    assert notes == [
        f"8 file(s) in {with_splits} are skipped: .heic 3, .png 3, .jpg 1, none 1; `vitreous data` lists them"
    ]


def test_an_error_names_the_extensions_in_a_class_without_images(flat):
    for name in ("zebra/1.heic", "zebra/2.heic"):
        (flat / name).parent.mkdir(exist_ok=True)
        (flat / name).touch()
    assert "zebra has no images, only .heic 2" in error_of(flat)


def test_an_error_counts_unreadable_images_and_names_the_first(flat):
    for number in range(40):
        (flat / "cat" / f"bad{number:02}.jpg").write_bytes(b"no image %d" % number)
    (flat / "dog" / "short.png").write_bytes((flat / "dog" / "000.png").read_bytes()[:60])
    line = error_of(flat)
    count = int(line.split(" of ")[0])
    assert 25 <= count <= 41 and "bad" in line and f"and {count - 3} more" in line


def test_a_folder_without_classes_is_an_error(tmp_path, flat):
    assert "there is no folder" in error_of(tmp_path / "typo")
    assert "there is no folder" in error_of(flat / "cat" / "000.png")
    assert "has 0 class folder(s)" in error_of(flat / "cat")
    shutil.rmtree(flat / "dog")
    assert "has 1 class folder(s)" in error_of(flat)


def test_an_empty_class_is_an_error(flat):
    (flat / "zebra").mkdir()
    assert "zebra has no images" in error_of(flat)


def test_splits_with_different_classes_are_an_error(with_splits):
    add_images(with_splits / "test" / "owl", 1, seed=9)
    assert "differ in the class(es) owl" in error_of(with_splits, "test")
    shutil.rmtree(with_splits / "test")
    assert "has no test folder, only train, val: add" in error_of(with_splits, "test")


def test_too_few_images_to_split_are_an_error(tmp_path):
    for name in ("cat", "dog"):
        add_images(tmp_path / name, 1, seed=len(name) + ord(name[0]))
    lines = []
    for split in ("train", "test"):
        try:
            load(tmp_path, split)
        except InputError as error:
            lines.append(str(error))
    assert lines and all("too few images" in line for line in lines)


def test_hidden_files_are_not_images(flat):
    before = {split: load(flat, split).fingerprint() for split in ("train", "test")}
    add_images(flat / "dog" / ".ipynb_checkpoints", 3, seed=9)
    (flat / "cat" / "._000.png").write_bytes(b"what a Mac leaves beside an image")
    for place in (flat / "__MACOSX" / "cat", flat / "cat" / "__MACOSX", flat / "lost+found"):  # the first: in its zips
        place.mkdir(parents=True)
        (place / "._000.png").write_bytes(b"what a Mac leaves beside an image")
    assert {split: load(flat, split).fingerprint() for split in ("train", "test")} == before
    assert open_image_folder(flat).skipped_files() == []


def test_links_to_folders_are_followed(flat, tmp_path):
    add_images(tmp_path / "store" / "deep", 25, seed=3)
    add_images(tmp_path / "owls", 9, seed=4)
    add_images(flat / "cat" / "real", 1, seed=5)
    before = open_image_folder(flat).list_images("train")
    (flat / "cat" / "real" / "again").symlink_to(flat / "cat")
    (flat / "dog" / "up").symlink_to("..")
    (flat / "cat" / "also").symlink_to("real")
    assert open_image_folder(flat).list_images("train") == before, "nothing is new there"
    (flat / "cat" / "more").symlink_to(tmp_path / "store")
    (tmp_path / "store" / "deep" / "back").symlink_to(tmp_path / "store")
    (flat / "owl").symlink_to(tmp_path / "owls")
    paths = [one.path.relative_to(flat).as_posix() for one in open_image_folder(flat).list_images("train")]
    assert len(paths) == 71 + 25 + 9 and "cat/more/deep/024.png" in paths and "owl/000.png" in paths
    assert len(load(flat, "train")) + len(load(flat, "test")) == 105


def test_broken_links_are_unreadable_images(flat, tmp_path):
    for name, place in {"lost.jpg": "/gone/lost.jpg", "self": "self", "more": "/gone"}.items():
        (flat / "dog" / name).symlink_to(place)
    line = error_of(flat)
    assert line.startswith("3 of ") and "training images can't be used" in line
    assert "dog/lost.jpg: it is a link to /gone/lost.jpg, which doesn't exist" in line
    notes = []
    assert len(load(flat, "train", options=ReadOptions(skip_unreadable=True, on_note=notes.append))) > 50
    assert len(notes) == 4
    (flat / "fox").symlink_to("/gone/fox")
    assert open_image_folder(flat).skipped_files() == [flat / "fox"]


def test_the_target_of_a_link_in_a_class_is_not_skipped(with_splits, tmp_path):
    add_images(with_splits / "raw" / "cats", 3, seed=7)
    shutil.copy(with_splits / "raw" / "cats" / "000.png", with_splits / "raw" / "000.png")
    (with_splits / "train" / "cat" / "more").symlink_to(with_splits / "raw" / "cats")
    assert open_image_folder(with_splits).skipped_files() == [with_splits / "raw" / "000.png"]
    assert len(load(with_splits, "train")) == 3 + 3 + 2


def test_links_beside_the_splits_are_not_followed(with_splits, tmp_path):
    add_images(tmp_path / "archive", 3, seed=9)
    (with_splits / "archive").symlink_to(tmp_path / "archive")
    (with_splits / "valid").mkdir()
    shutil.copy(with_splits / "train" / "cat" / "000.png", with_splits / "valid" / "one.png")
    assert open_image_folder(with_splits).skipped_files() == [with_splits / "valid" / "one.png"]


def test_images_are_ordered_by_path(flat):
    """Splits and fingerprints of earlier runs depend on it."""
    for number, place in enumerate(["b", "a/c", "a", "Z", "a b"]):
        add_images(flat / "cat" / place, 2, seed=number)
    (flat / "cat" / "linked.png").symlink_to("000.png")
    earlier = [path for name in ("cat", "dog") for path in sorted((flat / name).rglob("*")) if path.is_file()]
    assert [one.path for one in open_image_folder(flat).list_images("train")] == earlier


def test_an_error_names_the_split_of_unreadable_images(with_splits):
    (with_splits / "val" / "cat" / "words.png").write_text("words")
    (with_splits / "test" / "cat" / "words.png").write_text("words")
    assert len(load(with_splits, "train")) == 5
    assert error_of(with_splits, "validation").startswith("1 of 8 validation images can't be used")
    assert error_of(with_splits, "test").startswith("1 of 7 test images can't be used")


@pytest.mark.parametrize(
    ("train", "validation", "test"),
    [("Train", "", "Test"), ("Training", "", "Testing"), ("TRAIN", "Val", "TEST"), ("train", "valid", ""),
     ("training", "dev", "eval"), ("train", "Validation", ""), ("train", "val", "")],
)  # fmt: skip
def test_folders_with_the_names_of_splits_are_splits_in_any_capitals(train, validation, test, tmp_path):
    folders = {"train": train, "validation": validation, "test": test}
    present = {split: name for split, name in folders.items() if name}
    for seed, name in enumerate(present.values()):
        add_images(tmp_path / name / "cat", 3 + seed, seed)
        add_images(tmp_path / name / "dog", 2, seed + 10)
    folder = open_image_folder(tmp_path)
    assert folder.class_names == ("cat", "dog") and folder.splits == tuple(present)
    assert [len(load(tmp_path, split)) for split in present] == [5 + seed for seed in range(len(present))]
    assert folder.skipped_files() == []


def test_splits_without_training_images_are_splits_if_there_is_nothing_else(tmp_path):
    for seed, name in enumerate(["val/cat", "val/dog", "Test/cat", "Test/dog"]):
        add_images(tmp_path / name, 2, seed)
    assert open_image_folder(tmp_path).splits == ("validation", "test")
    assert len(load(tmp_path, "test")) == 4
    assert f"{tmp_path} has no train folder, only val, Test" in error_of(tmp_path, "train")
    add_images(tmp_path / "owl", 40, 9)
    assert open_image_folder(tmp_path).class_names == ("Test", "owl", "val")


def test_validation_images_stand_in_for_missing_test_images_with_a_note(with_splits):
    source, notes = f"folder:{with_splits}", []
    assert evaluation_split(source, "test", notes.append) == "test" and not notes
    shutil.rmtree(with_splits / "test")
    assert evaluation_split(source, "test", notes.append) == "validation"
    assert notes == [f"{source} has no test images: it is evaluated on its validation images"]
    assert evaluation_split(source, "train", notes.append) == "train"
    shutil.rmtree(with_splits / "val")
    assert evaluation_split(source, "test", notes.append) == "test"  # which is refused when it is read


def test_accents_may_be_composed_or_decomposed(tmp_path):
    composed, decomposed = "caf\u00e9", "cafe\u0301"
    for seed, name in enumerate([f"train/{composed}", "train/dog", f"test/{decomposed}", "test/dog"]):
        add_images(tmp_path / name, 2, seed)
    train, test = load(tmp_path, "train"), load(tmp_path, "test")
    assert train.class_names == test.class_names == (composed, "dog")
    assert train.labels.tolist() == test.labels.tolist() == [0, 0, 1, 1]
    add_images(tmp_path / "train" / decomposed, 3, 9)  # both spellings are one class
    assert load(tmp_path, "train").labels.tolist() == [0] * 5 + [1] * 2


def test_class_names_cant_steer_a_terminal(tmp_path):
    for seed, name in enumerate(
        [b"\x1b[2Jcat", b"two\nlines", b"caf\xe9", "\N{SNOWMAN} \N{ZERO WIDTH JOINER}".encode()]
    ):
        add_images(tmp_path / os.fsdecode(name), 20, seed)
    names = load(tmp_path, "train").class_names
    assert sorted(names) == sorted([r"\x1b[2Jcat", r"caf\udce9", r"two\nlines", "\N{SNOWMAN} \N{ZERO WIDTH JOINER}"])


@pytest.mark.parametrize(
    "names",
    [("training_set", "test_set"), ("seg_train", "seg_test", "seg_pred"), ("images_train", "images_val"),
     ("train_images", "test_images"), ("train_set", "valid_set"), ("train2017", "val2017"), ("train-data", "test-data"),
     ("TrainSet", "TestSet"), ("trainset", "testset"), ("My Training", "My Testing"), ("train_images", "test")],
)  # fmt: skip
@pytest.mark.parametrize("inside", ["", "images"])
def test_folders_with_the_word_of_a_split_in_their_names_are_splits(names, inside, tmp_path):
    for seed, name in enumerate(names[:2]):
        for label in ("cat", "dog"):
            add_images(tmp_path / name / inside / label, 2 + seed, seed * 10 + len(label + label[0]))
    for name in names[2:]:
        add_images(tmp_path / name, 2, 9)
    folder = open_image_folder(tmp_path)
    assert folder.class_names == ("cat", "dog") and len(folder.splits) == 2 and folder.splits[0] == "train"
    assert [len(folder.files(split)) for split in folder.splits] == [4, 6]
    assert len(folder.skipped_files()) == 2 * len(names[2:])


@pytest.mark.parametrize(
    "names",
    [("test_tube", "beaker"), ("train", "car"), ("express_train", "freight_train"), ("valid_ticket", "test_ticket"),
     ("strain", "contest"), ("test_tube/a", "test_tube/b", "train_toy/a", "train_toy/b", "beaker/a", "beaker/b"),
     ("test_tube/old", "train_toy", "beaker"), ("express_train/a", "express_train/b", "freight_train/a"),
     ("test_tube/old", "test_tube/new", "beaker")],
)  # fmt: skip
def test_classes_with_such_a_word_are_classes(names, tmp_path):
    for seed, name in enumerate(names):
        add_images(tmp_path / name, 20, seed)
    folder = open_image_folder(tmp_path)
    assert folder.class_names == tuple(sorted({name.split("/")[0] for name in names}))
    assert not folder.split_folders and not folder.skipped_files()


def test_training_images_beside_unlabeled_ones(tmp_path):
    for seed, name in enumerate(["train_images/cat", "train_images/dog", "test_images"]):
        add_images(tmp_path / name, 2, seed)
    folder = open_image_folder(tmp_path)
    assert folder.splits == ("train",) and folder.class_names == ("cat", "dog") and len(folder.skipped_files()) == 2


@pytest.mark.parametrize(
    "names",
    [("train", "test"), ("trainA", "trainB", "testA", "testB"), ("train_set/cat", "train_set/dog", "test_set/owl"),
     ("train_a/cat", "train_a/dog", "train_b/cat", "train_b/dog", "test_a/cat", "test_a/dog")],
)  # fmt: skip
def test_folders_that_may_be_splits_are_not_taken_for_classes(names, tmp_path):
    for seed, name in enumerate(names):
        add_images(tmp_path / name, 2, seed)
    assert "lay them out as train/CLASS and test/CLASS; if they are classes, rename them" in error_of(tmp_path)


def test_splits_by_word_with_different_classes_are_an_error(tmp_path):
    for seed, name in enumerate(["seg_train/cat", "seg_train/dog", "seg_test/cat", "seg_test/dog", "seg_test/owl"]):
        add_images(tmp_path / name, 2, seed)
    assert len(load(tmp_path, "train")) == 4
    assert "differ in the class(es) owl" in error_of(tmp_path, "test")
