"""Image data sets of the Hugging Face hub: "hf:OWNER/NAME", or a folder laid out like one of its repositories.

Images and labels are in Parquet files, or images lie in a folder a class. Only the files of the part that is asked
for are fetched, once, into the hub's own cache.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from vitreous.data.decode_cache import decode_cached
from vitreous.data.decoding import EncodedImages, read_file
from vitreous.data.hub_layout import Configuration, chosen, class_of, configurations, is_image, named_classes
from vitreous.data.image_set import ImageSet
from vitreous.data.parquet import (
    IMAGE_NAMES,
    LABEL_NAMES,
    class_names_of,
    holds_bytes,
    numbered_classes,
    read_rows,
    read_schema,
)
from vitreous.data.read_options import ReadOptions
from vitreous.errors import InputError, unknown
from vitreous.hub import HubRepository, LocalRepository

Found = tuple[tuple[str, ...], Callable[[], EncodedImages], list[Path]]
"""The names of the classes, what gives the encoded images, and the files that they are in."""

CARD = "README.md"
CONVERTED = "refs/convert/parquet"  # where the hub keeps its own Parquet files of most data sets


@dataclass(frozen=True)
class HubData:
    """A data set in a repository: `name` for messages, where its files are, the README's metadata, which files."""

    name: str
    repository: LocalRepository | HubRepository
    card: Mapping[str, Any]
    configuration: Configuration

    def names(self, part: str) -> tuple[str, ...]:
        """The names of the files of a part.

        Raises:
            InputError: it has no such part.
        """
        parts = self.configuration.parts
        if part not in parts:
            raise InputError(f"{self.name} has no {part} images, only {', '.join(sorted(parts))}: ask for these")
        return parts[part]


