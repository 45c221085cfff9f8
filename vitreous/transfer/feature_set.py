"""Feature vectors of images, with paths and labels: a record in memory, a Parquet file on the disk."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np

from vitreous.arguments import check_arguments
from vitreous.errors import InputError, unknown
from vitreous.files import atomic_write, check_writable, os_error_reason
from vitreous.imaging.preprocessing import Preprocessing
from vitreous.model.classifier import ImageClassifier
from vitreous.pretrained.fingerprint import features_fingerprint
from vitreous.pretrained.load import load
from vitreous.records import from_json
from vitreous.transfer.images import NO_LABEL, source_below

if TYPE_CHECKING:
    import pyarrow as pa

METADATA_KEY = b"vitreous"
"""The key of the schema's metadata that holds a `FeatureInfo` as JSON."""
ROWS_PER_GROUP = 512


@dataclass(frozen=True)
class FeatureInfo:
    """What feature vectors were computed of, and how.

    Attributes:
        model: where the model was loaded from; None if that is unknown.
        fingerprint: of its weights, configuration and preprocessing.
        preprocessing: how images became its input.
        features: of each layer: "pooled", "class-token" or "patch-mean".
        layers: counted from 0; empty for "pooled". A vector holds the features of the first layer, then the next.
        precision: "fp32" or "bf16".
        width: numbers in a vector.
        data: the source of the images.
        split: the split of it, or "all".
        data_fingerprint: changes with the images.
        class_names: in the order of the labels; empty without labels.
        root: the folder that the paths start from, and `data`, if that is no absolute path; else empty, as in files of
            the first versions.
    """

    model: str | None
    fingerprint: str
    preprocessing: Preprocessing
    features: tuple[str, ...]
    layers: tuple[int, ...]
    precision: str
    width: int
    data: str
    split: str
    data_fingerprint: str
    class_names: tuple[str, ...]
    root: str = ""

    @property
    def space(self) -> tuple[object, ...]:
        """What must be equal for vectors to be comparable."""
        return self.fingerprint, self.features, self.layers, self.width


