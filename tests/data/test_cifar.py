"""The CIFAR archives, on tiny archives of the same layout."""

import gzip
import io
import tarfile
from pathlib import Path

import numpy as np
import pytest

from vitreous.data.cifar import CIFAR_ARCHIVES, load_cifar
from vitreous.errors import InputError

NAMES = {"cifar10": ("airplane", "cat", "dog"), "cifar100": ("apple", "aquarium_fish", "baby")}
PER_FILE = 3


def tiny_archive(dataset: str, root: Path, *, without: str = "") -> tuple[np.ndarray, np.ndarray, Path]:
    """Write the archive of a dataset with 3 images a file; return all its training images and labels."""
    layout = CIFAR_ARCHIVES[dataset]
    random = np.random.default_rng(7)
    contents = {layout.names_member: "\n".join(NAMES[dataset]).encode() + b"\n\n", "readme.html": b"<p>"}
    images, labels = [], []
    for member in (*layout.members["test"], *reversed(layout.members["train"])):
        pixels = random.integers(0, 256, (PER_FILE, 3, 32, 32), dtype=np.uint8)
        classes = random.integers(0, 3, PER_FILE, dtype=np.uint8)
        coarse = np.full((PER_FILE, layout.label_bytes - 1), 19, np.uint8)
        records = np.concatenate([coarse, classes[:, None], pixels.reshape(PER_FILE, -1)], axis=1)
        contents[member] = records.tobytes()
        if member in layout.members["train"]:
            images.insert(0, pixels)
            labels.insert(0, classes)
    path = root / dataset / layout.archive.name
    path.parent.mkdir(parents=True)
    with tarfile.open(path, "w:gz") as archive:
        for name, content in contents.items():
            if name != without:
                entry = tarfile.TarInfo(f"cifar-binary/{name}")
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))
    return np.concatenate(images), np.concatenate(labels), path


@pytest.fixture(autouse=True)
def own_data(tmp_path, monkeypatch):
    monkeypatch.setenv("VITREOUS_DATA", str(tmp_path))


@pytest.mark.parametrize("dataset", CIFAR_ARCHIVES)
def test_images_labels_and_names_are_read_in_order(dataset, tmp_path):
    images, labels, _ = tiny_archive(dataset, tmp_path)
    loaded = load_cifar(dataset, "train")
    assert np.array_equal(loaded.images_u8.numpy(), images)
    assert loaded.labels.tolist() == labels.tolist() and loaded.class_names == NAMES[dataset]
    assert len(load_cifar(dataset, "test")) == PER_FILE


def test_a_decompressed_archive_is_read(tmp_path):
    images, _, path = tiny_archive("cifar10", tmp_path)
    path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes()))
    path.unlink()
    assert np.array_equal(load_cifar("cifar10", "train").images_u8.numpy(), images)


def test_a_missing_member_is_named(tmp_path):
    tiny_archive("cifar10", tmp_path, without="data_batch_3.bin")
    with pytest.raises(InputError, match=r"cifar-10-binary.tar.gz lacks data_batch_3.bin"):
        load_cifar("cifar10", "train")


@pytest.mark.parametrize("keep", [0, 10, 1000, 20_000])
def test_a_truncated_archive_is_one_line(keep, tmp_path):
    _, _, path = tiny_archive("cifar10", tmp_path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(InputError, match=r"cifar-10-binary\.tar\.gz") as caught:
        load_cifar("cifar10", "train")
    assert "\n" not in str(caught.value)


def test_records_of_another_length_are_refused(tmp_path, monkeypatch):
    _, _, path = tiny_archive("cifar10", tmp_path)
    path.rename(path.with_name(CIFAR_ARCHIVES["cifar100"].archive.name))
    with tarfile.open(path, "w:gz") as archive:
        for name, content in {"batches.meta.txt": b"a\nb", "test_batch.bin": b"\0" * 3074}.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    with pytest.raises(InputError, match="not records of 3073"):
        load_cifar("cifar10", "test")
