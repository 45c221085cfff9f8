"""maps.jsonl: the maps and outputs of a few fixed images at steps of a run, one line a step behind a line of images.

Like metrics.jsonl it only grows while a run trains: a kill can cut off its last line, which readers leave out.
"""

import json
from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from vitreous.errors import InputError
from vitreous.files import os_error_reason, write_text
from vitreous.records import from_json
from vitreous.runs.run_folder import RunFolder

LOSSLESS_PIXELS = 128 * 128
"""Larger images are kept as JPEG: PNG of eight photos would take megabytes."""
JPEG_QUALITY = 90
MOST_BYTES = 64 * 1024**2
"""A larger file is damage: a run keeps 5 MB at most."""


@dataclass(frozen=True)
class FixedImages:
    """The images whose maps a run keeps.

    Attributes:
        images_u8: uint8 (images, height, width, 3), at the model's input size.
        indexes: their positions in the split.
        truths: their labels; None if the task learns something else.
        split: "validation", or "train" where a run has no validation images.
    """

    images_u8: np.ndarray
    indexes: tuple[int, ...]
    truths: tuple[str, ...] | None
    split: str


@dataclass(frozen=True)
class KeptStep:
    """What is kept of the fixed images after a step.

    Attributes:
        step: the number of steps taken; 0 is the model before training.
        epoch: the number of epochs taken.
        maps: by method, float32 (images, rows, columns), times the number of patches: 1 is a uniform map.
        outputs: of the model, float32 (images, ...); None if they would take more space than the maps are worth.
    """

    step: int
    epoch: float
    maps: Mapping[str, np.ndarray]
    outputs: np.ndarray | None


@dataclass(frozen=True)
class KeptMaps:
    """The contents of maps.jsonl, in the order of the steps."""

    images: FixedImages
    steps: tuple[KeptStep, ...]


@dataclass(frozen=True)
class _StoredArray:
    """An array in JSON: its shape, and its values, little-endian, in base64."""

    shape: tuple[int, ...]
    values: str


@dataclass(frozen=True)
class _StoredImages:
    images: tuple[str, ...]
    indexes: tuple[int, ...]
    truths: tuple[str, ...] | None
    split: str


@dataclass(frozen=True)
class _StoredStep:
    step: int
    epoch: float
    maps: dict[str, _StoredArray]
    outputs: _StoredArray | None


def images_line(images: FixedImages) -> str:
    """Return the first line of the file."""
    encoded = [b64encode(_encode_image(image_u8)).decode() for image_u8 in images.images_u8]
    content = {"images": encoded, "indexes": images.indexes, "truths": images.truths, "split": images.split}
    return json.dumps(content) + "\n"


def step_line(kept: KeptStep) -> str:
    """Return the line of a step: maps in float16, outputs in float32."""
    maps = {method: _encode_array(values, "<f2") for method, values in kept.maps.items()}
    outputs = None if kept.outputs is None else _encode_array(kept.outputs, "<f4")
    epoch = float(f"{kept.epoch:.6g}")
    return json.dumps({"step": kept.step, "epoch": epoch, "maps": maps, "outputs": outputs}) + "\n"


def start_kept_maps(folder: RunFolder, first_line: str, step: int) -> bool:
    """Start the file of a run that begins, or goes on, after `step`; return whether that begins it anew.

    What was kept after `step` is dropped: those steps will be taken again. A file of other images is replaced.

    Raises:
        InputError: it can't be written.
    """
    lines = _complete_lines(folder.kept_maps)
    is_new = not lines or lines[0] != first_line
    kept = [] if is_new else [line for line in lines[1:] if _step_of(line, folder.kept_maps) <= step]
    with folder.writing():
        write_text(folder.kept_maps, "".join([first_line, *kept]))
    return is_new


def drop_kept_maps_after(folder: RunFolder, step: int) -> None:
    """Drop what was kept after `step`, if there is a file, because those steps will be taken again."""
    if lines := _complete_lines(folder.kept_maps):
        start_kept_maps(folder, lines[0], step)


def append_step(folder: RunFolder, kept: KeptStep) -> None:
    """Append the line of a step.

    Raises:
        InputError: it can't be written, or the run folder is gone.
    """
    with folder.writing():
        try:
            with folder.kept_maps.open("a", encoding="utf-8") as file:
                file.write(step_line(kept))
        except OSError as error:
            raise InputError(f"can't write {folder.kept_maps}: {os_error_reason(error)}") from error


