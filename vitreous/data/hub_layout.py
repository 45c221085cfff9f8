"""Which files of a dataset on the Hugging Face hub belong to which split of which config.

The hub's own rules: the README's metadata may list the files (`configs`). Otherwise their names decide:
data/train-00000-of-00002.parquet, CONFIG/test/0000.parquet, train/CLASS/1.png (huggingface.co/docs/hub, "Data files
configuration").
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import PurePosixPath

from vitreous.data.folder import IMAGE_EXTENSIONS
from vitreous.data.splits import SPLIT_NAMES

PARQUET = ".parquet"
SPLIT_BY_NAME = {word: split for split, words in SPLIT_NAMES.items() for word in words}
DEFAULT_CONFIG = "default"

Metadata = Mapping[str, object]
"""The YAML block at the beginning of a README, or a mapping in it."""


@dataclass(frozen=True)
class HubConfig:
    """One of the datasets in a repository: the names of its files by split, "train", "validation" and "test"."""

    name: str
    files: Mapping[str, tuple[str, ...]]
    is_default: bool = False


def find_configs(names: Sequence[str], card: Metadata) -> list[HubConfig]:
    """Return the datasets in a repository: of Parquet files or, if there are none, of images in folders.

    Args:
        names: the repository's files.
        card: the metadata of its README.
    """
    files = [name for name in names if name.endswith(PARQUET)] or [name for name in names if is_image_name(name)]
    listed = [_config_of_card(entry, files) for entry in _entries(card.get("configs")) if "config_name" in entry]
    if found := [config for config in listed if config.files]:
        return found
    groups: dict[str, list[str]] = {}
    for name in files:
        groups.setdefault(config_name(name), []).append(name)
    return [HubConfig(group, group_by_split(members), group == DEFAULT_CONFIG) for group, members in groups.items()]


def select_config(configs: Sequence[HubConfig], wanted: str) -> HubConfig | None:
    """Return the config of that name; if `wanted` is empty, the only one or the default one; else None."""
    if wanted:
        return next((config for config in configs if config.name == wanted), None)
    return configs[0] if len(configs) == 1 else next((config for config in configs if config.is_default), None)


def group_by_split(files: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Group files by the split in their names; if no name has one, all are training files."""
    splits: dict[str, list[str]] = {}
    for name in files:
        splits.setdefault(split_of(name) or "", []).append(name)
    unnamed = splits.pop("", [])
    if not splits and unnamed:
        splits = {"train": unnamed}
    return {split: tuple(members) for split, members in splits.items()}


def split_of(name: str) -> str | None:
    """Return the split in a file's name: the name itself goes before its folders. None if there is none.

    Of an image only the outermost folder counts, because those below it are its class and subfolders.

    >>> split_of("data/train-00000-of-00002.parquet"), split_of("cats/test/0000.parquet"), split_of("all/1.parquet")
    ('train', 'test', None)
    >>> split_of("data/validation/train/test-1.png"), split_of("train/1.png")
    ('validation', 'train')
    """
    folders = _folders_of(name)
    if is_image_name(name):
        return SPLIT_BY_NAME.get(folders[0].lower()) if folders else None
    words = re.split(r"[^a-z]+", PurePosixPath(name).stem.lower())
    candidates = [*words, *(folder.lower() for folder in reversed(folders))]
    return next((SPLIT_BY_NAME[word] for word in candidates if word in SPLIT_BY_NAME), None)


def config_name(name: str) -> str:
    """Return the config in a file's folders, without a folder "data" and folders named like a split.

    >>> config_name("data/train-0.parquet"), config_name("large/train/0.parquet"), config_name("train/cat/1.png")
    ('default', 'large', 'default')
    """
    folders = [] if is_image_name(name) else _folders_of(name)
    return "/".join(folder for folder in folders if folder.lower() not in SPLIT_BY_NAME) or DEFAULT_CONFIG


def class_of(name: str) -> str | None:
    """Return the class of an image: the folder below its split's, or below "data"; None if it is in none.

    >>> [class_of(name) for name in ("train/cat/1.png", "data/test/dog/more/1.png", "fox/1.png", "train/1.png")]
    ['cat', 'dog', 'fox', None]
    """
    folders = _folders_of(name)
    if folders and folders[0].lower() in SPLIT_BY_NAME:
        folders = folders[1:]
    return folders[0] if folders else None


def card_class_names(card: Metadata, config: str) -> dict[str, tuple[str, ...]]:
    """Return the class names in the `dataset_info` of a README, by column.

    It has one entry a config. Names are a list, or keyed by their numbers.
    """
    found = {}
    for info in _entries(card.get("dataset_info")):
        if info.get("config_name", config) != config:
            continue
        for feature in _entries(info.get("features")):
            dtype = feature.get("dtype")
            label = dtype.get("class_label") if isinstance(dtype, Mapping) else None
            names = label.get("names") if isinstance(label, Mapping) else None
            if names and str(feature.get("name")) not in found:
                found[str(feature.get("name"))] = tuple(str(name) for name in _in_order(names))
    return found


def is_image_name(name: str) -> bool:
    """Whether a file's extension is that of an image."""
    return PurePosixPath(name).suffix.lower() in IMAGE_EXTENSIONS


def _config_of_card(entry: Metadata, files: Sequence[str]) -> HubConfig:
    """Return a config that the README describes by patterns of file names, or by a folder."""
    folder, described = str(entry.get("data_dir") or "").strip("./"), entry.get("data_files")
    inside = [name for name in files if not folder or name.startswith(f"{folder}/")]
    splits = group_by_split(inside) if described is None else {}
    for one in described if isinstance(described, list) else [described]:
        name, patterns = (one.get("split", "train"), one.get("path")) if isinstance(one, Mapping) else ("train", one)
        split = SPLIT_BY_NAME.get(str(name).lower())
        if split and (matching := _matches(inside, patterns, folder)):
            splits[split] = tuple(sorted({*splits.get(split, ()), *matching}))
    return HubConfig(str(entry["config_name"]), splits, entry.get("default") is True)


def _matches(files: Sequence[str], patterns: object, folder: str) -> list[str]:
    """Return the files that match a pattern, or one of several; patterns are relative to the folder."""
    found: list[str] = []
    for pattern in patterns if isinstance(patterns, list) else [patterns] if patterns else []:
        whole = f"{folder}/{pattern}" if folder else str(pattern).removeprefix("./")
        forms = {whole, whole.replace("**/", ""), f"{whole.rstrip('/')}/*"}
        found += [name for name in files if any(fnmatchcase(name, form) for form in forms)]
    return found


def _folders_of(name: str) -> list[str]:
    """Return the folders of a file, from the outermost, without a first "data"."""
    folders = name.split("/")[:-1]
    return folders[1:] if folders[:1] == ["data"] else folders


def _in_order(names: object) -> list[object]:
    """Return names as a list; those keyed by their numbers, which may be strings, in the order of the numbers."""
    if isinstance(names, Mapping):
        return [names[number] for number in sorted(names, key=int)]
    return list(names) if isinstance(names, list | tuple) else [names]


def _entries(value: object) -> list[Metadata]:
    """Return a list of mappings in a README's metadata, which may also be a single one, or absent."""
    return [one for one in (value if isinstance(value, list) else [value]) if isinstance(one, Mapping)]
