"""Load image datasets of the Hugging Face hub: "hf:OWNER/NAME", a folder laid out like one, or a folder of Parquet.

Images and labels are in Parquet files, or images are in one folder per class. Only the files of the split that is
wanted are downloaded, once, into the hub's own cache.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vitreous.data.class_names import distinct_class_names, same_class, same_classes
from vitreous.data.dataset import EncodedDataset
from vitreous.data.decode_cache import decode_cached
from vitreous.data.decoding import EncodedImages, read_file
from vitreous.data.hub_layout import (
    HubConfig,
    Metadata,
    card_class_names,
    class_of,
    find_configs,
    is_image_name,
    select_config,
)
from vitreous.data.image_set import ImageSet
from vitreous.data.read_options import ReadOptions
from vitreous.errors import InputError, printable, unknown
from vitreous.hub import HubRepository, LocalRepository

CARD = "README.md"
CONVERTED = "refs/convert/parquet"
"""The revision where the hub keeps its own Parquet files of most datasets."""
PARQUET_PREFIXES = {"train": "train", "validation": "val", "test": "test"}
"""How the names of a split's files begin in a folder of Parquet files."""


@dataclass(frozen=True)
class StoredSplit:
    """A split whose files are all here.

    Attributes:
        class_names: one name per class.
        read: reads the encoded images.
        files: the files that they are in.
    """

    class_names: tuple[str, ...]
    read: Callable[[], EncodedImages]
    files: list[Path]


