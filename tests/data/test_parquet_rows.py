"""Single rows of Parquet files: the right bytes in any order and from several threads, with little in memory."""

import random
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vitreous.data import parquet, parquet_rows
from vitreous.data.parquet_rows import BLOCK_ROWS, ImageColumn
from vitreous.errors import InputError

ROWS = 300
IMAGES = [random.Random(index).randbytes(50 + index % 7) for index in range(ROWS)]
LABELS = [index % 3 for index in range(ROWS)]


@pytest.fixture(params=[(7, False), (50, True), (ROWS, False)], ids=["small-groups", "plain", "one-group"])
def files(request, tmp_path):
    """Two files with row groups of one size, images as structs or plain bytes."""
    group, is_plain = request.param
    column = IMAGES if is_plain else [{"bytes": data, "path": f"{data[:3]}"} for data in IMAGES]
    table = pa.table({"image": column, "label": LABELS})
    paths = [tmp_path / "train-0.parquet", tmp_path / "train-1.parquet"]
    pq.write_table(table[:200], paths[0], row_group_size=group)
    pq.write_table(table[200:], paths[1], row_group_size=group)
    return paths


def name_of(files, index: int) -> str:
    return f"{files[index // 200]}: row {index % 200}"


@pytest.mark.parametrize("cached_bytes", [1, 1 << 20])
def test_rows_in_any_order_are_those_of_the_table(files, monkeypatch, cached_bytes):
    monkeypatch.setattr(parquet_rows, "CACHED_BYTES", cached_bytes)
    column, order = ImageColumn(files, "image"), random.Random(0).sample(range(ROWS), ROWS)
    assert len(column) == ROWS
    for index in [*range(ROWS), *order, *reversed(range(0, ROWS, 29))]:
        assert column.read(index) == (name_of(files, index), IMAGES[index])


def test_threads_read_the_right_rows(files, monkeypatch):
    monkeypatch.setattr(parquet_rows, "CACHED_BYTES", 4000)
    column = ImageColumn(files, "image")
    with ThreadPoolExecutor(8) as pool:
        assert [data for _, data in pool.map(column.read, range(ROWS))] == IMAGES


def test_little_is_in_memory(files, monkeypatch):
    """Blocks of a few thousand bytes and few open files, whatever the number of rows; in order, each is read once."""
    limit = 2 * BLOCK_ROWS * 60
    monkeypatch.setattr(parquet_rows, "CACHED_BYTES", limit)
    read, original = [], parquet_rows._GroupReader.read
    monkeypatch.setattr(parquet_rows._GroupReader, "read", lambda self: read.append(self.next_block) or original(self))
    column = ImageColumn(files, "image")
    for index in range(ROWS):
        column.read(index)
        assert sum(block.nbytes for block in column._blocks.values()) == column._cached_bytes <= limit
        assert len(column._readers) <= parquet_rows.OPEN_GROUPS
    assert len(read) == sum(-(-group.rows // BLOCK_ROWS) for group in column._groups)


def test_images_are_not_read_before_they_are_needed(files, monkeypatch):
    monkeypatch.setattr(parquet_rows, "_GroupReader", None)
    encoded = parquet.read_rows(files, "image", "label", ("a", "b", "c"))
    assert encoded.labels == LABELS
    with pytest.raises(TypeError):  # now they would be
        encoded.read(0)


def test_rows_without_an_image_are_named(tmp_path):
    for name, column in (("plain", [b"x", None, b""]), ("struct", [{"bytes": b"x"}, None, {"bytes": None}])):
        pq.write_table(pa.table({"image": column}), tmp_path / name)
        images = ImageColumn([tmp_path / name], "image")
        assert images.read(0) == (f"{tmp_path / name}: row 0", b"x")
        for row in (1, 2):
            with pytest.raises(InputError, match=f"{name}: row {row} holds no image: repair or remove it"):
                images.read(row)


def test_damage_in_the_middle_is_one_line(tmp_path):
    """The rows before it are read; the message names the file."""
    path = tmp_path / "train.parquet"
    pq.write_table(pa.table({"image": IMAGES}), path, row_group_size=100, compression="zstd", use_dictionary=False)
    start = pq.read_metadata(path).row_group(1).column(0).data_page_offset
    data = bytearray(path.read_bytes())
    data[start : start + 200] = b"\xff" * 200
    path.write_bytes(data)
    column = ImageColumn([path], "image")
    assert column.read(99)[1] == IMAGES[99] and column.read(200)[1] == IMAGES[200]
    for _ in range(2):
        with pytest.raises(InputError, match=r"can't read .*train\.parquet as Parquet: replace it") as caught:
            column.read(150)
        assert "\n" not in str(caught.value)


def test_a_file_that_was_replaced_is_refused(tmp_path):
    path = tmp_path / "train.parquet"
    pq.write_table(pa.table({"image": IMAGES}), path)
    column = ImageColumn([path], "image")
    pq.write_table(pa.table({"image": IMAGES[:40]}), path)
    with pytest.raises(InputError, match="has changed while it is read: try again"):
        column.read(100)