def load_hub(
    part: str, place: Path, size_hw: tuple[int, int] | None = None, reading: ReadOptions | None = None
) -> ImageSet:
    """The "train", "validation" or "test" images of a data set, in RGB and in the order of its files.

    Args:
        part: which.
        place: OWNER/NAME, further @REVISION and :CONFIGURATION where they are needed; or an absolute path of a folder.
        size_hw: (height, width) that images are brought to; without it all must be of one size.
        reading: how they are brought to it, and whether unreadable ones are skipped.

    Raises:
        InputError: there is no such data set or part, it can't be fetched, or it isn't one of images with labels.
    """
    data = open_hub(place)
    class_names, encoded, files = stored(data, part)
    stats = [(name, file.stat()) for name, file in zip(data.names(part), files, strict=True)]
    state = (class_names, [(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats])
    return decode_cached(("hub", str(place), part), state, encoded, size_hw, (reading or ReadOptions()).for_split(part))


def encoded_hub(part: str, place: Path) -> EncodedImages:
    """The images of a part as they are stored; as `load_hub`.

    Raises:
        InputError: there is no such data set or part, it can't be fetched, or it isn't one of images with labels.
    """
    return stored(open_hub(place), part)[1]()


def hub_parts(place: Path) -> list[str]:
    """The parts that a data set has."""
    return list(open_hub(place).configuration.parts)


def stored(data: HubData, part: str) -> Found:
    """What a part holds, all of its files fetched."""
    return (image_files if is_image(data.names(part)[0]) else parquet_files)(data, part)


def open_hub(place: Path) -> HubData:
    """The data set at a place, none of its images fetched yet.

    Raises:
        InputError: there is none, or none of images, or several and none is chosen.
    """
    repository, wanted = repository_of(place)
    repository, names = repository.list_files()
    card = card_of(repository) if CARD in names else {}
    found = configurations(names, card)
    if not found:
        remedy = "give another"
        if isinstance(repository, HubRepository):
            remedy = f"try hf:{repository.id}@{CONVERTED}, which the hub makes of most data sets"
        raise InputError(
            f"{repository.name} holds no Parquet files, and no images in folders such as train/CLASS: {remedy}"
        )
    configuration = chosen(found, wanted)
    if configuration is None:
        options = [one.name for one in found]
        if wanted:
            raise unknown(f"configuration of {repository.name}", wanted, options)
        raise InputError(
            f"{repository.name} has several configurations: write hf:{without_name(place)}:NAME "
            f"with one of {', '.join(options)}"
        )
    name = f"{repository.name}:{configuration.name}" if len(found) > 1 else repository.name
    return HubData(name, repository, card, configuration)


def repository_of(place: Path) -> tuple[LocalRepository | HubRepository, str]:
    """The repository, or the folder if the path is absolute, that a place names; and the configuration, or ""."""
    text = str(place)
    if place.is_absolute():
        path, _, configuration = (text, "", "") if place.is_dir() else text.rpartition(":")
        if not path or not Path(path).is_dir():
            raise InputError(f"there is no folder {text}: give one with Parquet files or train/CLASS folders in it")
        return LocalRepository(Path(path)), configuration
    name, _, configuration = text.partition(":")
    name, _, revision = name.partition("@")
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        raise InputError(
            f"'hf:{text}' names no data set: write hf:OWNER/NAME, hf:OWNER/NAME:CONFIGURATION, or hf:./FOLDER"
        )
    return HubRepository(name, revision or None, "dataset"), configuration


def without_name(place: Path) -> str:
    """A place as it is written, without a configuration."""
    return str(place).partition(":")[0]


def card_of(repository: LocalRepository | HubRepository) -> Mapping[str, Any]:
    """The metadata at the beginning of a repository's README.

    Raises:
        InputError: they can't be read.
    """
    from huggingface_hub import metadata_load

    (path,) = repository.find_all([CARD])
    try:
        return metadata_load(path) or {}
    except Exception as error:  # noqa: BLE001 its parser's own, which are no ValueErrors
        raise InputError(
            f"{repository.name}: the metadata of its {CARD} can't be read: mend them ({' '.join(str(error).split())})"
        ) from None


def parquet_files(data: HubData, part: str) -> Found:
    """What the Parquet files of a part hold, all of them fetched."""
    files = data.repository.find_all(data.names(part))
    image_name, label_name, class_names = columns_of(data, files[0])
    return class_names, lambda: read_rows(files, image_name, label_name, class_names), files


def image_files(data: HubData, part: str) -> Found:
    """The images of a part that lie in a folder a class, all of them fetched."""
    labels, class_names = labels_of(data, part)
    names = data.names(part)
    files = data.repository.find_all(names)

    def read(index: int) -> tuple[str, bytes]:
        return f"{data.name}: {names[index]}", read_file(files[index])[1]

    return class_names, lambda: EncodedImages(read, labels, class_names), files


def columns_of(data: HubData, file: Path) -> tuple[str, str, tuple[str, ...]]:
    """The column of images and that of labels in the data set's Parquet files, and the names of the classes.

    What the file's own metadata or the README declare as images and classes goes before what could be that by type.

    Raises:
        InputError: there is none, or it isn't clear which.
    """
    schema = read_schema(file)
    kinds = declared(schema)
    images = [field.name for field in schema if holds_bytes(field.type)]
    labels = [field.name for field in schema if pa.types.is_integer(field.type)]
    names = {
        label: class_names_of(schema, label) or named_classes(data.card, data.configuration.name, label)
        for label in labels
    }
    images = [name for name in images if kinds.get(name) == "Image"] or images
    labels = [label for label in labels if names[label]] or labels
    image = one_of(images, IMAGE_NAMES, "images", schema, data)
    label = one_of(labels, LABEL_NAMES, "labels, as whole numbers", schema, data)
    return image, label, names[label] or numbered_classes(all_files(data), label)


def declared(schema: pa.Schema) -> dict[str, str]:
    """The kinds of the columns that the Hugging Face metadata of a Parquet file state: "Image", "ClassLabel" ... ."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return {name: kind.get("_type", "") for name, kind in features.items() if isinstance(kind, dict)}
    except (LookupError, TypeError, ValueError, AttributeError):
        return {}


def one_of(candidates: Sequence[str], usual: Sequence[str], what: str, schema: pa.Schema, data: HubData) -> str:
    """The only candidate, or the one with the usual name among several."""
    if len(candidates) == 1:
        return candidates[0]
    if not candidates:
        columns = ", ".join(f"{field.name} ({kind_in_words(field.type)})" for field in schema)
        raise InputError(f"{data.name} has no column of {what}, only {columns}: choose a data set of labeled images")
    if found := next((name for name in usual if name in candidates), None):
        return found
    raise InputError(
        f"{data.name} has several columns of {what} ({', '.join(candidates)}) and none is called "
        f"{' or '.join(usual)}: rename one in a copy, and give that as hf:./FOLDER"
    )


def kind_in_words(kind: pa.DataType) -> str:
    """A column's type, short."""
    return "struct" if pa.types.is_struct(kind) else "list" if pa.types.is_nested(kind) else str(kind)


def all_files(data: HubData) -> list[Path]:
    """The files of all parts, whose labels must be numbered as one."""
    return data.repository.find_all(sorted(name for names in data.configuration.parts.values() for name in names))


def labels_of(data: HubData, part: str) -> tuple[list[int], tuple[str, ...]]:
    """The label of each image of a part, and the names of the classes, which are the folders of the training part.

    Raises:
        InputError: an image lies in no class, or in one that the training part lacks.
    """
    parts = data.configuration.parts
    training = [class_of(name) for name in parts.get("train", parts[part])]
    own = [class_of(name) for name in parts[part]]
    if None in training or None in own:
        loose = next(name for name in (*parts.get("train", ()), *parts[part]) if class_of(name) is None)
        raise InputError(f"{data.name} has images in no folder of a class, as {loose}: it states no labels for them")
    class_names = tuple(sorted({name for name in training if name is not None}))
    numbers: dict[str | None, int] = {name: number for number, name in enumerate(class_names)}
    if new := sorted({str(name) for name in own if name not in numbers}):
        raise InputError(f"{data.name}: its {part} part has class(es) that its training part lacks: {', '.join(new)}")
    return [numbers[name] for name in own], class_names