@dataclass(frozen=True)
class HubDataset(EncodedDataset):
    """A dataset in a repository of the hub, or in a folder.

    Attributes:
        name: what messages call it.
        identity: what its decoded images are cached by.
        repository: where its files are.
        card: the metadata of its README.
        config: which files belong to which split.
    """

    name: str
    identity: tuple[str, str]
    repository: LocalRepository | HubRepository
    card: Metadata
    config: HubConfig

    @property
    def splits(self) -> Sequence[str]:
        """The splits that it has files of."""
        return list(self.config.files)

    def load(self, split: str, image_size: tuple[int, int] | None, options: ReadOptions) -> ImageSet:
        """Load the images of a split, in RGB and in the order of its files; they are decoded once.

        Raises:
            InputError: there is no such split, it can't be fetched or read, or it isn't one of labeled images.
        """
        stored = self._stored(split)
        state = self._state(split, stored)
        return decode_cached((*self.identity, split), state, stored.read, image_size, options.for_split(split))

    def encoded(self, split: str) -> EncodedImages:
        """Return the images of a split as they are stored.

        Raises:
            InputError: as `load`.
        """
        return self._stored(split).read()

    def check_splits(self) -> None:
        """Refuse splits with other classes than the training images; Parquet files are not fetched for it.

        Raises:
            InputError: there is one.
        """
        is_here = isinstance(self.repository, LocalRepository)
        first = "train" if "train" in self.splits else self.splits[0]
        for split in self.splits:
            if is_image_name(self._files(split)[0]):
                self._folder_labels(split)
            elif is_here and not same_classes(self._stored(split).class_names, self._stored(first).class_names):
                raise InputError(f"{self.name}: its splits {first} and {split} have different classes: make them equal")

    def state(self, split: str) -> object:
        """Return the class names, and name, size and modification time of the split's files."""
        return self._state(split, self._stored(split))

    def _state(self, split: str, stored: StoredSplit) -> object:
        stats = [(name, file.stat()) for name, file in zip(self._files(split), stored.files, strict=True)]
        return stored.class_names, [(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats]

    def _files(self, split: str) -> tuple[str, ...]:
        if split not in self.config.files:
            raise InputError(f"{self.name} has no {split} images, only {', '.join(sorted(self.config.files))}")
        return self.config.files[split]

    def _stored(self, split: str) -> StoredSplit:
        return self._image_files(split) if is_image_name(self._files(split)[0]) else self._parquet_files(split)

    def _parquet_files(self, split: str) -> StoredSplit:
        from vitreous.data import parquet  # here, because pyarrow takes 0.3 s to import

        files = self.repository.find_all(self._files(split))
        columns = parquet.find_columns(parquet.read_schema(files[0]), card_class_names(self.card, self.config.name))
        image = self._select("images", columns.images, parquet.IMAGE_COLUMNS, columns.description)
        label = self._select("labels, as integers", columns.labels, parquet.LABEL_COLUMNS, columns.description)
        class_names = distinct_class_names(columns.class_names[label], self.name)
        class_names = class_names or parquet.int_labels(self._all_files(), label)
        return StoredSplit(class_names, lambda: parquet.read_rows(files, image, label, class_names), files)

    def _select(self, what: str, candidates: Sequence[str], usual: Sequence[str], columns: str) -> str:
        """Return the only candidate, or the one with the most usual name."""
        if len(candidates) == 1:
            return candidates[0]
        if not candidates:
            raise InputError(f"{self.name} has no column of {what}, only {columns}: choose a dataset of labeled images")
        if found := next((name for name in usual if name in candidates), None):
            return found
        raise InputError(
            f"{self.name} has several columns of {what} ({', '.join(candidates)}) and none is called "
            f"{' or '.join(usual)}: rename one in a copy, and give that as hf:./FOLDER"
        )

    def _all_files(self) -> list[Path]:
        """Return the files of all splits, which share one numbering of classes."""
        return self.repository.find_all(sorted(name for names in self.config.files.values() for name in names))

    def _image_files(self, split: str) -> StoredSplit:
        labels, class_names = self._folder_labels(split)
        names = self._files(split)
        files = self.repository.find_all(names)

        def read(index: int) -> tuple[str, bytes]:
            return f"{self.name}: {names[index]}", read_file(files[index])[1]

        return StoredSplit(class_names, lambda: EncodedImages(read, labels, class_names, names), files)

    def _folder_labels(self, split: str) -> tuple[list[int], tuple[str, ...]]:
        """Return the label of each image of a split, and the class names: the folders of the training split."""
        own_files = self._files(split)
        training_files = self.config.files.get("train", own_files)
        classes = {name: class_of(name) for name in (*training_files, *own_files)}
        if loose := next((name for name, folder in classes.items() if folder is None), None):
            raise InputError(f"{self.name} has images in no class folder, such as {loose}: they have no labels")
        first_spellings: dict[str, str] = {}
        for name in sorted({str(classes[name]) for name in training_files}):
            first_spellings.setdefault(same_class(name), printable(name))
        numbers = {name: number for number, name in enumerate(first_spellings)}
        own = [str(classes[name]) for name in own_files]
        if new := sorted({name for name in own if same_class(name) not in numbers}):
            raise InputError(f"{self.name}: its {split} split has class(es) that train lacks: {', '.join(new)}")
        return [numbers[same_class(name)] for name in own], tuple(first_spellings.values())


def open_hub_dataset(location: Path) -> HubDataset:
    """Find a dataset of the hub, without downloading its images.

    Args:
        location: OWNER/NAME, with @REVISION and :CONFIG where they are needed; or the absolute path of a folder.

    Raises:
        InputError: there is no such dataset, it has no images, or it has several configs and none is selected.
    """
    repository, wanted = _parse_location(location)
    repository, names = repository.list_files()
    card = _read_card(repository) if CARD in names else {}
    configs = find_configs(names, card)
    if not configs:
        remedy = "give another"
        if isinstance(repository, HubRepository):
            remedy = f"try hf:{repository.id}@{CONVERTED}, which the hub makes of most datasets"
        raise InputError(
            f"{repository.name} has no Parquet files, and no images in folders such as train/CLASS: {remedy}"
        )
    config = select_config(configs, wanted)
    if config is None:
        options = [one.name for one in configs]
        if wanted:
            raise unknown(f"config of {repository.name}", wanted, options)
        raise InputError(
            f"{repository.name} has several configs: write hf:{str(location).partition(':')[0]}:NAME "
            f"with one of {', '.join(options)}"
        )
    name = f"{repository.name}:{config.name}" if len(configs) > 1 else repository.name
    return HubDataset(name, ("hub", str(location)), repository, card, config)


def open_parquet_folder(folder: Path) -> HubDataset:
    """Find the Parquet files in a folder: train*.parquet, val*.parquet and test*.parquet.

    Raises:
        InputError: there is no such folder, or no such file in it.
    """
    if not folder.is_dir():
        raise InputError(f"there is no folder {folder}: give one with train*.parquet and test*.parquet")
    names = sorted(path.name for path in folder.glob("*.parquet"))
    files = {
        split: tuple(name for name in names if name.lower().startswith(prefix))
        for split, prefix in PARQUET_PREFIXES.items()
    }
    config = HubConfig(folder.name, {split: members for split, members in files.items() if members})
    if not config.files:
        raise InputError(
            f"{folder} has no train*.parquet, val*.parquet or test*.parquet: rename its files, or give another folder"
        )
    return HubDataset(str(folder), ("parquet", str(folder.resolve())), LocalRepository(folder), {}, config)


def has_parquet(folder: Path, split: str) -> bool:
    """Whether a folder has Parquet files of a split."""
    return any(path.name.lower().startswith(PARQUET_PREFIXES[split]) for path in folder.glob("*.parquet"))


def _parse_location(location: Path) -> tuple[LocalRepository | HubRepository, str]:
    """Return the repository, or the folder if the path is absolute; and the config, or ""."""
    text = str(location)
    if location.is_absolute():
        path, _, config = (text, "", "") if location.is_dir() else text.rpartition(":")
        if not path or not Path(path).is_dir():
            raise InputError(f"there is no folder {text}: give one with Parquet files or train/CLASS folders in it")
        return LocalRepository(Path(path)), config
    name, _, config = text.partition(":")
    name, _, revision = name.partition("@")
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        raise InputError(
            f"'hf:{text}' is not the name of a dataset: write hf:OWNER/NAME, hf:OWNER/NAME:CONFIG, or hf:./FOLDER"
        )
    return HubRepository(name, revision or None, "dataset"), config


def _read_card(repository: LocalRepository | HubRepository) -> Metadata:
    """Return the metadata at the beginning of a repository's README."""
    from huggingface_hub import metadata_load

    (path,) = repository.find_all([CARD])
    try:
        card = metadata_load(path)
    except Exception as error:  # noqa: BLE001 the parser raises its own errors, which aren't ValueErrors
        raise InputError(
            f"{repository.name}: the metadata of its {CARD} can't be read: correct it ({' '.join(str(error).split())})"
        ) from None
    return card if isinstance(card, Mapping) else {}
