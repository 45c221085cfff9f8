"""Folders of one's own images."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vitreous.data.folder import SUFFIXES, has_validation, list_images, load_folder, load_training_folder, skipped_files
from vitreous.data.read_options import ReadOptions
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
def parted(tmp_path):
    for seed, part in enumerate(["train", "test", "val"]):
        add_images(tmp_path / "photos" / part / "cat", 3 + seed, seed)
        add_images(tmp_path / "photos" / part / "dog", 2, seed + 10)
    return tmp_path / "photos"


def contents(images) -> set[bytes]:
    return {image.numpy().tobytes() for image in images.images_u8}


def refused(folder: Path, part: str = "train", size_hw=(6, 9)) -> str:
    with pytest.raises(InputError) as caught:
        load_folder(folder, part, size_hw)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_simple_folder_is_divided_without_overlap(flat):
    train, test = load_folder(flat, "train"), load_folder(flat, "test")
    assert train.class_names == test.class_names == ("cat", "dog")
    assert train.images_u8.shape[1:] == (3, 6, 9)
    assert len(train) + len(test) == 70 and 3 <= len(test) <= 20
    assert not contents(train) & contents(test)
    assert torch.bincount(train.labels).min() > 0


def test_pixels_and_labels_belong_together(flat):
    train = load_folder(flat, "train")
    for label, name in enumerate(train.class_names):
        own = {np.asarray(Image.open(path)).transpose(2, 0, 1).tobytes() for path in (flat / name).iterdir()}
        assert contents(train.select(torch.nonzero(train.labels == label)[:, 0])) <= own


def test_an_image_keeps_its_part_when_others_come_and_names_change(flat):
    before = contents(load_folder(flat, "test"))
    for path in (flat / "cat").iterdir():
        path.rename(path.with_name(f"renamed-{path.name}"))
    add_images(flat / "dog" / "more", 25, seed=3)
    after = load_folder(flat, "test")
    assert before <= contents(after)
    assert len(after) + len(load_folder(flat, "train")) == 95


def test_folders_of_their_own_are_kept_apart(parted):
    assert [len(load_folder(parted, part)) for part in ("train", "test", "validation")] == [5, 6, 7]
    assert has_validation(parted)
    shutil.rmtree(parted / "val")
    assert not has_validation(parted)


def test_a_class_may_be_called_train(tmp_path):
    add_images(tmp_path / "train", 30, seed=1)
    add_images(tmp_path / "car", 30, seed=2)
    assert load_folder(tmp_path, "train").class_names == ("car", "train")
    assert not has_validation(tmp_path)


def test_images_of_any_size_are_fitted(flat):
    add_images(flat / "cat", 3, seed=5, size_hw=(50, 20))
    assert load_folder(flat, "train", (8, 12)).images_u8.shape[1:] == (3, 8, 12)
    assert "name one size" in refused(flat, size_hw=None)


def test_other_files_are_passed_over(flat):
    (flat / "README.md").write_text("about")
    (flat / "cat" / "notes.txt").write_text("about")
    (flat / ".cache").mkdir()
    assert load_folder(flat, "train").class_names == ("cat", "dog")


def test_every_ending_of_what_is_decoded_is_known():
    Image.init()
    readable = {ending for ending, kind in Image.registered_extensions().items() if kind in FORMATS}
    assert readable <= SUFFIXES and SUFFIXES - readable <= {".avif", ".avifs", ".mpo"}


def test_less_usual_endings_are_images(flat):
    for ending in ("jfif", "JP2", "pbm"):
        image = Image.fromarray(np.zeros((6, 9, 3), np.uint8))
        image.convert("1" if ending == "pbm" else "RGB").save(flat / "cat" / f"more.{ending}")
    count = len(load_folder(flat, "train")) + len(load_folder(flat, "test"))
    assert count == 73 and skipped_files(flat) == []


def test_files_in_no_part_are_named_and_noted(parted):
    (parted / "README.md").touch()
    (parted / "loose.png").touch()
    (parted / "train" / "cat" / ".DS_Store").touch()
    (parted / "train" / "loose.jpg").touch()
    for name in ("1.heic", "2.HEIC", "3", "more/4.heic"):
        (parted / "train" / "cat" / name).parent.mkdir(exist_ok=True)
        (parted / "train" / "cat" / name).touch()
    add_images(parted / "valid" / "cat", 2, 1)
    shutil.rmtree(parted / "test" / "dog")  # of no concern to training
    names = [path.relative_to(parted).as_posix() for path in skipped_files(parted)]
    assert names == [
        "loose.png", "train/cat/1.heic", "train/cat/2.HEIC", "train/cat/3", "train/cat/more/4.heic", "train/loose.jpg",
        "valid/cat/000.png", "valid/cat/001.png",
    ]  # fmt: skip
    notes = []
    load_training_folder(parted, None, ReadOptions(on_note=notes.append), 0.0)
    assert notes == [f"8 file(s) in {parted} are left out: .heic 3, .png 3, .jpg 1, none 1; `vitreous data` names them"]


def test_a_class_of_other_files_says_of_which(flat):
    for name in ("zebra/1.heic", "zebra/2.heic"):
        (flat / name).parent.mkdir(exist_ok=True)
        (flat / name).touch()
    assert "zebra holds no images, only .heic 2" in refused(flat)


def test_unreadable_images_are_counted_and_the_first_are_named(flat):
    for number in range(40):
        (flat / "cat" / f"bad{number:02}.jpg").write_bytes(b"no image %d" % number)
    (flat / "dog" / "short.png").write_bytes((flat / "dog" / "000.png").read_bytes()[:60])
    line = refused(flat)
    count = int(line.split(" of ")[0])
    assert 25 <= count <= 41 and "bad" in line and f"and {count - 3} more" in line


def test_what_is_no_folder_of_classes_is_refused(tmp_path, flat):
    assert "there is no folder" in refused(tmp_path / "typo")
    assert "there is no folder" in refused(flat / "cat" / "000.png")
    assert "holds 0 class folder(s)" in refused(flat / "cat")
    shutil.rmtree(flat / "dog")
    assert "holds 1 class folder(s)" in refused(flat)


def test_an_empty_class_is_refused(flat):
    (flat / "zebra").mkdir()
    assert "zebra holds no images" in refused(flat)


def test_parts_with_different_classes_are_refused(parted):
    add_images(parted / "test" / "owl", 1, seed=9)
    assert "differ in the class(es) owl" in refused(parted, "test")
    shutil.rmtree(parted / "test")
    assert "no test folder" in refused(parted, "test")


def test_too_few_images_to_divide_are_refused(tmp_path):
    for name in ("cat", "dog"):
        add_images(tmp_path / name, 1, seed=len(name) + ord(name[0]))
    lines = []
    for part in ("train", "test"):
        try:
            load_folder(tmp_path, part)
        except InputError as error:
            lines.append(str(error))
    assert lines and all("too few images" in line for line in lines)


def test_hidden_files_are_no_images(flat):
    before = {part: load_folder(flat, part).fingerprint() for part in ("train", "test")}
    add_images(flat / "dog" / ".ipynb_checkpoints", 3, seed=9)
    (flat / "cat" / "._000.png").write_bytes(b"what a Mac leaves beside an image")
    assert {part: load_folder(flat, part).fingerprint() for part in ("train", "test")} == before
    assert skipped_files(flat) == []


def test_links_to_folders_are_followed_wherever_they_lead(flat, tmp_path):
    add_images(tmp_path / "store" / "deep", 25, seed=3)
    add_images(tmp_path / "owls", 9, seed=4)
    add_images(flat / "cat" / "real", 1, seed=5)
    before = list_images(flat, "train")
    (flat / "cat" / "real" / "again").symlink_to(flat / "cat")
    (flat / "dog" / "up").symlink_to("..")
    (flat / "cat" / "also").symlink_to("real")
    assert list_images(flat, "train") == before, "nothing is new there"
    (flat / "cat" / "more").symlink_to(tmp_path / "store")
    (tmp_path / "store" / "deep" / "back").symlink_to(tmp_path / "store")
    (flat / "owl").symlink_to(tmp_path / "owls")
    paths = [one.path.relative_to(flat).as_posix() for one in list_images(flat, "train")]
    assert len(paths) == 71 + 25 + 9 and "cat/more/deep/024.png" in paths and "owl/000.png" in paths
    assert len(load_folder(flat, "train")) + len(load_folder(flat, "test")) == 105


def test_links_that_lead_to_nothing_are_images_that_cant_be_read(flat, tmp_path):
    for name, place in {"lost.jpg": "/gone/lost.jpg", "self": "self", "more": "/gone"}.items():
        (flat / "dog" / name).symlink_to(place)
    line = refused(flat)
    assert line.startswith("3 of ") and "training images can't be used" in line
    assert "dog/lost.jpg: it is a link to /gone/lost.jpg, which isn't there" in line
    notes = []
    assert len(load_folder(flat, "train", reading=ReadOptions(skip_unreadable=True, on_note=notes.append))) > 50
    assert len(notes) == 4
    (flat / "fox").symlink_to("/gone/fox")
    assert skipped_files(flat) == [flat / "fox"]


def test_what_a_class_has_a_link_to_is_not_left_out(parted, tmp_path):
    add_images(parted / "raw" / "cats", 3, seed=7)
    shutil.copy(parted / "raw" / "cats" / "000.png", parted / "raw" / "000.png")
    (parted / "train" / "cat" / "more").symlink_to(parted / "raw" / "cats")
    assert skipped_files(parted) == [parted / "raw" / "000.png"]
    assert len(load_folder(parted, "train")) == 3 + 3 + 2


def test_links_beside_the_parts_are_not_walked(parted, tmp_path):
    add_images(tmp_path / "archive", 3, seed=9)
    (parted / "archive").symlink_to(tmp_path / "archive")
    (parted / "valid").mkdir()
    shutil.copy(parted / "train" / "cat" / "000.png", parted / "valid" / "one.png")
    assert skipped_files(parted) == [parted / "valid" / "one.png"]


def test_the_order_of_images_is_that_of_their_paths(flat):
    """On it stand the splits and the fingerprints of earlier runs."""
    for number, place in enumerate(["b", "a/c", "a", "Z", "a b"]):
        add_images(flat / "cat" / place, 2, seed=number)
    (flat / "cat" / "linked.png").symlink_to("000.png")
    earlier = [path for name in ("cat", "dog") for path in sorted((flat / name).rglob("*")) if path.is_file()]
    assert [one.path for one in list_images(flat, "train")] == earlier


def test_faults_are_told_with_the_part_that_has_them(parted):
    (parted / "val" / "cat" / "words.png").write_text("words")
    (parted / "test" / "cat" / "words.png").write_text("words")
    assert len(load_folder(parted, "train")) == 5
    assert refused(parted, "validation").startswith("1 of 8 validation images can't be used")
    assert refused(parted, "test").startswith("1 of 7 test images can't be used")
