"""Compute feature vectors of all images of a source, in constant memory, into a file that grows part by part."""

import hashlib
import json
import shutil
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vitreous.arguments import check_arguments
from vitreous.callbacks import Callback, LogCallback, Progress
from vitreous.data.decoding import THREADS
from vitreous.data.read_options import note_unreadable
from vitreous.downloads import cache_dir, file_lock
from vitreous.errors import InputError
from vitreous.files import atomic_write, make_folder, read_json, write_text
from vitreous.imaging.preprocessing import preprocess_image
from vitreous.model.classifier import ImageClassifier
from vitreous.pretrained.fingerprint import features_fingerprint
from vitreous.pretrained.load import load
from vitreous.records import to_dict
from vitreous.runtime import choose_precision
from vitreous.transfer.extractor import Feature, FeatureExtractor, build_extractor
from vitreous.transfer.feature_set import (
    FeatureInfo,
    FeatureSet,
    check_features_file,
    check_replaceable,
    schema_of,
    to_table,
)
from vitreous.transfer.images import ALL_SPLITS, ImageStream, open_stream, root_of_paths

PART_IMAGES = 512
"""Images per part, of which a kill loses at most one; a part becomes a row group of the file."""
SETTINGS = "settings.json"
PARTS = "[0-9]" * 10 + ".parquet"
"""The names of parts: the number of the first image."""


