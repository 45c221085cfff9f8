"""Decode images once, into a file of the cache folder that is then read in place.

The file is mapped into memory: pixels are read from the disk when they are used, and the operating system keeps them
in its own cache as long as there is room. So a dataset may be much larger than the memory, and the second start
decodes nothing.
"""

import hashlib
import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import torch
from safetensors import SafetensorError, safe_open

from vitreous.data.available_memory import budget_bytes
from vitreous.data.decoding import EncodedImages, ResizeTo, decode_all, decode_chunks, resize_target
from vitreous.data.image_set import ImageSet
from vitreous.data.read_options import ReadOptions
from vitreous.downloads import cache_dir, file_lock
from vitreous.errors import InputError
from vitreous.files import atomic_write, make_folder

CACHE_VERSION = 5
"""Raise it when the same files would be decoded to other pixels, or when the file's layout changes."""
EARLIER_RESIZE_MODES, EARLIER_NAMES_UNTIL = {"squash": "stretch"}, 3
"""Names that resize modes had in the names of files up to version 3."""
NO_CHECKSUM = "-" * 64
MAX_ERROR_BYTES = 10**15
"""Of all lines on unreadable images: the header has room for that many digits."""


@dataclass(frozen=True)
class CachedImages:
    """What a file of the cache holds: images, and a line on each image that can't be read."""

    images: ImageSet
    unreadable: list[str]

    def checksum(self) -> str:
        """Return a digest of all of it, which detects damage."""
        return _digest((self.images.fingerprint(), self.unreadable))


def decode_cached(
    identity: object,
    state: object,
    encoded: Callable[[], EncodedImages],
    image_size: tuple[int, int] | None,
    options: ReadOptions,
) -> ImageSet:
    """Return images from the cache, and decode them into it first if it lacks them or has them in another state.

    Args:
        identity: what the images are called, such as a folder and a split. A new state replaces the old one.
        state: all that decides what the images are, apart from size and resize mode.
        encoded: returns the encoded images; called only if they have to be decoded.
        image_size: (height, width) in pixels; None if they all have one size.
        options: how they are resized, and whether unreadable ones are skipped.

    Raises:
        InputError: images can't be used; or the cache can't be written and they don't fit into memory either.
    """
    state_digest = _digest(state)
    path = cache_dir() / "decoded" / _file_name(CACHE_VERSION, identity, image_size, options.resizing)
    try:
        make_folder(path.parent)
        with file_lock(path.with_suffix(".lock")):
            cached = _read_cache(path, state_digest, options.on_note)
            if cached is None:
                cached = _write_cache(path, state_digest, encoded(), image_size, options)
                _remove_earlier_versions(path.parent, identity, image_size, options.resize_mode)
    except InputError as error:
        if not isinstance(error.__cause__, OSError):
            raise
        return decode_in_memory(encoded(), image_size, options, error)
    options.check_unreadable(cached.unreadable, len(cached.images) + len(cached.unreadable))
    return cached.images


def _file_name(version: int, identity: object, image_size: tuple[int, int] | None, resizing: object) -> str:
    return f"{_digest((version, identity, image_size, resizing))[:32]}.safetensors"


def _remove_earlier_versions(
    folder: Path, identity: object, image_size: tuple[int, int] | None, resize_mode: str
) -> None:
    """Delete the files of earlier versions with the same images; a process that has one open keeps its data."""
    for version in range(1, CACHE_VERSION):
        names = EARLIER_RESIZE_MODES if version <= EARLIER_NAMES_UNTIL else {}
        path = folder / _file_name(version, identity, image_size, names.get(resize_mode, resize_mode))
        with suppress(OSError):
            path.unlink(missing_ok=True)


def decode_in_memory(
    encoded: EncodedImages, image_size: tuple[int, int] | None, options: ReadOptions, write_error: InputError
) -> ImageSet:
    """Decode images for this time only, because the cache can't be written.

    Raises:
        InputError: they don't fit into memory, or can't be used.
    """
    target = resize_target(encoded, image_size, options)
    needed = target.image_bytes * len(encoded)
    if needed > budget_bytes():
        raise InputError(
            f"{write_error}: the {len(encoded):,} images take {needed / 1e9:.1f} GB, too much for the memory here: "
            "free some space there, or set VITREOUS_CACHE to a folder that has it"
        ) from write_error
    options.on_note(f"decoded images are not cached: {write_error}")
    images_u8, readable = decode_all(encoded, target, options)
    return ImageSet(images_u8, torch.tensor(encoded.labels, dtype=torch.int64)[readable], encoded.class_names)


