"""The IDX format and MNIST."""

import gzip
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from vitreous.data.mnist import load_mnist, read_idx
from vitreous.errors import InputError


def encoded(values: np.ndarray) -> bytes:
    sizes = b"".join(size.to_bytes(4, "big") for size in values.shape)
    return bytes([0, 0, 8, values.ndim]) + sizes + values.tobytes()


@given(arrays(np.uint8, array_shapes(max_dims=4, max_side=7)), st.booleans())
def test_reading_inverts_writing(values, packed):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "values"
        path.write_bytes(gzip.compress(encoded(values)) if packed else encoded(values))
        read = read_idx(path)
    assert read.dtype == np.uint8 and np.array_equal(read, values)


WHOLE = encoded(np.arange(60, dtype=np.uint8).reshape(3, 4, 5))
RANDOM = np.random.default_rng(0).integers(0, 256, 5000, dtype=np.uint8)
PACKED = gzip.compress(encoded(RANDOM), mtime=0)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0\0",
        b"not an idx file",
        bytes([0, 0, 13, 1]) + WHOLE[4:],
        WHOLE[:-1],
        WHOLE[:10],
        WHOLE + b"more",
        PACKED[:1000],
        PACKED[:5],
        PACKED[:2000] + b"scribble" + PACKED[2008:],
        gzip.compress(bytes([0, 0, 8, 3]) + bytes([255] * 12), mtime=0),
        bytes([0, 0, 8, 3]) + (10).to_bytes(4, "big") + (100_000).to_bytes(4, "big") * 2,
        bytes([0, 0, 8, 255]) + bytes([255] * 4 * 255),
    ],
)
def test_a_damaged_file_is_a_one_line_error(content, tmp_path):
    (tmp_path / "values").write_bytes(content)
    with pytest.raises(InputError, match=r"values[^\n]*(replace it|download it again)") as caught:
        read_idx(tmp_path / "values")
    assert "\n" not in str(caught.value)


def write_split(folder: Path, images: np.ndarray, labels: np.ndarray) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(encoded(images)))
    (folder / "train-labels-idx1-ubyte").write_bytes(encoded(labels))


def test_mnist_keeps_its_one_channel(tmp_path, monkeypatch):
    images = np.random.default_rng(0).integers(0, 256, (6, 28, 28), dtype=np.uint8)
    write_split(tmp_path / "mnist", images, np.array([5, 0, 4, 1, 9, 2], np.uint8))
    monkeypatch.setenv("VITREOUS_DATA", str(tmp_path))
    loaded = load_mnist("train")
    assert loaded.images_u8.shape == (6, 1, 28, 28) and np.array_equal(loaded.images_u8[:, 0].numpy(), images)
    assert loaded.labels.tolist() == [5, 0, 4, 1, 9, 2] and loaded.class_names[9] == "9"


def test_files_that_do_not_belong_together_are_refused(tmp_path, monkeypatch):
    write_split(tmp_path / "mnist", np.zeros((6, 28, 28), np.uint8), np.zeros(5, np.uint8))
    monkeypatch.setenv("VITREOUS_DATA", str(tmp_path))
    with pytest.raises(InputError, match="do not belong together"):
        load_mnist("train")


def test_the_real_mnist(shared, monkeypatch):
    monkeypatch.setenv("VITREOUS_DATA", str(shared))
    images = load_mnist("test")
    assert len(images) == 10_000
    assert torch.bincount(images.labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert images.images_u8.double().mean().item() / 255 == pytest.approx(0.13251, abs=1e-5)
