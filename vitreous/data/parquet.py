"""Parquet files in the Hugging Face layout: images as encoded bytes, labels as numbers, class names in the metadata.

A part consists of the files in the folder whose names begin with it: train-00000-of-00004.parquet, test-....
"""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from vitreous.data.decode_cache import decode_cached
from vitreous.data.decoding import EncodedImages
from vitreous.data.image_set import ImageSet
from vitreous.data.read_options import ReadOptions
from vitreous.errors import InputError

PREFIXES = {"train": "train", "validation": "val", "test": "test"}
IMAGE_NAMES = ("img", "image")
MOST_CLASSES = 100_000  # without names for them; more must be some other number
LABEL_NAMES = ("label", "fine_label", "labels")


def load_parquet(
    folder: Path, part: str, size_hw: tuple[int, int] | None = None, reading: ReadOptions | None = None
) -> ImageSet:
    """The "train", "validation" or "test" images of `folder`, in RGB and in the order of the files.

    Images are brought to `size_hw`; without it all must be of one size. They are decoded once, into the cache folder.

    Raises:
        InputError: the folder has no such files, or they lack a column of images or labels, or can't be decoded.
    """
    files = found_files(folder, part)
    identity = ("parquet", str(folder.resolve()), part)
    return decode_cached(
        identity, files_state(folder), lambda: read_files(files), size_hw, (reading or ReadOptions()).for_split(part)
    )


def encoded_parquet(part: str, folder: Path) -> EncodedImages:
    """The images of a part as they are stored.

    Raises:
        InputError: the folder has no such files, or they lack a column of images or labels.
    """
    return read_files(found_files(folder, part))


def parquet_parts(folder: Path) -> list[str]:
    """The parts that `folder` holds Parquet files of."""
    return [part for part in PREFIXES if has_parquet(folder, part)]


def has_parquet(folder: Path, part: str) -> bool:
    """Whether `folder` holds Parquet files of `part`."""
    return bool(files_of_part(folder, part))


def found_files(folder: Path, part: str) -> list[Path]:
    """The Parquet files of a part, by name.

    Raises:
        InputError: there are none.
    """
    files = files_of_part(folder, part)
    if not files:
        raise InputError(
            f"{folder} has no {PREFIXES[part]}*.parquet: give a folder with train*.parquet and test*.parquet"
        )
    return files


def files_of_part(folder: Path, part: str) -> list[Path]:
    """The Parquet files of a part, by name."""
    return sorted(path for path in folder.glob("*.parquet") if path.name.lower().startswith(PREFIXES[part]))


def read_files(files: list[Path]) -> EncodedImages:
    """The encoded images in the given files, which hold the same columns."""
    schema = read_schema(files[0])
    image_name, label_name = image_column(schema, files[0]), label_column(schema, files[0])
    class_names = class_names_of(schema, label_name) or numbered_classes(
        sorted(files[0].parent.glob("*.parquet")), label_name
    )
    return read_rows(files, image_name, label_name, class_names)


def read_rows(files: list[Path], image_name: str, label_name: str, class_names: tuple[str, ...]) -> EncodedImages:
    """The encoded images in two columns of the given files; where one is missing, reading it says so."""
    tables = [read_columns(file, [image_name, label_name]) for file in files]
    encoded = [data for table in tables for data in encoded_images(table[image_name])]
    labels = [label for table in tables for label in table[label_name].to_pylist()]
    places = [(file, row) for file, table in zip(files, tables, strict=True) for row in range(len(table))]
    unusable = sum(label is None or label < 0 for label in labels)
    if unusable or not labels:
        raise InputError(f"{files[0]}: {unusable} of {len(labels)} rows lack a label: mend or remove them")
    if max(labels) >= len(class_names):
        raise InputError(f"{files[0]} has {len(class_names)} class names but a label {max(labels)}: mend its metadata")

    def read(index: int) -> tuple[str, bytes]:
        file, row = places[index]
        if not encoded[index]:
            raise InputError(f"{file}: row {row} holds no image: mend or remove it")
        return f"{file}: row {row}", encoded[index]

    return EncodedImages(read, labels, class_names)


def read_schema(file: Path) -> pa.Schema:
    """The columns and metadata of a Parquet file."""
    try:
        return pq.read_schema(file)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"can't read {file} as Parquet: replace it ({one_line(error)})") from error


def read_columns(file: Path, names: list[str]) -> pa.Table:
    """The named columns of a Parquet file, all of which it must have."""
    if missing := set(names) - set(read_schema(file).names):
        raise InputError(f"{file} lacks the column {', '.join(sorted(missing))} that others have: mend or remove it")
    try:
        return pq.read_table(file, columns=names, partitioning=None)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"can't read {file} as Parquet: replace it ({one_line(error)})") from error


def encoded_images(column: pa.ChunkedArray) -> list[bytes]:
    """The encoded bytes of each image, empty where missing, from a column of bytes or of structs that hold them."""
    if not pa.types.is_struct(column.type):
        return [data or b"" for data in column.to_pylist()]
    index = column.type.get_field_index("bytes")
    return [data or b"" for chunk in column.chunks for data in chunk.flatten()[index].to_pylist()]


def image_column(schema: pa.Schema, file: Path) -> str:
    """The column whose type can hold encoded images; among several the one with the usual name."""
    return chosen([field.name for field in schema if holds_bytes(field.type)], IMAGE_NAMES, "images", schema, file)


def label_column(schema: pa.Schema, file: Path) -> str:
    """The column of whole numbers; among several the one with the usual name."""
    names = [field.name for field in schema if pa.types.is_integer(field.type)]
    return chosen(names, LABEL_NAMES, "labels", schema, file)


def chosen(names: list[str], usual: tuple[str, ...], kind: str, schema: pa.Schema, file: Path) -> str:
    """The only name, or the first usual one among several."""
    candidates = names if len(names) == 1 else [name for name in usual if name in names]
    if not candidates:
        raise InputError(f"{file} has no clear column of {kind} among {', '.join(schema.names)}: call it {usual[0]}")
    return candidates[0]


def holds_bytes(kind: pa.DataType) -> bool:
    """Whether a column of this type can hold encoded images: bytes, or a struct with a field of that name."""
    if pa.types.is_struct(kind):
        return kind.get_field_index("bytes") >= 0
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def class_names_of(schema: pa.Schema, label_name: str) -> tuple[str, ...]:
    """The class names in the schema's Hugging Face metadata (a ClassLabel feature); none where it states none."""
    try:
        return tuple(json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"][label_name]["names"])
    except (LookupError, TypeError, ValueError):
        return ()


def numbered_classes(files: list[Path], label_name: str) -> tuple[str, ...]:
    """The numbers from 0 to the largest label in any of the files: give those of all parts, they have one numbering."""
    tables = (read_columns(file, [label_name]) for file in files)
    largest = max((label or 0 for table in tables for label in table[label_name].to_pylist()), default=0)
    if largest >= MOST_CLASSES:
        raise InputError(
            f"{files[0].parent}: the column {label_name} reaches {largest}, it holds no class numbers: rename it"
        )
    return tuple(str(number) for number in range(largest + 1))


def files_state(folder: Path) -> list[tuple[str, int, int]]:
    """Names, sizes and times of the Parquet files, others whenever one is replaced."""
    stats = {file.name: file.stat() for file in sorted(folder.glob("*.parquet"))}
    return [(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats.items()]


def one_line(error: Exception) -> str:
    """An error's words on one line."""
    return " ".join(str(error).split())
