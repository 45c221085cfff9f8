"""A map of a frame in a few numbers: how spread it is, and where its middle lies."""

import csv
import io
import math
import shutil
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

import numpy as np

from vitreous.clips.maps import Seen
from vitreous.clips.predictions import ClipAnswers
from vitreous.clips.request import VideoRequest
from vitreous.errors import InputError
from vitreous.explanation.coordinates import center_of_region
from vitreous.files import make_folder, reason, written_beside
from vitreous.model.classifier import Prediction
from vitreous.video.info import Frame

TOP = 3
"""Classes of each frame that the table names."""


def mass(heat: np.ndarray) -> np.ndarray:
    """What of a map, float (rows, columns), speaks for its target, as shares that add to 1; zeros if nothing does."""
    positive = np.maximum(heat.astype(np.float64), 0)
    total = positive.sum()
    return positive / total if total > 0 else positive


def entropy(heat: np.ndarray) -> float:
    """How spread a map is: Σ −p log p over log(cells), 0 all on one cell, 1 even; not a number for an empty map."""
    shares = mass(heat)
    if not shares.any() or shares.size == 1:
        return math.nan
    present = shares[shares > 0]
    return abs(float(-(present * np.log(present)).sum() / math.log(shares.size)))


def center_of_mass(heat: np.ndarray, box: tuple[float, float, float, float]) -> tuple[float, float]:
    """The mean place of a map over `box` (top, left, bottom, right): (y, x) in its pixels; not numbers if empty."""
    shares, (top, left, bottom, right) = mass(heat), box
    if not shares.any():
        return math.nan, math.nan
    rows, columns = heat.shape
    down, across = ((np.arange(cells) + 0.5) / cells for cells in (rows, columns))
    y = top + float(shares.sum(1) @ down) * (bottom - top)
    return y, left + float(shares.sum(0) @ across) * (right - left)


def nameless_file(folder: Path) -> BinaryIO:
    """A new file without a name on the disk of a folder, which is gone when it is closed, and when we are.

    Raises:
        InputError: the folder can't be made or written.
    """
    make_folder(folder)
    try:
        return tempfile.TemporaryFile(dir=folder)
    except OSError as error:
        raise InputError(f"can't write into {folder}: {reason(error)}; choose another place") from error


class Spool:
    """An array that grows by one row at a time, on the disk: of a nameless file, which can't be left behind.

    Raises:
        InputError: the folder can't be written.
    """

    def __init__(self, folder: Path, dtype: str) -> None:
        self.file = nameless_file(folder)
        self.dtype, self.row_shape, self.rows = np.dtype(dtype), (), 0

    def append(self, row: np.ndarray) -> None:
        """Add a row, of the same shape as all others."""
        assert not self.rows or row.shape == self.row_shape, f"a row of {row.shape} after those of {self.row_shape}"
        self.row_shape, self.rows = row.shape, self.rows + 1
        self.file.write(np.ascontiguousarray(row, self.dtype).tobytes())

    @property
    def shape(self) -> tuple[int, ...]:
        """(rows, ...)."""
        return (self.rows, *self.row_shape)

    def read(self) -> np.ndarray:
        """All rows, left on the disk until they are looked at."""
        self.file.flush()
        return np.memmap(self.file, self.dtype, "r", shape=self.shape)

    def save(self, archive: zipfile.ZipFile, name: str) -> None:
        """Write all rows as one array of an NPZ file."""
        self.file.seek(0)
        with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
            header = {"descr": self.dtype.str, "fortran_order": False, "shape": self.shape}
            np.lib.format.write_array_header_1_0(member, header)
            shutil.copyfileobj(self.file, member)

    def close(self) -> None:
        """Give the disk back."""
        self.file.close()