@dataclass(frozen=True, repr=False, eq=False)
class FeatureSet:
    """The feature vectors of images.

    Attributes:
        vectors: float32 (images, width).
        labels: int64 (images), indexes into `info.class_names`; −1 where there is none.
        paths: the file of each image, or its row in a file, or its number in a published dataset.
        splits: "train", "validation" or "test" for each image; empty text without splits.
        info: the model, the features and the data.

    >>> features = vitreous.embed("dinov2:vits14", "folder:photos")    # doctest: +SKIP
    >>> features.vectors.shape, features.label_names[:2]               # doctest: +SKIP
    ((4317, 384), ['daisy', 'daisy'])
    """

    vectors: np.ndarray
    labels: np.ndarray
    paths: tuple[str, ...]
    splits: tuple[str, ...]
    info: FeatureInfo

    def __len__(self) -> int:
        return len(self.vectors)

    def __repr__(self) -> str:
        names = "+".join(self.info.features)
        return f"FeatureSet({len(self):,} × {self.info.width}, {names} of {self.info.model}, {self.info.data})"

    @property
    def label_names(self) -> list[str | None]:
        """The label of each image as text."""
        return [None if index == NO_LABEL else self.info.class_names[index] for index in self.labels.tolist()]

    def select(self, indexes: Sequence[int] | np.ndarray) -> "FeatureSet":
        """Return the images at `indexes`, in that order."""
        chosen = np.asarray(indexes, np.int64)
        paths, splits = (tuple(texts[index] for index in chosen.tolist()) for texts in (self.paths, self.splits))
        return replace(self, vectors=self.vectors[chosen], labels=self.labels[chosen], paths=paths, splits=splits)

    @check_arguments
    def split(self, name: str) -> "FeatureSet":
        """Return the images of a split.

        Raises:
            InputError: none of the images is in it.
        """
        if name not in self.splits:
            raise unknown("split", name, sorted(set(self.splits)))
        return self.select([index for index, split in enumerate(self.splits) if split == name])

    def concatenate(self, other: "FeatureSet") -> "FeatureSet":
        """Return the images of both sets, which must be features of one model with the same classes.

        Raises:
            InputError: they are not.
        """
        if not isinstance(other, FeatureSet):
            raise InputError(f"can't join features with a {type(other).__name__}: give a vitreous.FeatureSet")
        if self.info.space != other.info.space:
            raise InputError(
                f"these are features of different models or layers ({describe_space(self.info)}; "
                f"{describe_space(other.info)}): compute both with one model and the same options"
            )
        if self.info.class_names != other.info.class_names:
            raise InputError("the two sets of features have different class names: join sets of the same classes")
        return replace(
            self, vectors=np.concatenate([self.vectors, other.vectors]), paths=self.paths + other.paths,
            labels=np.concatenate([self.labels, other.labels]), splits=self.splits + other.splits,
        )  # fmt: skip

    def check_model(self, classifier: ImageClassifier) -> None:
        """Refuse features of another model.

        Raises:
            InputError: the fingerprints differ.
        """
        if self.info.fingerprint != (own := features_fingerprint(classifier)):
            raise InputError(
                f"these are features of another model ({self.info.model}, fingerprint {self.info.fingerprint}) than "
                f"{classifier.origin} (fingerprint {own}, of weights, configuration and preprocessing): compute them "
                "with this model"
            )

    @check_arguments
    def save(self, path: str | Path) -> None:
        """Write a Parquet file, whole or not at all, which `load`, pandas, polars and DuckDB read.

        Raises:
            InputError: it can't be written, or its name doesn't end in .parquet.
        """
        from pyarrow import parquet as pq

        check_features_file(path)
        with atomic_write(path) as temporary:
            pq.write_table(to_table(self), temporary, row_group_size=ROWS_PER_GROUP)

    @classmethod
    def load(cls, path: str | Path, model: str | Path | ImageClassifier | None = None) -> Self:
        """Read a file that `save` or `vitreous embed` wrote. In another folder than there, its paths become absolute.

        Args:
            path: the Parquet file.
            model: refuse features of any other model than this one.

        Raises:
            InputError: it can't be read, holds no features of Vitreous, or those of another model.
        """
        import pyarrow as pa
        from pyarrow import parquet as pq

        try:
            table = pq.read_table(path, partitioning=None)
        except (pa.ArrowException, OSError) as error:
            reason = os_error_reason(error) if isinstance(error, OSError) else " ".join(str(error).split())
            raise InputError(f"can't read {path} as Parquet ({reason}): embed the images again") from None
        info = read_feature_info(table.schema, str(path))
        paths, splits = (tuple(table[name].to_pylist()) for name in ("path", "split"))
        vectors, labels = _read_vectors(table, info, path), _read_labels(table, info, path)
        if info.root and info.root != str(Path.cwd()):
            paths = tuple(str(Path(info.root, one)) for one in paths)
            info = replace(info, data=source_below(info.root, info.data), root="")
        found = cls(vectors, labels, paths, splits, info)
        if model is not None:
            found.check_model(load(model))
        return found


def _read_vectors(table: "pa.Table", info: FeatureInfo, path: str | Path) -> np.ndarray:
    """Return float32 (images, width).

    Raises:
        InputError: a row holds something else.
    """
    import pyarrow as pa

    try:
        column = table["vector"].cast(pa.list_(pa.float32(), info.width))
    except pa.ArrowException:
        column = None
    if column is None or column.null_count or column.combine_chunks().flatten().null_count:
        raise InputError(f"{path} has rows without a vector of {info.width} numbers: embed the images again")
    return np.array(column.combine_chunks().flatten().to_numpy()).reshape(-1, info.width)  # a copy can be written


