"""Parquet files in the Hugging Face layout, and the cache of what they decode to."""

import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from vitreous.data import parquet
from vitreous.data.parquet import load_parquet
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


def refused(folder, part="train", size_hw=None) -> str:
    with pytest.raises(InputError) as caught:
        load_parquet(folder, part, size_hw)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_pixels_labels_and_names_are_read_in_order(folder):
    train, test = load_parquet(folder, "train"), load_parquet(folder, "test")
    assert np.array_equal(train.images_u8.numpy(), IMAGES[:8].transpose(0, 3, 1, 2))
    assert np.array_equal(test.images_u8.numpy(), IMAGES[8:].transpose(0, 3, 1, 2))
    assert train.labels.tolist() == LABELS[:8] and train.class_names == test.class_names == ("ant", "bee", "cow")


@pytest.mark.parametrize("plain", [False, True])
def test_columns_are_found_by_type_and_classes_without_names_are_numbered(tmp_path, plain):
    content = table(slice(0, 4), image="image", names=(), plain=plain).drop_columns("id")
    pq.write_table(content.rename_columns(["image", "kind"]), tmp_path / "train.parquet")
    more = table(slice(0, 1), image="image", plain=plain).drop_columns("id")
    pq.write_table(more.rename_columns(["image", "kind"]).set_column(1, "kind", [[7]]), tmp_path / "test.parquet")
    train = load_parquet(tmp_path, "train")
    assert np.array_equal(train.images_u8.numpy(), IMAGES[:4].transpose(0, 3, 1, 2))
    assert train.class_names == tuple("01234567")  # the test part knows a class more


def test_fine_labels_are_chosen_over_coarse_ones(tmp_path):
    content = table(slice(0, 4), label="fine_label").append_column("coarse_label", [[9, 9, 9, 9]])
    pq.write_table(content, tmp_path / "train.parquet")
    assert load_parquet(tmp_path, "train").labels.tolist() == LABELS[:4]


def test_images_are_fitted_to_the_size_asked_for(folder):
    assert load_parquet(folder, "train", (4, 6)).images_u8.shape == (8, 3, 4, 6)
    assert load_parquet(folder, "train").images_u8.shape == (8, 3, 7, 5)


def test_the_second_time_comes_from_the_cache(folder, monkeypatch):
    first = load_parquet(folder, "train")
    monkeypatch.setattr(parquet, "read_files", None)
    second = load_parquet(folder, "train")
    assert second.fingerprint() == first.fingerprint() and second.class_names == first.class_names
    assert second.images_u8.is_contiguous() and torch.equal(second.labels, first.labels)


def test_replaced_files_are_decoded_anew(folder):
    load_parquet(folder, "train")
    pq.write_table(table(slice(2, 5)), folder / "train-00001-of-00002.parquet")
    assert np.array_equal(load_parquet(folder, "train").images_u8[5:].numpy(), IMAGES[2:5].transpose(0, 3, 1, 2))


@pytest.mark.parametrize("damage", [lambda data: data[:-100], lambda data: b"", lambda data: data[:-1] + b"\xff"])
def test_a_damaged_cache_is_rebuilt_with_a_note(folder, cache, capsys, damage):
    expected = load_parquet(folder, "train").fingerprint()
    (kept,) = (cache / "decoded").glob("*.safetensors")
    assert capsys.readouterr().err == ""
    kept.write_bytes(damage(kept.read_bytes()))
    assert load_parquet(folder, "train").fingerprint() == expected
    assert "is damaged" in capsys.readouterr().err
    load_parquet(folder, "train")
    assert capsys.readouterr().err == ""


def test_a_cache_that_can_not_be_written_is_no_obstacle(folder, cache, capsys):
    cache.write_text("a file where the folder should be")
    assert len(load_parquet(folder, "train")) == 8
    assert "are not kept" in capsys.readouterr().err


def test_missing_and_damaged_files_are_one_line(folder):
    assert "has no val*.parquet" in refused(folder, "validation")
    path = folder / "train-00001-of-00002.parquet"
    path.write_bytes(path.read_bytes()[:200])
    assert "can't read" in refused(folder) and "00001" in refused(folder)


def with_column(content: pa.Table, name: str, values: list) -> pa.Table:
    """A table with other values in a column."""
    replacement = pa.array(values, content.schema.field(name).type)
    return content.set_column(content.column_names.index(name), name, replacement)


def test_rows_without_a_label_are_refused(tmp_path):
    pq.write_table(with_column(table(slice(0, 3)), "label", [-1, 0, None]), tmp_path / "train.parquet")
    assert "2 of 3 rows lack a label" in refused(tmp_path)


def test_rows_without_an_image_are_unreadable_images(tmp_path, capsys):
    pq.write_table(table(slice(0, 2)), tmp_path / "train-0.parquet")
    missing: list = [None, {"bytes": None, "path": None}, {"bytes": b"", "path": None}]
    pq.write_table(with_column(table(slice(2, 5)), "img", missing), tmp_path / "train-1.parquet")
    assert "3 of 5 training images can't be used" in (line := refused(tmp_path))
    assert f"{tmp_path / 'train-1.parquet'}: row 0 holds no image" in line
    kept = load_parquet(tmp_path, "train", None, ReadOptions(skip_unreadable=True))
    assert kept.labels.tolist() == LABELS[:2] and "row 2 holds no image" in capsys.readouterr().err


def test_labels_without_a_name_are_refused(tmp_path):
    pq.write_table(table(slice(0, 3), names=("ant", "bee")), tmp_path / "train.parquet")
    assert "2 class names but a label 2" in refused(tmp_path)


def test_numbers_that_are_no_classes_are_refused(tmp_path):
    content = table(slice(0, 2), names=()).drop_columns(["id", "label"]).append_column("key", [[5, 10**12]])
    pq.write_table(content, tmp_path / "train.parquet")
    assert "holds no class numbers" in refused(tmp_path)


def test_missing_columns_are_named(folder):
    pq.write_table(table(slice(0, 3)).drop_columns("img"), folder / "train-00001-of-00002.parquet")
    assert "lacks the column img" in refused(folder)
    pq.write_table(table(slice(0, 3)).drop_columns("img"), folder / "train-00000-of-00002.parquet")
    assert "no clear column of images" in refused(folder)


def test_damaged_images_are_counted(tmp_path):
    content = table(slice(0, 3)).set_column(1, "img", [[{"bytes": b"nonsense", "path": None}] * 3])
    pq.write_table(content, tmp_path / "train.parquet")
    assert "3 of 3 training images can't be used" in refused(tmp_path, size_hw=(7, 5))


def test_the_real_cifar10(shared):
    test = load_parquet(shared / "cifar10", "test")
    assert test.images_u8.shape == (10_000, 3, 32, 32)
    assert torch.bincount(test.labels).tolist() == [1000] * 10
    assert test.class_names[:3] == ("airplane", "automobile", "bird") and len(test.class_names) == 10
