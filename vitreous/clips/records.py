"""Numbers recorded for a video: statistics of each map, the maps and predictions as files, and the totals."""

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

from vitreous.clips.maps import FrameMaps
from vitreous.clips.options import OutputOptions
from vitreous.clips.predictions import PredictionPool
from vitreous.errors import InputError
from vitreous.explanation.regions import center_of_region
from vitreous.files import atomic_write, make_folder, os_error_reason
from vitreous.model.prediction import Prediction
from vitreous.render.plots.timeline import timeline
from vitreous.render.upsample import PixelBox
from vitreous.video.info import Frame

TOP_CLASSES = 3
"""Classes per frame in the CSV file."""
DEFAULT_STEP_SECONDS = 0.04
"""Duration of a first frame whose file does not state one."""


def positive_mass(heatmap: np.ndarray) -> np.ndarray:
    """Return the positive part of a map (rows, columns), scaled to a sum of 1; zeros if there is none."""
    positive = np.maximum(heatmap.astype(np.float64), 0)
    total = positive.sum()
    return positive / total if total > 0 else positive


def map_entropy(heatmap: np.ndarray) -> float:
    """Return how spread a map is: sum of -p log p over log(cells), p the map's positive mass.

    It is 0 for a map on one cell, 1 for an even map, and nan for an empty map.

    >>> map_entropy(np.ones((2, 2))), map_entropy(np.eye(1, 6))
    (1.0, 0.0)
    """
    mass = positive_mass(heatmap)
    if not mass.any() or mass.size == 1:
        return math.nan
    present = mass[mass > 0]
    return abs(float(-(present * np.log(present)).sum() / math.log(mass.size)))


def center_of_mass(heatmap: np.ndarray, box: PixelBox) -> tuple[float, float]:
    """Return the mean position (x, y) of a map's positive mass; nan for an empty map.

    Args:
        heatmap: (rows, columns).
        box: (top, left, bottom, right) that the map spans, in the pixels of the result.
    """
    mass, (top, left, bottom, right) = positive_mass(heatmap), box
    if not mass.any():
        return math.nan, math.nan
    rows, columns = heatmap.shape
    y, x = ((np.arange(cells) + 0.5) / cells for cells in (rows, columns))
    return left + float(mass.sum(0) @ x) * (right - left), top + float(mass.sum(1) @ y) * (bottom - top)


def temporary_file(folder: Path) -> BinaryIO:
    """Open a new file without a name on the disk of a folder; it vanishes when it is closed or the process ends.

    Raises:
        InputError: the folder can't be created or written.
    """
    make_folder(folder)
    try:
        return tempfile.TemporaryFile(dir=folder)
    except OSError as error:
        raise InputError(f"can't write into {folder}: {os_error_reason(error)}; choose another folder") from error


class DiskArray:
    """An array on disk that grows by one row at a time, in a temporary file.

    Raises:
        InputError: the folder can't be written.
    """

    def __init__(self, folder: Path, dtype: str) -> None:
        self.file = temporary_file(folder)
        self.dtype, self.row_shape, self.rows = np.dtype(dtype), (), 0

    def append(self, row: np.ndarray) -> None:
        """Append a row; all rows have one shape."""
        assert not self.rows or row.shape == self.row_shape, f"a row of {row.shape} after those of {self.row_shape}"
        self.row_shape, self.rows = row.shape, self.rows + 1
        self.file.write(np.ascontiguousarray(row, self.dtype).tobytes())

    @property
    def shape(self) -> tuple[int, ...]:
        """(rows, *shape of a row)."""
        return (self.rows, *self.row_shape)

    def read(self) -> np.ndarray:
        """Return all rows as a memory map."""
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
        """Delete the temporary file."""
        self.file.close()


