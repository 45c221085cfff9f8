"""Folders of Parquet files as the Hugging Face hub has them, and the cache of decoded images."""

import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from vitreous.data import parquet
from vitreous.data.class_names import same_classes
from vitreous.data.hub_dataset import open_parquet_folder
from vitreous.data.image_set import ImageSet
from vitreous.data.read_options import ReadOptions
from vitreous.errors import InputError

RANDOM = np.random.default_rng(3)
IMAGES = RANDOM.integers(0, 256, (10, 7, 5, 3), dtype=np.uint8)
LABELS = [0, 2, 1, 1, 0, 2, 2, 0, 1, 2]


def png(image: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "png")
    return stream.getvalue()


def table(rows: slice, *, image="img", label="label", names=("ant", "bee", "cow"), plain=False) -> pa.Table:
    encoded = [png(image_u8) for image_u8 in IMAGES[rows]]
    column = encoded if plain else [{"bytes": data, "path": None} for data in encoded]
    features = {label: {"names": list(names), "_type": "ClassLabel"}}
    made = pa.table({"id": list(range(len(encoded))), image: column, label: LABELS[rows]})
    return made.replace_schema_metadata(
        {"huggingface": json.dumps({"info": {"features": features}})} if names else None
    )


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("VITREOUS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def folder(tmp_path):
    pq.write_table(table(slice(0, 5)), tmp_path / "train-00000-of-00002.parquet", row_group_size=2)
    pq.write_table(table(slice(5, 8)), tmp_path / "train-00001-of-00002.parquet")
    pq.write_table(table(slice(8, 10)), tmp_path / "test-00000-of-00001.parquet")
    return tmp_path


def load(folder, split="train", image_size=None, options=None) -> ImageSet:
    return open_parquet_folder(folder).load(split, image_size, options or ReadOptions())


def error_of(folder, split="train", size_hw=None) -> str:
    with pytest.raises(InputError) as caught:
        load(folder, split, size_hw)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_pixels_labels_and_names_are_read_in_order(folder):
    train, test = load(folder, "train"), load(folder, "test")
    assert np.array_equal(train.images_u8.numpy(), IMAGES[:8].transpose(0, 3, 1, 2))
    assert np.array_equal(test.images_u8.numpy(), IMAGES[8:].transpose(0, 3, 1, 2))
    assert train.labels.tolist() == LABELS[:8] and train.class_names == test.class_names == ("ant", "bee", "cow")


@pytest.mark.parametrize("plain", [False, True])
def test_columns_are_found_by_type_and_unnamed_classes_are_numbered(tmp_path, plain):
    content = table(slice(0, 4), image="image", names=(), plain=plain).drop_columns("id")
    pq.write_table(content.rename_columns(["image", "kind"]), tmp_path / "train.parquet")
    more = table(slice(0, 1), image="image", plain=plain).drop_columns("id")
    pq.write_table(more.rename_columns(["image", "kind"]).set_column(1, "kind", [[7]]), tmp_path / "test.parquet")
    train = load(tmp_path, "train")
    assert np.array_equal(train.images_u8.numpy(), IMAGES[:4].transpose(0, 3, 1, 2))
    assert train.class_names == tuple("01234567")  # the test split has one class more


def test_fine_labels_are_preferred_to_coarse_ones(tmp_path):
    content = table(slice(0, 4), label="fine_label").append_column("coarse_label", [[9, 9, 9, 9]])
    pq.write_table(content, tmp_path / "train.parquet")
    assert load(tmp_path, "train").labels.tolist() == LABELS[:4]


def test_images_are_resized_to_the_wanted_size(folder):
    assert load(folder, "train", (4, 6)).images_u8.shape == (8, 3, 4, 6)
    assert load(folder, "train").images_u8.shape == (8, 3, 7, 5)


def test_the_second_load_comes_from_the_cache(folder, monkeypatch):
    first = load(folder, "train")
    monkeypatch.setattr(parquet, "read_rows", None)
    second = load(folder, "train")
    assert second.fingerprint() == first.fingerprint() and second.class_names == first.class_names
    assert second.images_u8.is_contiguous() and torch.equal(second.labels, first.labels)


def test_replaced_files_are_decoded_again(folder):
    load(folder, "train")
    pq.write_table(table(slice(2, 5)), folder / "train-00001-of-00002.parquet")
    assert np.array_equal(load(folder, "train").images_u8[5:].numpy(), IMAGES[2:5].transpose(0, 3, 1, 2))


@pytest.mark.parametrize("damage", [lambda data: data[:-100], lambda data: b"", lambda data: data[:-1] + b"\xff"])
def test_a_damaged_cache_is_rebuilt_with_a_note(folder, cache, capsys, damage):
    expected = load(folder, "train").fingerprint()
    (cached,) = (cache / "decoded").glob("*.safetensors")
    assert capsys.readouterr().err == ""
    cached.write_bytes(damage(cached.read_bytes()))
    assert load(folder, "train").fingerprint() == expected
    assert "is damaged" in capsys.readouterr().err
    load(folder, "train")
    assert capsys.readouterr().err == ""


def test_a_cache_that_cant_be_written_is_only_noted(folder, cache, capsys):
    cache.write_text("a file where the folder should be")
    assert len(load(folder, "train")) == 8
    assert "are not cached" in capsys.readouterr().err


def test_missing_and_damaged_files_are_one_line_errors(folder):
    assert "has no validation images, only test, train" in error_of(folder, "validation")
    path = folder / "train-00001-of-00002.parquet"
    path.write_bytes(path.read_bytes()[:200])
    assert "can't read" in error_of(folder) and "00001" in error_of(folder)


def with_column(content: pa.Table, name: str, values: list) -> pa.Table:
    """A table with other values in a column."""
    replacement = pa.array(values, content.schema.field(name).type)
    return content.set_column(content.column_names.index(name), name, replacement)


def test_rows_without_a_label_are_an_error(tmp_path):
    pq.write_table(with_column(table(slice(0, 3)), "label", [-1, 0, None]), tmp_path / "train.parquet")
    assert "2 of 3 rows lack a label" in error_of(tmp_path)


def test_rows_without_an_image_are_unreadable_images(tmp_path, capsys):
    pq.write_table(table(slice(0, 2)), tmp_path / "train-0.parquet")
    missing: list = [None, {"bytes": None, "path": None}, {"bytes": b"", "path": None}]
    pq.write_table(with_column(table(slice(2, 5)), "img", missing), tmp_path / "train-1.parquet")
    assert "3 of 5 training images can't be used" in (line := error_of(tmp_path))
    assert f"{tmp_path / 'train-1.parquet'}: row 0 holds no image" in line
    readable = load(tmp_path, "train", None, ReadOptions(skip_unreadable=True))
    assert readable.labels.tolist() == LABELS[:2] and "row 2 holds no image" in capsys.readouterr().err


def test_labels_without_a_class_name_are_an_error(tmp_path):
    pq.write_table(table(slice(0, 3), names=("ant", "bee")), tmp_path / "train.parquet")
    assert "2 class names but a label 2" in error_of(tmp_path)


def test_large_numbers_are_not_classes(tmp_path):
    content = table(slice(0, 2), names=()).drop_columns(["id", "label"]).append_column("key", [[5, 10**12]])
    pq.write_table(content, tmp_path / "train.parquet")
    assert "holds no class numbers" in error_of(tmp_path)


def test_an_error_names_missing_columns(folder):
    pq.write_table(table(slice(0, 3)).drop_columns("img"), folder / "train-00001-of-00002.parquet")
    assert "lacks the column img" in error_of(folder)
    pq.write_table(table(slice(0, 3)).drop_columns("img"), folder / "train-00000-of-00002.parquet")
    assert "has no column of images, only id (int64), label (int64)" in error_of(folder)


def test_damaged_images_are_counted(tmp_path):
    content = table(slice(0, 3)).set_column(1, "img", [[{"bytes": b"nonsense", "path": None}] * 3])
    pq.write_table(content, tmp_path / "train.parquet")
    assert "3 of 3 training images can't be used" in error_of(tmp_path, size_hw=(7, 5))


def test_the_real_cifar10(shared):
    test = load(shared / "cifar10", "test")
    assert test.images_u8.shape == (10_000, 3, 32, 32)
    assert torch.bincount(test.labels).tolist() == [1000] * 10
    assert test.class_names[:3] == ("airplane", "automobile", "bird") and len(test.class_names) == 10


@pytest.mark.parametrize("names", [[1, 2, 3], [None, "b", "c"], [{"a": 1}, "b", "c"]])
def test_class_names_that_are_no_text_are_an_error(names, tmp_path):
    pq.write_table(table(slice(0, 5), names=names), tmp_path / "train.parquet")
    assert "is no text: repair its metadata" in error_of(tmp_path)


def test_class_names_are_different_and_cant_steer_a_terminal(tmp_path):
    pq.write_table(table(slice(0, 5), names=["a", "\x1b[2J", "a"]), tmp_path / "train.parquet")
    assert load(tmp_path).class_names == ("a", r"\x1b[2J", "a (2)")
    assert same_classes(("a", "b", "a"), ("a", "b", "a (2)")) and not same_classes(("a", "b"), ("b", "a"))


@pytest.mark.parametrize("metadata", [b"[" * 100_000, b"\xff", b"7", b'{"info": {"features": [1]}}'])
def test_odd_metadata_are_left_alone(metadata, tmp_path):
    pq.write_table(table(slice(0, 5)).replace_schema_metadata({b"huggingface": metadata}), tmp_path / "train.parquet")
    assert load(tmp_path).class_names == ("0", "1", "2")