def _write_cache(
    path: Path, state: str, encoded: EncodedImages, image_size: tuple[int, int] | None, options: ReadOptions
) -> CachedImages:
    """Decode images into the file, a chunk at a time, and return what can then be read from it.

    Raises:
        InputError: none can be read, or the file can't be written.
    """
    for left in path.parent.glob(f".{path.stem}.*.part{path.suffix}"):  # by a process that was killed
        left.unlink(missing_ok=True)
    target = resize_target(encoded, image_size, options)
    facts = {"state": state, "class_names": json.dumps(encoded.class_names), "checksum": NO_CHECKSUM}
    room = 8 + len(_header(facts, len(encoded), (len(encoded), target), MAX_ERROR_BYTES))
    room += -room % 8
    with atomic_write(path) as temporary:
        with temporary.open("wb") as file:
            file.write(bytes(room))
            file.write(torch.tensor(encoded.labels, dtype=torch.int64).numpy().tobytes())
            readable, unreadable = _write_images(file, encoded, target, options)
            errors = json.dumps(unreadable).encode()
            file.write(errors)
            _write_header(file, _header(facts, len(encoded), (readable, target), len(errors)), room)
        cached, _ = _open_cache(temporary)
        checked = _header({**facts, "checksum": cached.checksum()}, len(encoded), (readable, target), len(errors))
        with temporary.open("r+b") as file:
            _write_header(file, checked, room)
    return cached


def _write_images(
    file: BinaryIO, encoded: EncodedImages, target: ResizeTo, options: ReadOptions
) -> tuple[int, list[tuple[int, str]]]:
    """Write the pixels of all readable images; return their number, and index and error of each other image."""
    readable, unreadable = 0, []
    for chunk in decode_chunks(encoded, target, options.on_note):
        file.write(chunk.images_u8.tobytes())
        readable += len(chunk.readable)
        unreadable += chunk.unreadable
    if readable == 0:
        options.check_unreadable([line for _, line in unreadable], len(encoded))
    return readable, unreadable


def _header(facts: dict[str, str], labels: int, images: tuple[int, ResizeTo], error_bytes: int) -> bytes:
    """Return the header of a safetensors file of labels, pixels, and why the other images can't be read."""
    count, target = images
    tensors = {
        "labels": ("I64", [labels], 8 * labels),
        "images_u8": ("U8", [count, 3, *target.size], target.image_bytes * count),
        "unreadable": ("U8", [error_bytes], error_bytes),
    }
    content: dict[str, object] = {"__metadata__": facts}
    end = 0
    for name, (dtype, shape, length) in tensors.items():
        content[name] = {"dtype": dtype, "shape": shape, "data_offsets": [end, end + length]}
        end += length
    return json.dumps(content).encode()


def _write_header(file: BinaryIO, text: bytes, room: int) -> None:
    """Write a header into the `room` bytes reserved for it, padded with blanks."""
    file.seek(0)
    file.write((room - 8).to_bytes(8, "little") + text.ljust(room - 8))


def _read_cache(path: Path, state: str, on_note: Callable[[str], object]) -> CachedImages | None:
    """Return what the file holds; None if its state is another, or, with a note, if it is damaged."""
    if not path.exists():
        return None
    try:
        cached, facts = _open_cache(path)
        if facts["state"] != state:
            return None
        if cached.checksum() == facts["checksum"]:
            return cached
        problem = "its content has changed"
    except (SafetensorError, OSError, LookupError, TypeError, ValueError, AssertionError) as error:
        problem = " ".join(str(error).split())
    on_note(f"decoding again, because {path} is damaged: {problem}")
    return None


def _open_cache(path: Path) -> tuple[CachedImages, dict[str, str]]:
    """Return what the file holds, with its pixels left on the disk, and the facts in its header."""
    with safe_open(path, "pt") as file:
        facts = file.metadata()
        labels, images_u8, errors = (file.get_tensor(name) for name in ("labels", "images_u8", "unreadable"))
    unreadable = json.loads(errors.numpy().tobytes())
    readable = torch.ones(len(labels), dtype=torch.bool)
    readable[[index for index, _ in unreadable]] = False
    images = ImageSet(images_u8, labels[readable], tuple(json.loads(facts["class_names"])))
    return CachedImages(images, [line for _, line in unreadable]), facts


def _digest(facts: object) -> str:
    """Return the SHA-256, in hex, of plain facts."""
    return hashlib.sha256(repr(facts).encode()).hexdigest()