def last_kept_step(folder: RunFolder) -> int:
    """Return the last step in the file; −1 if there is none."""
    lines = _complete_lines(folder.kept_maps)
    return _step_of(lines[-1], folder.kept_maps) if len(lines) > 1 else -1


def read_kept_maps(folder: RunFolder) -> KeptMaps:
    """Read the file of a run, finished or not.

    Raises:
        InputError: the run kept no maps, or the file is damaged.
    """
    path = folder.kept_maps
    lines = _complete_lines(path)
    if len(lines) < 2:
        raise InputError(
            f"{folder.path} has no kept maps: a run keeps them while it trains, unless an earlier version made it or "
            "keep_maps is 0; train it with keep_maps=8"
        )
    try:
        stored = from_json(_StoredImages, json.loads(lines[0]))
        images_u8 = np.stack([_decode_image(text) for text in stored.images])
        steps = tuple(_decode_step(from_json(_StoredStep, json.loads(line))) for line in lines[1:])
        images = FixedImages(images_u8, stored.indexes, stored.truths, stored.split)
        _check_shapes(images, steps)
    except (ValueError, OSError, RecursionError) as error:  # InputError is a ValueError
        raise InputError(f"{path} is damaged ({str(error).splitlines()[0]}): restore or delete it") from None
    return KeptMaps(images, steps)


def _check_shapes(images: FixedImages, steps: tuple[KeptStep, ...]) -> None:
    """Refuse arrays that don't belong to so many images, or that differ between the steps.

    Raises:
        ValueError: they do.
    """
    count, first = len(images.images_u8), steps[0]
    shapes = {method: values.shape for method, values in first.maps.items()}
    if any(len(shape) != 3 or shape[0] != count or 0 in shape for shape in shapes.values()):
        raise ValueError("a map isn't of these images")
    if len(images.indexes) != count or len(images.truths or images.indexes) != count:
        raise ValueError("not every image has an index and a label")
    numbers = [kept.step for kept in steps]
    if numbers != sorted(set(numbers)):
        raise ValueError("the steps aren't in order")
    for kept in steps:
        if {method: values.shape for method, values in kept.maps.items()} != shapes:
            raise ValueError(f"the maps of step {kept.step} have another shape")
        if not all(np.isfinite(values).all() for values in [*kept.maps.values(), kept.outputs] if values is not None):
            raise ValueError(f"step {kept.step} has values that are NaN or infinite")
        if kept.outputs is not None and kept.outputs.shape[:1] != (count,):
            raise ValueError(f"the outputs of step {kept.step} aren't of these images")


def _complete_lines(path: Path) -> list[str]:
    """Read the lines that end; a last one that a kill cut off doesn't."""
    if not path.is_file():
        return []
    if path.stat().st_size > MOST_BYTES:
        raise InputError(f"{path} has more than {MOST_BYTES >> 20} MiB, so it is damaged: delete it")
    return [line + "\n" for line in path.read_text(encoding="utf-8", errors="replace").split("\n")[:-1]]


def _step_of(line: str, path: Path) -> int:
    try:
        step = json.loads(line)["step"]
        if type(step) is not int:
            raise TypeError
    except (ValueError, KeyError, TypeError, RecursionError):
        raise InputError(f"a line of {path} is damaged: restore or delete the file") from None
    return step


def _encode_image(image_u8: np.ndarray) -> bytes:
    image, stream = Image.fromarray(image_u8), BytesIO()
    if image.width * image.height <= LOSSLESS_PIXELS:
        image.save(stream, "PNG")
    else:
        image.save(stream, "JPEG", quality=JPEG_QUALITY)
    return stream.getvalue()


def _decode_image(text: str) -> np.ndarray:
    with Image.open(BytesIO(b64decode(text, validate=True)), formats=("PNG", "JPEG")) as image:
        return np.asarray(image.convert("RGB"))


def _encode_array(values: np.ndarray, kind: str) -> dict[str, Any]:
    return {"shape": values.shape, "values": b64encode(values.astype(kind).tobytes()).decode()}


def _decode_array(stored: _StoredArray, kind: str) -> np.ndarray:
    values = np.frombuffer(b64decode(stored.values, validate=True), kind)
    return values.reshape(stored.shape).astype(np.float32)


def _decode_step(stored: _StoredStep) -> KeptStep:
    maps = {method: _decode_array(values, "<f2") for method, values in stored.maps.items()}
    outputs = None if stored.outputs is None else _decode_array(stored.outputs, "<f4")
    return KeptStep(stored.step, stored.epoch, maps, outputs)