class MapsWriter:
    """Collects the maps and the rows of the CSV file; `save` writes both files, `close` drops what was collected.

    The NPZ file holds `maps`, float16 (frames, maps, rows, columns), each divided by its largest absolute value, and
    `peaks`, float32 (frames, maps), those values: maps * peaks[..., None, None] are the method's own numbers, without
    smoothing. It also holds `times` in seconds (frames), `titles` (maps) and `box` (top, left, bottom, right), which
    the maps span in pixels of the source.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.maps, self.peaks = DiskArray(path.parent, "<f2"), DiskArray(path.parent, "<f4")
        self.times: list[float] = []
        self.table = io.TextIOWrapper(temporary_file(path.parent), encoding="utf-8", newline="")
        self.writer: csv.DictWriter | None = None
        self.titles: Sequence[str] = ()
        self.box: Sequence[float] = ()

    def add(self, time_seconds: float, maps: np.ndarray, row: Mapping[str, object]) -> None:
        """Add the next frame: its maps, float32 (maps, rows, columns), and its row of the CSV file.

        The names in the first row are the columns; values that a later row lacks stay empty.
        """
        peaks = np.abs(maps).max(axis=(1, 2))
        self.maps.append(maps / np.where(peaks > 0, peaks, 1)[:, None, None])
        self.peaks.append(peaks)
        self.times.append(time_seconds)
        row = {"time_seconds": time_seconds, **row}
        if self.writer is None:
            self.writer = csv.DictWriter(self.table, list(row), restval="")
            self.writer.writeheader()
        self.writer.writerow(row)

    def close(self) -> None:
        """Delete the temporary files."""
        for file in (self.maps, self.peaks, self.table):
            file.close()

    def save(self) -> list[Path]:
        """Write both files, each whole or not at all, and return their paths."""
        table = self.path.with_suffix(".csv")
        with atomic_write(self.path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
            self.maps.save(archive, "maps")
            self.peaks.save(archive, "peaks")
            times = np.array(self.times, np.float64)
            small = {"times": times, "titles": np.array(self.titles), "box": np.array(self.box, np.float64)}
            for name, values in small.items():
                with archive.open(f"{name}.npy", "w") as member:
                    np.lib.format.write_array(member, values, allow_pickle=False)
        self.table.flush()
        self.table.buffer.seek(0)
        with atomic_write(table) as temporary, temporary.open("wb") as file:
            shutil.copyfileobj(self.table.buffer, file)
        return [self.path, table]


class VideoRecorder:
    """Records what the model found in each frame: a few numbers in memory, the rest on disk.

    Leaving the `with` block without `save` writes no file.
    """

    def __init__(self, class_names: Sequence[str], output: OutputOptions, source_hw: tuple[int, int]) -> None:
        self.pool = PredictionPool(class_names)
        self.times: list[float] = []
        self.entropies: list[float] = []
        self._source_hw = source_hw
        self._probabilities = None if output.timeline is None else DiskArray(output.timeline.parent, "<f2")
        self._maps = None if output.save_maps is None else MapsWriter(output.save_maps)

    def __enter__(self) -> "VideoRecorder":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for file in (self._probabilities, self._maps):
            if file is not None:
                file.close()

    def add(self, frame: Frame, found: FrameMaps) -> None:
        """Record the next frame."""
        entropies = [map_entropy(one.patch_heatmap) for one in found.maps]
        start = float(frame.time_seconds)
        self.entropies.append(entropies[0])
        if found.prediction.probabilities:
            end = start + float(frame.duration_seconds or self._step(start))
            probabilities = self.pool.add(found.prediction, entropies[0], start, end)
            if self._probabilities is not None:
                self._probabilities.append(probabilities)
        self.times.append(start)
        if self._maps is not None:
            self._add_maps(self._maps, frame, found, entropies)

    def _add_maps(self, writer: MapsWriter, frame: Frame, found: FrameMaps, entropies: Sequence[float]) -> None:
        """Write a frame's maps and its row; positions are in pixels of the source, whatever size is written."""
        scale_y, scale_x = (a / b for a, b in zip(self._source_hw, frame.image_u8.shape[:2], strict=True))
        top, left, bottom, right = found.box
        box = (top * scale_y, left * scale_x, bottom * scale_y, right * scale_x)
        writer.titles, writer.box = [one.title for one in found.maps], box
        row = {**class_columns(found.prediction), **map_columns(found, entropies, box)}
        if found.query is not None:
            x, y = center_of_region(found.query)
            row |= {"query_x": round(x * scale_x, 2), "query_y": round(y * scale_y, 2)}
        writer.add(float(frame.time_seconds), np.stack([one.patch_heatmap for one in found.maps]), row)

    def save_timeline(self, path: Path, title: str) -> None:
        """Write the figure of the first map's entropy over time, and of the classes and segments if there are any."""
        assert self._probabilities is not None
        entropies, has_classes = np.array(self.entropies), self._probabilities.rows > 0
        entropy = None if has_classes and np.isnan(entropies).all() else np.nan_to_num(entropies)
        curves = self.pool.top_classes(self._probabilities.read()) if has_classes else {}
        timeline(self.times, curves, self.pool.segments(), path, entropy=entropy, title=title)

    def save(self) -> list[Path]:
        """Write the maps and the CSV file, if wanted, and return their paths."""
        return [] if self._maps is None else self._maps.save()

    def _step(self, start: float) -> float:
        """Return the time from the last frame to this one."""
        return start - self.times[-1] if self.times else DEFAULT_STEP_SECONDS


def class_columns(prediction: Prediction) -> dict[str, object]:
    """Return the columns of the most probable classes."""
    columns: dict[str, object] = {}
    for rank, (label, score) in enumerate(prediction.probabilities[:TOP_CLASSES], 1):
        columns |= {f"class_{rank}": label, f"probability_{rank}": round(score, 6)}
    return columns


def map_columns(found: FrameMaps, entropies: Sequence[float], box: PixelBox) -> dict[str, object]:
    """Return the columns about each map; their names end in the map's title where there are several maps."""
    columns: dict[str, object] = {}
    for one, entropy in zip(found.maps, entropies, strict=True):
        end = f"_{one.title.replace(' ', '_')}" if len(found.maps) > 1 else ""
        x, y = center_of_mass(one.patch_heatmap, box)
        columns |= {f"entropy{end}": round(entropy, 6), f"center_x{end}": round(x, 2), f"center_y{end}": round(y, 2)}
    return columns
