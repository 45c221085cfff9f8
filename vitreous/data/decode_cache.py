"""Images decoded once, into a file of the cache folder that is then read in place.

The file is mapped into memory: what is looked at comes from the disk, and stays in the system's own cache as long as
there is room. So a data set may be much larger than the memory, and the second start decodes nothing.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import torch
from safetensors import SafetensorError, safe_open

from vitreous.data.available_memory import budget_bytes
from vitreous.data.decoding import EncodedImages, ResizeTo, decode_all, decoded_chunks, target_for
from vitreous.data.image_set import ImageSet
from vitreous.data.read_options import ReadOptions
from vitreous.downloads import cache_dir, locked
from vitreous.errors import InputError
from vitreous.files import make_folder, written_beside

CACHE_VERSION = 3  # raise it when the same files would be decoded to other pixels
UNSEALED = "-" * 64
MOST_BYTES = 10**15  # of reasons why images can't be read: so many digits the header has room for


@dataclass(frozen=True)
class Kept:
    """What a file of the cache holds."""

    images: ImageSet
    unreadable: list[str]
    """A line on each image that can't be read."""

    def seal(self) -> str:
        """A digest of all of it, by which damage is found."""
        return digest((self.images.fingerprint(), self.unreadable))


def decode_cached(
    identity: object,
    state: object,
    encoded: Callable[[], EncodedImages],
    size_hw: tuple[int, int] | None,
    reading: ReadOptions,
) -> ImageSet:
    """Images from the cache; decoded into it first where it hasn't them, or has them of another state.

    Args:
        identity: what the images are called: a folder, a part of it ...; a new state takes the place of the old one.
        state: all that decides what they are, beside the size and the way of resizing.
        encoded: gives the encoded images; called only if they have to be decoded.
        size_hw: (height, width) in pixels; None if they all have one size.
        reading: how, and whether unreadable ones are skipped.

    Raises:
        InputError: images can't be used; or the cache can't be written and they don't fit into memory either.
    """
    name, made_of = digest((CACHE_VERSION, identity, size_hw, reading.resize_mode))[:32], digest(state)
    path = cache_dir() / "decoded" / f"{name}.safetensors"
    try:
        make_folder(path.parent)
        with locked(path.with_suffix(".lock")):
            kept = read_kept(path, made_of, reading.on_note)
            if kept is None:
                kept = write_kept(path, made_of, encoded(), size_hw, reading)
    except InputError as error:
        if not isinstance(error.__cause__, OSError):
            raise
        return in_memory(encoded(), size_hw, reading, error)
    reading.check_unreadable(kept.unreadable, len(kept.images) + len(kept.unreadable))
    return kept.images


def in_memory(
    encoded: EncodedImages, size_hw: tuple[int, int] | None, reading: ReadOptions, refusal: InputError
) -> ImageSet:
    """Images decoded for this time only, because the cache can't be written.

    Raises:
        InputError: they don't fit into the memory, or can't be used.
    """
    target = target_for(encoded, size_hw, reading)
    needed = 3 * target.size_hw[0] * target.size_hw[1] * len(encoded)
    if needed > budget_bytes():
        raise InputError(
            f"{refusal}: the {len(encoded):,} images take {needed / 1e9:.1f} GB, too much for the memory here: "
            "make room there, or set VITREOUS_CACHE to a folder that has it"
        ) from refusal
    reading.on_note(f"decoded images are not kept for the next time: {refusal}")
    images_u8, readable = decode_all(encoded, target, reading)
    return ImageSet(images_u8, torch.tensor(encoded.labels, dtype=torch.int64)[readable], encoded.class_names)