@dataclass(frozen=True)
class EmbedJob:
    """The images, the features of them, and what is to be done about images that can't be read.

    `gray_features` (1, width) are those of a gray image.
    """

    stream: ImageStream
    extractor: FeatureExtractor
    info: FeatureInfo
    gray_features: Tensor
    batch_size: int
    skip_unreadable: bool
    callback: Callback

    @property
    def part_images(self) -> int:
        """Images per part: whole batches, so that a resumed run computes the same batches."""
        return max(1, PART_IMAGES // self.batch_size) * self.batch_size


@check_arguments
def embed(
    model: str | Path | ImageClassifier,
    data: str,
    output: str | Path | None = None,
    *,
    features: Feature | Sequence[Feature] = "pooled",
    layers: int | Sequence[int] | None = None,
    split: str = "all",
    batch_size: int = 32,
    device: str = "auto",
    precision: str = "fp32",
    skip_unreadable: bool = False,
    callback: Callback | None = None,
) -> FeatureSet:
    """Compute a feature vector of every image of a source, with its path and label.

    Args:
        model: whatever `load` takes, or a loaded model.
        data: a source such as "cifar10" or "folder:photos", or the path of a folder of images without labels.
        output: a Parquet file to write, part by part. A call that was killed goes on at the last part. A file of the
            same features is replaced, any other is refused.
        features: "pooled" is what `ImageClassifier.embed` gives. "class-token" and "patch-mean" (the mean of the patch
            tokens) are those of `layers`, after the model's final normalization; both may be given.
        layers: counted from 0, negative ones from the end; the last one by default. The features of several are one
            vector, in the order of the layers given.
        split: "train", "validation", "test", or "all".
        batch_size: images per forward pass.
        device: "auto", "cpu" or "cuda".
        precision: "fp32", "bf16", or "auto" for bf16 where the hardware has it.
        skip_unreadable: leave out images that can't be read, with a note, instead of refusing the data.
        callback: receives the progress and notes; it can stop the work between two parts.

    Raises:
        InputError: there is no such model, source, split, feature or layer, an image can't be read, or `output` is
            another file.

    Example:
        >>> vitreous.embed("dinov2:vits14", "folder:photos", "features.parquet").vectors.shape  # doctest: +SKIP
        (4317, 384)
    """
    names = [features] if isinstance(features, str) else list(features)
    numbers = [layers] if isinstance(layers, int) else layers
    callback = callback or LogCallback()
    if output is not None:
        check_features_file(output)
    classifier = load(model, device, callback=callback)
    precision = choose_precision(precision, classifier.device)
    job = open_job(classifier, data, names, numbers, split, precision, batch_size, callback)
    job = replace(job, skip_unreadable=skip_unreadable)
    if output is None:
        found = _concatenate(job, [part for _, part in _compute(job, range(len(job.stream)))])
        _check_not_empty(job, len(found))
        return found
    check_replaceable(Path(output), job.info)
    write_features(job, Path(output))
    return FeatureSet.load(output)


def open_job(
    classifier: ImageClassifier,
    data: str,
    features: Sequence[str] = ("pooled",),
    layers: Sequence[int] | None = None,
    split: str = ALL_SPLITS,
    precision: str = "fp32",
    batch_size: int = 32,
    callback: Callback | None = None,
) -> EmbedJob:
    """Find the images, and check that the model has the features.

    Raises:
        InputError: as `embed`.
    """
    if batch_size < 1:
        raise InputError(f"a batch of {batch_size} images is too small: give 1 or more")
    extractor = build_extractor(classifier, features, layers, precision)
    stream, gray_features = open_stream(data, split, classifier.preprocessing.input_size), _embed_gray(extractor)
    info = FeatureInfo(
        classifier.origin, features_fingerprint(classifier), classifier.preprocessing, extractor.features,
        extractor.layers, precision, gray_features.shape[1], data, split, stream.fingerprint, stream.class_names,
        root_of_paths(data),
    )  # fmt: skip
    return EmbedJob(stream, extractor, info, gray_features, batch_size, False, callback or LogCallback())


def _embed_gray(extractor: FeatureExtractor) -> Tensor:
    """Compute the features (1, width) of a gray image."""
    height, width = extractor.classifier.preprocessing.input_size
    pixels, _ = preprocess_image(np.full((height, width, 3), 128, np.uint8), extractor.classifier.preprocessing)
    return extractor(pixels[None])


def without_vectors(job: EmbedJob) -> FeatureSet:
    """Return the labels and splits of a job's images, with vectors of width 0: neither images nor paths are read."""
    splits = job.stream.splits
    labels = np.concatenate([np.asarray(split.labels, np.int64) for split in splits])
    names = tuple(split.name for split in splits for _ in range(len(split.labels)))
    return FeatureSet(np.zeros((len(labels), 0), np.float32), labels, ("",) * len(labels), names, job.info)


def write_features(job: EmbedJob, output: Path) -> int:
    """Write the features into a Parquet file, in constant memory, and return the number of its rows.

    Parts are written into the folder OUTPUT.parts, from which a later call goes on; at the end they become the file,
    a row group each.

    Raises:
        InputError: an image or file can't be read or written, the callback stops the work, or there are parts of
            other images, features or another model.
    """
    folder = output.with_name(f"{output.name}.parts")
    with _lock(output):
        _check_settings(folder, job)
        try:
            return _write_parts(job, folder, output)
        finally:
            if not list(folder.glob(PARTS)):  # nothing to go on from
                shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _lock(output: Path) -> Generator[None]:
    """Let other processes and threads that write the same file wait. The lock is where it survives the parts."""
    locks = cache_dir() / "features"
    make_folder(locks)
    name = hashlib.sha256(str(output.resolve()).encode(errors="surrogateescape")).hexdigest()[:32]
    with file_lock(locks / f"{name}.lock"):
        yield


def _write_parts(job: EmbedJob, folder: Path, output: Path) -> int:
    """Compute the parts that are missing in a folder, and join all of them."""
    size, count = job.part_images, len(job.stream)
    starts = [start for start in range(0, count, size) if not _part_path(folder, start).is_file()]
    indexes = [index for start in starts for index in range(start, min(start + size, count))]
    if len(indexes) < count:
        job.callback.on_note(f"{folder}: {count - len(indexes):,} of {count:,} images are done already")
    pending: list[FeatureSet] = []
    for last, part in _compute(job, indexes):
        pending.append(part)
        if (last + 1) % size == 0 or last + 1 == count:
            _write_part(_part_path(folder, last // size * size), _concatenate(job, pending))
            pending = []
            if last + 1 < count and job.callback.should_stop():
                raise InputError(f"stopped after {last + 1:,} of {count:,} images: call again to go on")
    return _join(job, folder, output)


def _part_path(folder: Path, start: int) -> Path:
    return folder / f"{start:010d}.parquet"


def _check_settings(folder: Path, job: EmbedJob) -> None:
    """Record the settings of a new folder of parts, or check that what it holds belongs to this job.

    Raises:
        InputError: it doesn't.
    """
    record = to_dict(job.info) | {"batch_size": job.batch_size, "skip_unreadable": job.skip_unreadable}
    settings = json.loads(json.dumps(record))
    settings.pop("model")  # a name; the fingerprint tells the model
    make_folder(folder)
    if not (folder / SETTINGS).is_file():
        for part in folder.glob(PARTS):  # of whatever model: a kill left them while the folder was removed
            part.unlink()
    else:
        saved = {"root": ""} | read_json(folder / SETTINGS)
        for name in settings:
            is_stricter = name == "skip_unreadable" and not saved.get(name)  # so far, no image was left out
            if saved.get(name) != settings[name] and not is_stricter:
                raise InputError(
                    f"{folder} holds unfinished work with other settings ({name}: {saved.get(name)}, now "
                    f"{settings[name]}): choose another --output, or delete it"
                )
    write_text(folder / SETTINGS, json.dumps(settings, indent=1) + "\n")


def _write_part(path: Path, part: FeatureSet) -> None:
    from pyarrow import parquet as pq

    with atomic_write(path) as temporary:
        pq.write_table(to_table(part), temporary)


def _join(job: EmbedJob, folder: Path, output: Path) -> int:
    """Copy the parts into one file, check the number of its rows, and remove the parts."""
    from pyarrow import parquet as pq

    parts = [_part_path(folder, start) for start in range(0, len(job.stream), job.part_images)]
    rows = sum(pq.read_metadata(part).num_rows for part in parts)
    if not rows:
        shutil.rmtree(folder)
    _check_not_empty(job, rows)
    with atomic_write(output) as temporary:
        with pq.ParquetWriter(temporary, schema_of(job.info)) as writer:
            for part in parts:
                table = pq.read_table(part, partitioning=None)
                if len(table):
                    writer.write_table(table, row_group_size=len(table))
        if (written := pq.read_metadata(temporary).num_rows) != rows:
            raise InputError(f"{output} holds {written} of {rows} rows: embed again")
    shutil.rmtree(folder)
    return rows


def _check_not_empty(job: EmbedJob, rows: int) -> None:
    """Refuse a source of which all images are left out.

    Raises:
        InputError: there are no rows.
    """
    if not rows:
        raise InputError(f"none of the {len(job.stream):,} images of '{job.info.data}' can be read: repair them")


@dataclass(frozen=True)
class _Loaded:
    """An image at the model's input size, or why it can't be read."""

    path: str
    pixels: Tensor | None
    reason: InputError | None = None


def _compute(job: EmbedJob, indexes: Sequence[int]) -> Iterator[tuple[int, FeatureSet]]:
    """Yield the features of each batch of images, with the number of its last one.

    Other threads read the next batch while the model computes.
    """
    size, count, unreadable = job.batch_size, len(job.stream), list[str]()
    batches = [indexes[start : start + size] for start in range(0, len(indexes), size)]
    done = count - len(indexes)
    with ThreadPoolExecutor(THREADS) as pool:
        ahead: list[list[Future[_Loaded]]] = []
        for number, batch in enumerate(batches):
            later = batches[number + len(ahead) : number + 2]
            ahead += [[pool.submit(_load, job, index) for index in one] for one in later]
            loaded = _wait(job, ahead, pool)
            unreadable += [str(one.reason) for one in loaded if one.pixels is None]
            yield batch[-1], _features_of(job, batch, loaded)
            done += len(batch)
            job.callback.on_progress(Progress(done, count, f"{done:,} of {count:,} images"))
    if unreadable:
        note_unreadable(unreadable, f"{count:,} images", job.callback.on_note)


def _load(job: EmbedJob, index: int) -> _Loaded:
    try:
        path, image_u8 = job.stream.read(index)
    except InputError as error:
        return _Loaded("", None, error)
    return _Loaded(path, preprocess_image(image_u8, job.info.preprocessing)[0])


def _wait(job: EmbedJob, ahead: list[list[Future[_Loaded]]], pool: ThreadPoolExecutor) -> list[_Loaded]:
    """Return the images of the next batch, once they are read."""
    loaded = [one.result() for one in ahead.pop(0)]
    failed = next((one.reason for one in loaded if one.reason is not None), None)
    if failed is not None and not job.skip_unreadable:
        pool.shutdown(wait=True, cancel_futures=True)
        raise InputError(f"{failed}: repair or remove it, or skip such images with --skip-unreadable")
    return loaded


def _features_of(job: EmbedJob, indexes: Sequence[int], loaded: Sequence[_Loaded]) -> FeatureSet:
    """Compute the features of a batch; images that the model receives at one size go through it together."""
    read = [number for number, one in enumerate(loaded) if one.pixels is not None]
    vectors = torch.zeros(len(read), job.info.width)
    groups: dict[tuple[int, ...], list[int]] = {}
    for row, number in enumerate(read):
        pixels = loaded[number].pixels
        assert pixels is not None
        groups.setdefault(tuple(pixels.shape), []).append(row)
    for rows in groups.values():
        inputs = [loaded[read[row]].pixels for row in rows]
        vectors[rows] = job.extractor(torch.stack([one for one in inputs if one is not None]))
    located = [job.stream.locate(indexes[number]) for number in read]
    labels = np.array([split.labels[inside] for split, inside in located], np.int64)
    paths, splits = tuple(loaded[number].path for number in read), tuple(split.name for split, _ in located)
    return FeatureSet(vectors.numpy(), labels, paths, splits, job.info)


def _concatenate(job: EmbedJob, parts: Sequence[FeatureSet]) -> FeatureSet:
    """Join the features of consecutive batches."""
    vectors = np.concatenate([part.vectors for part in parts])
    labels = np.concatenate([part.labels for part in parts])
    paths = tuple(path for part in parts for path in part.paths)
    return FeatureSet(vectors, labels, paths, tuple(name for part in parts for name in part.splits), job.info)
