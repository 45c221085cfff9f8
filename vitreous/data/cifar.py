"""Read CIFAR-10 and CIFAR-100 from their official archives: records of label bytes and 3 x 32 x 32 pixels."""

import tarfile
import zlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import torch

from vitreous.data.hub_dataset import has_parquet, open_parquet_folder
from vitreous.data.image_set import ImageSet
from vitreous.data.read_options import ReadOptions
from vitreous.downloads import Archive, fetch_cached, user_data_dir
from vitreous.errors import InputError

HOME = "https://www.cs.toronto.edu/~kriz"
SHAPE = (3, 32, 32)


@dataclass(frozen=True)
class CifarArchive:
    """How one of the two archives is laid out.

    Attributes:
        archive: the file.
        label_bytes: how many label bytes a record has; the last one is the (fine) class.
        members: the names of the files of records, by split.
        names_member: the name of the file with the class names.
    """

    archive: Archive
    label_bytes: int
    members: dict[str, tuple[str, ...]]
    names_member: str


CIFAR_ARCHIVES = {
    "cifar10": CifarArchive(
        archive=Archive(f"{HOME}/cifar-10-binary.tar.gz", "c32a1d4ab5d03f1284b67883e8d87530", 170_052_171),
        label_bytes=1,
        members={"train": tuple(f"data_batch_{n}.bin" for n in range(1, 6)), "test": ("test_batch.bin",)},
        names_member="batches.meta.txt",
    ),
    "cifar100": CifarArchive(
        archive=Archive(f"{HOME}/cifar-100-binary.tar.gz", "03b5dce01913d631647c71ecec9e9cb8", 168_513_733),
        label_bytes=2,
        members={"train": ("train.bin",), "test": ("test.bin",)},
        names_member="fine_label_names.txt",
    ),
}


def load_cifar(dataset: str, split: str) -> ImageSet:
    """Load the "train" (50,000) or "test" (10,000) images of "cifar10" or "cifar100", 32 x 32 (Krizhevsky 2009).

    Parquet files in the dataset's folder of VITREOUS_DATA come first, then the archive there, then the cached one.
    Otherwise the archive is downloaded.

    Raises:
        InputError: the data can't be found or downloaded, or is damaged.
    """
    folder = user_data_dir(dataset)
    if folder and has_parquet(folder, split):
        return open_parquet_folder(folder).load(split, None, ReadOptions())
    layout = CIFAR_ARCHIVES[dataset]
    return read_cifar(fetch_cached(layout.archive, dataset), layout, split)


def read_cifar(path: Path, layout: CifarArchive, split: str) -> ImageSet:
    """Read one split from the archive at `path`, compressed or not, without unpacking it to the disk.

    Raises:
        InputError: the archive is damaged or laid out differently.
    """
    contents = _read_members(path, {*layout.members[split], layout.names_member})
    names = tuple(contents[layout.names_member].decode(errors="replace").split())
    data = b"".join(contents[member] for member in layout.members[split])
    record_bytes = layout.label_bytes + int(np.prod(SHAPE))
    if not data or len(data) % record_bytes:
        raise InputError(f"{path} has {len(data)} bytes for {split}, not records of {record_bytes}: replace it")
    records = np.frombuffer(data, np.uint8).reshape(-1, record_bytes)
    labels = records[:, layout.label_bytes - 1].astype(np.int64)
    if labels.max() >= len(names):
        raise InputError(f"{path} has an image of class {labels.max()} but {len(names)} class names: replace it")
    images_u8 = records[:, layout.label_bytes :].reshape(-1, *SHAPE).copy()
    return ImageSet(torch.from_numpy(images_u8), torch.from_numpy(labels), names)


def _read_members(path: Path, wanted: set[str]) -> dict[str, bytes]:
    """Return the contents of some files of a tar archive, by their names without folders, in one pass."""
    contents: dict[str, bytes] = {}
    try:
        with tarfile.open(path, "r|*") as archive:
            for member in archive:
                name = PurePosixPath(member.name).name
                if name in wanted and (file := archive.extractfile(member)):
                    contents[name] = file.read()
                if contents.keys() == wanted:
                    break
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise InputError(f"can't read {path}: the file is damaged or truncated ({error}); download it again") from error
    if missing := wanted - contents.keys():
        raise InputError(f"{path} lacks {', '.join(sorted(missing))}: replace it by the binary version")
    return contents
