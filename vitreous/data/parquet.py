"""Read Parquet files as the Hugging Face hub has them: images as encoded bytes, labels as integers.

The class names are in the metadata of the files' schema, as the `datasets` library writes them.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from vitreous.data.decoding import EncodedImages
from vitreous.data.parquet_rows import ImageColumn, unreadable_parquet
from vitreous.errors import InputError

IMAGE_COLUMNS = ("img", "image")
LABEL_COLUMNS = ("label", "fine_label", "labels")
"""The usual names, the most usual first."""
MAX_UNNAMED_CLASSES = 100_000
"""A column of larger numbers holds no class numbers."""


@dataclass(frozen=True)
class Columns:
    """The columns of a schema that may hold images or labels.

    Attributes:
        images: the columns that are declared to be images, or else all columns of bytes.
        labels: the integer columns that have class names, or else all integer columns.
        class_names: by label column; empty where the schema has no class names.
        description: all columns with their types, for messages.
    """

    images: list[str]
    labels: list[str]
    class_names: dict[str, tuple[str, ...]]
    description: str


def read_schema(file: Path) -> pa.Schema:
    """Read the columns and metadata of a Parquet file.

    Raises:
        InputError: it can't be read.
    """
    try:
        return pq.read_schema(file)
    except (pa.ArrowException, OSError) as error:
        raise unreadable_parquet(file, error) from error


def find_columns(schema: pa.Schema, card_class_names: dict[str, tuple[str, ...]]) -> Columns:
    """Find the columns of images and of labels; what the metadata declare goes before what the types allow.

    Args:
        schema: of one of the files.
        card_class_names: the class names that the repository's README states, by column.
    """
    features = _features(schema)
    images = [field.name for field in schema if _holds_bytes(field.type)]
    labels = [field.name for field in schema if pa.types.is_integer(field.type)]
    names = {label: _class_names(features.get(label)) or card_class_names.get(label, ()) for label in labels}
    declared = [name for name in images if _feature_type(features.get(name)) == "Image"]
    named = [label for label in labels if names[label]]
    columns = ", ".join(f"{field.name} ({_short_type(field.type)})" for field in schema)
    return Columns(declared or images, named or labels, names, columns)


def read_rows(files: Sequence[Path], image: str, label: str, class_names: tuple[str, ...]) -> EncodedImages:
    """Find the encoded images in one column of some files, and read their labels in another, in the order of the files.

    Images are read when they are needed. A row without one is an image that can't be read.

    Raises:
        InputError: a file can't be read or lacks a column, or a label is missing or has no class name.
    """
    images = ImageColumn(_with_columns(files, [image, label]), image)
    labels = [number for file in files for number in _read_column(file, label).to_pylist()]
    unlabeled = sum(number is None or number < 0 for number in labels)
    if unlabeled or not labels:
        raise InputError(f"{files[0]}: {unlabeled} of {len(labels)} rows lack a label: repair or remove them")
    if max(labels) >= len(class_names):
        raise InputError(
            f"{files[0]} has {len(class_names)} class names but a label {max(labels)}: repair its metadata"
        )
    return EncodedImages(images.read, labels, class_names)


def int_labels(files: Sequence[Path], label: str) -> tuple[str, ...]:
    """Return "0", "1", ... up to the largest label in any file, as class names. Give the files of all splits.

    Raises:
        InputError: a file can't be read, or the numbers are too large for classes.
    """
    columns = (_read_column(file, label) for file in _with_columns(files, [label]))
    largest = max((number or 0 for column in columns for number in column.to_pylist()), default=0)
    if largest >= MAX_UNNAMED_CLASSES:
        raise InputError(
            f"{files[0].parent}: the column {label} reaches {largest}, it holds no class numbers: rename it"
        )
    return tuple(str(number) for number in range(largest + 1))


def _with_columns(files: Sequence[Path], names: Sequence[str]) -> Sequence[Path]:
    """Return the files, all of which must have the named columns."""
    for file in files:
        if missing := set(names) - set(read_schema(file).names):
            columns = ", ".join(sorted(missing))
            raise InputError(f"{file} lacks the column {columns} that others have: repair or remove it")
    return files


def _read_column(file: Path, name: str) -> pa.ChunkedArray:
    try:
        return pq.read_table(file, columns=[name], partitioning=None)[name]
    except (pa.ArrowException, OSError) as error:
        raise unreadable_parquet(file, error) from error


def _holds_bytes(kind: pa.DataType) -> bool:
    """Whether a column of this type can hold encoded images: bytes, or a struct with a field "bytes"."""
    if pa.types.is_struct(kind):
        return kind.get_field_index("bytes") >= 0
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def _features(schema: pa.Schema) -> dict[str, object]:
    """Return the features that the Hugging Face metadata of a schema declare, by column; none without metadata."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
    except (LookupError, TypeError, ValueError, RecursionError):
        return {}
    return features if isinstance(features, dict) else {}


def _feature_type(feature: object) -> object:
    return feature.get("_type") if isinstance(feature, dict) else None


def _class_names(feature: object) -> tuple[str, ...]:
    """Return the class names of a ClassLabel feature; none if it has none."""
    names = feature.get("names") if isinstance(feature, dict) else None
    return tuple(names) if isinstance(names, list) else ()


def _short_type(kind: pa.DataType) -> str:
    return "struct" if pa.types.is_struct(kind) else "list" if pa.types.is_nested(kind) else str(kind)