def write_kept(
    path: Path, state: str, encoded: EncodedImages, size_hw: tuple[int, int] | None, reading: ReadOptions
) -> Kept:
    """Decode images into the file, a piece at a time, and give what can then be read from it.

    Raises:
        InputError: none can be read, or the file can't be written.
    """
    for left in path.parent.glob(f".{path.stem}.*.part{path.suffix}"):  # by a process that was killed
        left.unlink(missing_ok=True)
    target = target_for(encoded, size_hw, reading)
    facts = {"state": state, "class_names": json.dumps(encoded.class_names), "seal": UNSEALED}
    room = 8 + len(header(facts, len(encoded), (len(encoded), target), MOST_BYTES))
    room += -room % 8
    with written_beside(path) as temporary:
        with temporary.open("wb") as file:
            file.write(bytes(room))
            file.write(torch.tensor(encoded.labels, dtype=torch.int64).numpy().tobytes())
            readable, unreadable = write_images(file, encoded, target, reading)
            why = json.dumps(unreadable).encode()
            file.write(why)
            write_header(file, header(facts, len(encoded), (readable, target), len(why)), room)
        kept, _ = opened(temporary)
        sealed = header({**facts, "seal": kept.seal()}, len(encoded), (readable, target), len(why))
        with temporary.open("r+b") as file:
            write_header(file, sealed, room)
    return kept


def write_images(
    file: BinaryIO, encoded: EncodedImages, target: ResizeTo, reading: ReadOptions
) -> tuple[int, list[tuple[int, str]]]:
    """Write the pixels of all images that can be read; how many these are, and index and reason of the others."""
    readable, unreadable = 0, []
    for chunk in decoded_chunks(encoded, target, reading.on_note):
        file.write(chunk.images_u8.tobytes())
        readable += len(chunk.readable)
        unreadable += chunk.unreadable
    if readable == 0:
        reading.check_unreadable([line for _, line in unreadable], len(encoded))
    return readable, unreadable


def header(facts: dict[str, str], labels: int, images: tuple[int, ResizeTo], why_bytes: int) -> bytes:
    """The beginning of a safetensors file of labels, pixels, and why the other images can't be read."""
    count, target = images
    shapes = {
        "labels": ("I64", [labels], 8 * labels),
        "images_u8": ("U8", [count, 3, *target.size_hw], 3 * target.size_hw[0] * target.size_hw[1] * count),
        "unreadable": ("U8", [why_bytes], why_bytes),
    }
    content: dict[str, object] = {"__metadata__": facts}
    end = 0
    for name, (kind, shape, length) in shapes.items():
        content[name] = {"dtype": kind, "shape": shape, "data_offsets": [end, end + length]}
        end += length
    return json.dumps(content).encode()


def write_header(file: BinaryIO, text: bytes, room: int) -> None:
    """Write a header into the `room` bytes left for it, filled up with blanks."""
    file.seek(0)
    file.write((room - 8).to_bytes(8, "little") + text.ljust(room - 8))


def read_kept(path: Path, state: str, note: Callable[[str], object]) -> Kept | None:
    """What the file holds; None where it was made of something else or, with a note, is not what was written."""
    if not path.exists():
        return None
    try:
        kept, facts = opened(path)
        if facts["state"] != state:
            return None
        if kept.seal() == facts["seal"]:
            return kept
        trouble = "its content has changed"
    except (SafetensorError, OSError, LookupError, TypeError, ValueError, AssertionError) as error:
        trouble = " ".join(str(error).split())
    note(f"decoding again, as {path} is damaged: {trouble}")
    return None


def opened(path: Path) -> tuple[Kept, dict[str, str]]:
    """What the file holds, its pixels left on the disk, and the facts in its header."""
    with safe_open(path, "pt") as file:
        facts = file.metadata()
        labels, images_u8, why = (file.get_tensor(name) for name in ("labels", "images_u8", "unreadable"))
    unreadable = json.loads(why.numpy().tobytes())
    readable = torch.ones(len(labels), dtype=torch.bool)
    readable[[index for index, _ in unreadable]] = False
    images = ImageSet(images_u8, labels[readable], tuple(json.loads(facts["class_names"])))
    return Kept(images, [line for _, line in unreadable]), facts


def digest(facts: object) -> str:
    """The SHA-256, in hex, of plain facts."""
    return hashlib.sha256(repr(facts).encode()).hexdigest()