def _read_labels(table: "pa.Table", info: FeatureInfo, path: str | Path) -> np.ndarray:
    """Return indexes of classes, int64 (images).

    Raises:
        InputError: a label is none of the class names.
    """
    numbers = {None: NO_LABEL} | {name: index for index, name in enumerate(info.class_names)}
    labels = table["label"].to_pylist()
    if (other := next((label for label in labels if label not in numbers), None)) is not None:
        raise InputError(f"{path} has the label '{other}', which is none of its classes: embed the images again")
    return np.array([numbers[label] for label in labels], np.int64)


def check_features_file(path: str | Path) -> None:
    """Check before long work that a file of features can be written.

    Raises:
        InputError: it can't, or its name doesn't end in .parquet.
    """
    if Path(path).suffix.lower() != ".parquet":
        raise InputError(
            f"features are written as Parquet, not as '{Path(path).name}': name it {Path(path).stem}.parquet"
        )
    check_writable(path)


def check_replaceable(path: Path, info: FeatureInfo) -> None:
    """Refuse to replace a Parquet file of anything else than the same features of the same images.

    Raises:
        InputError: there is such a file.
    """
    import pyarrow as pa
    from pyarrow import parquet as pq

    if not path.exists():
        return
    remedy = "name another --output, or delete it"
    try:
        found = read_feature_info(pq.read_schema(path), str(path))
    except (InputError, pa.ArrowException, OSError):
        raise InputError(f"{path} is there already and no features of Vitreous: {remedy}") from None
    if found.fingerprint != info.fingerprint:
        raise InputError(f"{path} holds features of another model, {found.model}: {remedy}")
    if (found.split, found.data_fingerprint) != (info.split, info.data_fingerprint):
        raise InputError(f"{path} holds features of other images, {found.data} ({found.split}): {remedy}")
    if (found.space, found.precision) != (info.space, info.precision):
        raise InputError(f"{path} holds other features, {describe_space(found)}, {found.precision}: {remedy}")


def describe_space(info: FeatureInfo) -> str:
    """Describe a model and the features of it: "dinov2:vits14, class-token of layers 11, 9"."""
    layers = f" of layers {', '.join(map(str, info.layers))}" if info.layers else ""
    return f"{info.model}, {' and '.join(info.features)}{layers}, fingerprint {info.fingerprint}"


def schema_of(info: FeatureInfo) -> "pa.Schema":
    """Return the columns of a file of features, with `info` in the metadata."""
    import pyarrow as pa

    columns = [
        pa.field("path", pa.string()), pa.field("label", pa.string()), pa.field("split", pa.string()),
        pa.field("vector", pa.list_(pa.float32(), info.width)),
    ]  # fmt: skip
    return pa.schema(columns, {METADATA_KEY: json.dumps(asdict(info)).encode()})


def to_table(features: FeatureSet) -> "pa.Table":
    """Return features as a table of Arrow."""
    import pyarrow as pa

    flat = pa.array(np.ascontiguousarray(features.vectors, np.float32).reshape(-1))
    vectors = pa.FixedSizeListArray.from_arrays(flat, features.info.width)
    columns = [pa.array(list(features.paths), pa.string()), pa.array(features.label_names, pa.string())]
    columns += [pa.array(list(features.splits), pa.string()), vectors]
    return pa.Table.from_arrays(columns, schema=schema_of(features.info))


def read_feature_info(schema: "pa.Schema", origin: str) -> FeatureInfo:
    """Read what the metadata of a file say.

    Raises:
        InputError: it isn't a file of features.
    """
    text = (schema.metadata or {}).get(METADATA_KEY)
    if text is None or not {"path", "label", "split", "vector"} <= set(schema.names):
        raise InputError(f"{origin} holds no features of Vitreous: give a file that `vitreous embed` wrote")
    try:
        return from_json(FeatureInfo, json.loads(text), origin)
    except ValueError as error:
        raise InputError(f"{origin} has damaged metadata ({error}): embed the images again") from None
