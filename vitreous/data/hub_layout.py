"""Which files of a data set on the Hugging Face hub are which split of which configuration.

As the hub has it: the README's metadata may list them (`configs`); else names tell, data/train-00000-of-00002.parquet,
CONFIG/test/0000.parquet, train/CLASS/1.png (huggingface.co/docs/hub, "Data files configuration").
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import PurePosixPath
from typing import Any

from vitreous.data.folder import SUFFIXES

PARQUET = ".parquet"
WORDS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing", "eval", "evaluation"),
}
PART_OF_WORD = {word: part for part, words in WORDS.items() for word in words}
DEFAULT = "default"


@dataclass(frozen=True)
class Configuration:
    """One of the data sets in a repository: the names of its files by part, "train", "validation" and "test"."""

    name: str
    parts: Mapping[str, tuple[str, ...]]
    is_default: bool = False


def configurations(names: Sequence[str], card: Mapping[str, Any]) -> list[Configuration]:
    """What a repository holds that can be read: Parquet files or, where there are none, images in folders.

    Args:
        names: its files.
        card: the metadata of its README.
    """
    files = [name for name in names if name.endswith(PARQUET)] or [name for name in names if is_image(name)]
    listed = [from_card(entry, files) for entry in entries(card.get("configs")) if "config_name" in entry]
    if found := [configuration for configuration in listed if configuration.parts]:
        return found
    groups: dict[str, list[str]] = {}
    for name in files:
        groups.setdefault(group_of(name), []).append(name)
    return [Configuration(group, by_name(members), group == DEFAULT) for group, members in groups.items()]


def chosen(found: Sequence[Configuration], wanted: str) -> Configuration | None:
    """The configuration of that name; without one the only one, or the one that is meant if none is said."""
    if wanted:
        return next((one for one in found if one.name == wanted), None)
    return found[0] if len(found) == 1 else next((one for one in found if one.is_default), None)


def from_card(entry: Mapping[str, Any], files: Sequence[str]) -> Configuration:
    """A configuration that the README describes by patterns of file names, or by a folder."""
    folder, described = str(entry.get("data_dir") or "").strip("./"), entry.get("data_files")
    inside = [name for name in files if not folder or name.startswith(f"{folder}/")]
    parts = by_name(inside) if described is None else {}
    for one in described if isinstance(described, list) else [described]:
        split, patterns = (one.get("split", "train"), one.get("path")) if isinstance(one, Mapping) else ("train", one)
        part = PART_OF_WORD.get(str(split).lower())
        if part and (matching := matches(inside, patterns, folder)):
            parts[part] = tuple(sorted({*parts.get(part, ()), *matching}))
    return Configuration(str(entry["config_name"]), parts, entry.get("default") is True)


def matches(files: Sequence[str], patterns: Any, folder: str) -> list[str]:
    """The files that fit one of the patterns, or the pattern, which are relative to the folder."""
    found: list[str] = []
    for pattern in patterns if isinstance(patterns, list) else [patterns] if patterns else []:
        whole = f"{folder}/{pattern}" if folder else str(pattern).removeprefix("./")
        forms = {whole, whole.replace("**/", ""), f"{whole.rstrip('/')}/*"}
        found += [name for name in files if any(fnmatchcase(name, form) for form in forms)]
    return found


def by_name(files: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Files by the part that their names tell; where no name tells one, all are for training."""
    parts: dict[str, list[str]] = {}
    for name in files:
        parts.setdefault(part_of(name) or "", []).append(name)
    unnamed = parts.pop("", [])
    if not parts and unnamed:
        parts = {"train": unnamed}
    return {part: tuple(members) for part, members in parts.items()}


def part_of(name: str) -> str | None:
    """The part that a file's name tells, by its own name before its folders', or None.

    Of an image only the outermost folder counts, as those below are its class and its own.

    >>> part_of("data/train-00000-of-00002.parquet"), part_of("cats/test/0000.parquet"), part_of("all/1.parquet")
    ('train', 'test', None)
    >>> part_of("data/validation/train/test-1.png"), part_of("train/1.png")
    ('validation', 'train')
    """
    folders = folders_of(name)
    if is_image(name):
        return PART_OF_WORD.get(folders[0].lower()) if folders else None
    words = re.split(r"[^a-z]+", PurePosixPath(name).stem.lower())
    tellers = [*words, *(folder.lower() for folder in reversed(folders))]
    return next((PART_OF_WORD[word] for word in tellers if word in PART_OF_WORD), None)


def group_of(name: str) -> str:
    """The configuration that a file's folders name, without those that only say "data" or tell the part.

    >>> group_of("data/train-0.parquet"), group_of("large/train/0.parquet"), group_of("train/cat/1.png")
    ('default', 'large', 'default')
    """
    folders = [] if is_image(name) else folders_of(name)
    return "/".join(folder for folder in folders if folder.lower() not in PART_OF_WORD) or DEFAULT


def class_of(name: str) -> str | None:
    """The class of an image: the folder below its part's, or below "data"; None where it lies in none.

    >>> [class_of(name) for name in ("train/cat/1.png", "data/test/dog/more/1.png", "fox/1.png", "train/1.png")]
    ['cat', 'dog', 'fox', None]
    """
    folders = folders_of(name)
    if folders and folders[0].lower() in PART_OF_WORD:
        folders = folders[1:]
    return folders[0] if folders else None


def folders_of(name: str) -> list[str]:
    """The folders that a file lies in, from the outermost, without a first "data"."""
    folders = name.split("/")[:-1]
    return folders[1:] if folders[:1] == ["data"] else folders


def named_classes(card: Mapping[str, Any], configuration: str, column: str) -> tuple[str, ...]:
    """The class names of a column by the README's `dataset_info`; none where it states none.

    Its entries are one a configuration; names are listed, or keyed by their numbers.
    """
    infos = entries(card.get("dataset_info"))
    own = [info for info in infos if info.get("config_name", configuration) == configuration]
    features = [one for info in own for one in entries(info.get("features")) if one.get("name") == column]
    for feature in features:
        kind = feature.get("dtype")
        label = kind.get("class_label") if isinstance(kind, Mapping) else None
        names = label.get("names") if isinstance(label, Mapping) else None
        if names:
            return tuple(str(name) for name in (in_order(names) if isinstance(names, Mapping) else names))
    return ()


def in_order(names: Mapping[Any, Any]) -> list[Any]:
    """Names keyed by their numbers, which may be written as words, in the order of the numbers."""
    return [names[number] for number in sorted(names, key=int)]


def entries(value: Any) -> list[Mapping[str, Any]]:
    """A list of mappings in a README's metadata, which may also be a single one, or none."""
    return [one for one in (value if isinstance(value, list) else [value]) if isinstance(one, Mapping)]


def is_image(name: str) -> bool:
    """Whether a file's name says that it is an image."""
    return PurePosixPath(name).suffix.lower() in SUFFIXES