class DataOut:
    """Collects what is written beside a clip; `save` writes it, `close` forgets it.

    The NPZ file holds `maps`, float16 (frames, maps, rows, columns), each divided by its greatest size, and `peaks`,
    float32 (frames, maps), those sizes: maps * peaks[..., None, None] are the method's own numbers, not smoothed. With
    them `times` in seconds (frames), `titles` (maps) and `box` (top, left, bottom, right), what the maps span in pixels
    of the source.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.maps, self.peaks = Spool(path.parent, "<f2"), Spool(path.parent, "<f4")
        self.times: list[float] = []
        self.table = io.TextIOWrapper(nameless_file(path.parent), encoding="utf-8", newline="")
        self.writer: csv.DictWriter | None = None
        self.titles: Sequence[str] = ()
        self.box: Sequence[float] = ()

    def add(self, time_seconds: float, maps: np.ndarray, numbers: Mapping[str, object]) -> None:
        """Take in the next frame: its maps, float32 (maps, rows, columns), and its row of the table.

        The first row's names are the table's columns; what later ones leave out stays empty.
        """
        peaks = np.abs(maps).max(axis=(1, 2))
        self.maps.append(maps / np.where(peaks > 0, peaks, 1)[:, None, None])
        self.peaks.append(peaks)
        self.times.append(time_seconds)
        row = {"time_seconds": time_seconds, **numbers}
        if self.writer is None:
            self.writer = csv.DictWriter(self.table, list(row), restval="")
            self.writer.writeheader()
        self.writer.writerow(row)

    def close(self) -> None:
        """Give the disk back."""
        for kept in (self.maps, self.peaks, self.table):
            kept.close()

    def save(self) -> list[Path]:
        """Write both files, each whole or not at all; return their paths."""
        table = self.path.with_suffix(".csv")
        with written_beside(self.path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
            self.maps.save(archive, "maps")
            self.peaks.save(archive, "peaks")
            times = np.array(self.times, np.float64)
            small = {"times": times, "titles": np.array(self.titles), "box": np.array(self.box, np.float64)}
            for name, values in small.items():
                with archive.open(f"{name}.npy", "w") as member:
                    np.lib.format.write_array(member, values, allow_pickle=False)
        self.table.flush()
        self.table.buffer.seek(0)
        with written_beside(table) as temporary, temporary.open("wb") as file:
            shutil.copyfileobj(self.table.buffer, file)
        return [self.path, table]


class ClipTable:
    """Takes in what was seen in each frame; holds a few numbers of it, and the rest on the disk.

    Leaving the `with` block without `save` writes nothing and leaves nothing.
    """

    def __init__(self, class_names: Sequence[str], request: VideoRequest, source_hw: tuple[int, int]) -> None:
        self.answers = ClipAnswers(class_names)
        self.entropies: list[float] = []
        self._source_hw = source_hw
        self._probabilities = None if request.timeline is None else Spool(request.timeline.parent, "<f2")
        self._data = None if request.data_out is None else DataOut(request.data_out)

    def __enter__(self) -> "ClipTable":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for spool in (self._probabilities, self._data):
            if spool is not None:
                spool.close()

    def add(self, frame: Frame, seen: Seen) -> None:
        """Take in the next frame."""
        spread = [entropy(one.heat) for one in seen.maps]
        self.entropies.append(spread[0])
        if seen.prediction.scores:
            start = float(frame.time_seconds)
            end = start + float(frame.duration_seconds or self._step(start))
            shares = self.answers.add(seen.prediction, spread[0], start, end)
            if self._probabilities is not None:
                self._probabilities.append(shares)
        if self._data is not None:
            factors = [a / b for a, b in zip(self._source_hw, frame.image_u8.shape[:2], strict=True)] * 2
            box = [side * factor for side, factor in zip(seen.box, factors, strict=True)]
            self._data.titles, self._data.box = [one.title for one in seen.maps], box
            row = {
                "time_seconds": float(frame.time_seconds),
                **ranked(seen.prediction),
                **statistics(seen, spread, box),
            }
            if seen.place is not None:
                y, x = center_of_region(seen.place)
                row |= {
                    "query_x": round(x * factors[1], 2),
                    "query_y": round(y * factors[0], 2),
                }
            self._data.add(float(frame.time_seconds), np.stack([one.heat for one in seen.maps]), row)

    def most_shown(self) -> Mapping[str, np.ndarray]:
        """The probabilities over time of the classes that are highest on average."""
        assert self._probabilities is not None
        return self.answers.most_shown(self._probabilities.read())

    def save(self) -> list[Path]:
        """Write the files of `data_out`, if wanted; return their paths."""
        return [] if self._data is None else self._data.save()

    def _step(self, start: float) -> float:
        """The time from the last frame to this one."""
        return start - self.answers.times[-1] if self.answers.times else 0.04


def ranked(prediction: Prediction) -> dict[str, object]:
    """The columns of the most probable classes."""
    columns: dict[str, object] = {}
    for place, (name, share) in enumerate(prediction.scores[:TOP], 1):
        columns |= {f"class_{place}": name, f"probability_{place}": round(share, 6)}
    return columns


def statistics(seen: Seen, spread: Sequence[float], box: Sequence[float]) -> dict[str, object]:
    """The columns about each map; their names end in the map's title where there are several."""
    columns: dict[str, object] = {}
    for one, value in zip(seen.maps, spread, strict=True):
        end = f"_{one.title.replace(' ', '_')}" if len(seen.maps) > 1 else ""
        y, x = center_of_mass(one.heat, (box[0], box[1], box[2], box[3]))
        columns |= {f"entropy{end}": round(value, 6), f"center_x{end}": round(x, 2), f"center_y{end}": round(y, 2)}
    return columns
