"""The numbers behind an explained clip, for other programs: the maps as NPZ, and a CSV file with a row a frame."""

import csv
import io
import shutil
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np

from vitreous.errors import InputError
from vitreous.files import make_folder, reason, written_beside


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
