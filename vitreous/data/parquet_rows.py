"""Read single rows of a column of encoded images in Parquet files, in memory that doesn't grow with the files."""

import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from vitreous.errors import InputError

BLOCK_ROWS = 32
"""Rows that are read at a time."""
CACHED_BYTES = 1 << 27
"""Encoded images that are kept for the next calls. All threads decode images that lie near each other; what they reach
back for must be among these, because a row group can only be read from its beginning."""
BUFFER_BYTES = 1 << 20
"""Bytes that are read from a file at a time. A page of it is in memory as a whole; writers usually end one after 1024
rows or less."""
OPEN_GROUPS = 8
"""Row groups that are read at the same time."""


@dataclass(frozen=True)
class RowGroup:
    """A row group of a file.

    Attributes:
        file: the file.
        number: of the row group in it.
        first_row: the row of the file with which it begins.
        rows: their number.
    """

    file: Path
    number: int
    first_row: int
    rows: int


class ImageColumn:
    """The encoded images of a column of several files, for several threads; fastest in ascending order."""

    def __init__(self, files: Sequence[Path], column: str) -> None:
        """Find the row groups.

        Raises:
            InputError: a file can't be read.
        """
        self._groups = [group for file in files for group in _row_groups(file)]
        self._starts = list(accumulate((group.rows for group in self._groups), initial=0))
        self._column = column
        self._blocks: OrderedDict[tuple[int, int], pa.Array] = OrderedDict()
        self._cached_bytes = 0
        self._readers: OrderedDict[int, _GroupReader] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return self._starts[-1]

    def read(self, index: int) -> tuple[str, bytes]:
        """Return the name of an image, FILE: row N, and its bytes.

        Raises:
            InputError: its row holds none, or can't be read.
        """
        number = bisect_right(self._starts, index) - 1
        group, row = self._groups[number], index - self._starts[number]
        with self._lock:
            block = self._block(number, row // BLOCK_ROWS)
        name = f"{group.file}: row {group.first_row + row}"
        data = block[row % BLOCK_ROWS].as_py()
        if not data:
            raise InputError(f"{name} holds no image: repair or remove it")
        return name, data

    def _block(self, group: int, wanted: int) -> pa.Array:
        """Return a block of a row group, from the cache or by reading on to it."""
        if (found := self._blocks.get((group, wanted))) is not None:
            return found
        reader = self._readers.pop(group, None)
        if reader is None or reader.next_block > wanted:
            reader = _GroupReader(self._groups[group], self._column)
        block = None
        while reader.next_block <= wanted:
            number, block = reader.next_block, reader.read()
            self._keep((group, number), block)
        self._readers[group] = reader
        if len(self._readers) > OPEN_GROUPS:
            self._readers.popitem(last=False)
        return block

    def _keep(self, key: tuple[int, int], block: pa.Array) -> None:
        """Put a block into the cache, and drop the oldest ones if they are too large together."""
        dropped = self._blocks.pop(key, None)
        self._blocks[key] = block
        self._cached_bytes += block.nbytes - (0 if dropped is None else dropped.nbytes)
        while self._cached_bytes > CACHED_BYTES and len(self._blocks) > 1:
            self._cached_bytes -= self._blocks.popitem(last=False)[1].nbytes


class _GroupReader:
    """Reads the blocks of a row group one after the other."""

    def __init__(self, group: RowGroup, column: str) -> None:
        self.next_block = 0
        self._group = group
        self._blocks = _iterate_blocks(group, column)

    def read(self) -> pa.Array:
        """Read the next block.

        Raises:
            InputError: the file can't be read, or isn't the one any more that it was.
        """
        file = self._group.file
        try:
            block = next(self._blocks, pa.array([], pa.binary()))
        except (pa.ArrowException, OSError, IndexError) as error:
            raise unreadable_parquet(file, error) from error
        if len(block) != min(BLOCK_ROWS, self._group.rows - self.next_block * BLOCK_ROWS):
            raise InputError(f"{file} has changed while it is read: try again")
        self.next_block += 1
        return block


def _row_groups(file: Path) -> Iterator[RowGroup]:
    """Yield the row groups of a file that aren't empty.

    Raises:
        InputError: it can't be read.
    """
    try:
        metadata = pq.read_metadata(file)
    except (pa.ArrowException, OSError) as error:
        raise unreadable_parquet(file, error) from error
    first_row = 0
    for number in range(metadata.num_row_groups):
        rows = metadata.row_group(number).num_rows
        if rows:
            yield RowGroup(file, number, first_row, rows)
        first_row += rows


def _iterate_blocks(group: RowGroup, column: str) -> Iterator[pa.Array]:
    """Yield the images of a row group, BLOCK_ROWS at a time; its pages are read one by one, not all at once."""
    pending = pa.array([], pa.binary())
    with pq.ParquetFile(group.file, buffer_size=BUFFER_BYTES, pre_buffer=False) as opened:
        for batch in opened.iter_batches(BLOCK_ROWS, [group.number], [column], use_threads=False):
            images = _image_bytes(batch.column(0))
            pending = pa.concat_arrays([pending, images]) if len(pending) else images
            while len(pending) >= BLOCK_ROWS:
                yield pending[:BLOCK_ROWS]
                pending = pending[BLOCK_ROWS:]
    if len(pending):
        yield pending


def _image_bytes(column: pa.Array) -> pa.Array:
    """Return an array of bytes, or the bytes in an array of structs that hold them; null where missing."""
    return column.flatten()[column.type.get_field_index("bytes")] if pa.types.is_struct(column.type) else column


def unreadable_parquet(file: Path, error: Exception) -> InputError:
    """Say that a file can't be read as Parquet."""
    return InputError(f"can't read {file} as Parquet: replace it ({' '.join(str(error).split())})")
