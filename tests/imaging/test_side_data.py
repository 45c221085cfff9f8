"""An image whose pixels are whole is read, whatever its side data are; one that lacks pixels is refused."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from vitreous.errors import InputError
from vitreous.imaging.reading import decode_image, format_and_mode

ROWS, COLUMNS = np.mgrid[0:40, 0:60]
PIXELS = np.stack([ROWS * 5, COLUMNS * 4, 255 - ROWS * 5], axis=2).astype(np.uint8)
PNG_SIDE_DATA = [
    *(b"gAMA", b"cHRM", b"sRGB", b"sBIT", b"bKGD", b"hIST", b"pHYs", b"tIME", b"iCCP", b"tEXt", b"zTXt", b"iTXt"),
    *(b"eXIf", b"acTL", b"fcTL", b"fdAT", b"tRNS", b"sPLT", b"cICP", b"vpAg"),
]
JPEG_SIDE_DATA = [
    b"", b"\1", b"JFIF\0", b"Exif\0\0", b"Exif\0\0garbage!", b"ICC_PROFILE\0", b"ICC_PROFILE\0\2\1", b"Adobe", b"MPF\0",
    b"MPF\0II*\0\x08\0\0\0\1\0", b"Photoshop 3.0\0008BIM\4\4\0\0\xff\xff\xff\xff", b"http://ns.adobe.com/xap/1.0/\0<bad",
]  # fmt: skip


def encode(image_format: str = "PNG", **options) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(PIXELS).save(stream, image_format, **options)
    return stream.getvalue()


def chunk(kind: bytes, content: bytes, checksum: int | None = None) -> bytes:
    checksum = zlib.crc32(kind + content) if checksum is None else checksum
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", PNG_SIDE_DATA)
@pytest.mark.parametrize("checksum", [None, 1], ids=["", "wrong checksum"])
@pytest.mark.parametrize(
    "content", [b"", b"\1", b"x\0\0x", b"x" * 40, b"a\0\0" + zlib.compress(bytes(5_000_000))],
    ids=["empty", "byte", "few", "forty", "huge"],
)  # fmt: skip
def test_odd_chunks_of_a_png_dont_matter(kind, checksum, content):
    data = encode()
    for place in (33, -12):  # before and after the pixels
        odd = data[:place] + chunk(kind, content, checksum) + data[place:]
        assert np.array_equal(decode_image(odd, "x"), PIXELS)
        assert format_and_mode(odd, "x") == "PNG RGB"


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("content", JPEG_SIDE_DATA)
def test_odd_segments_of_a_jpeg_dont_matter(content):
    data = encode("JPEG")
    pixels = decode_image(data, "x")
    for marker in [*range(0xE0, 0xF0), 0xFE]:
        odd = data[:2] + struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content + data[2:]
        assert np.array_equal(decode_image(odd, "x"), pixels), hex(marker)


def test_garbage_in_place_of_exif_data_leaves_the_image_as_it_is_stored():
    data = encode("WEBP", lossless=True, exif=b"garbage!")
    assert np.array_equal(decode_image(data, "x"), PIXELS)


def test_an_orientation_is_applied_though_other_side_data_are_damaged():
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encode(exif=exif)
    odd = data[:33] + chunk(b"gAMA", b"") + data[33:]
    assert np.array_equal(decode_image(odd, "x"), np.rot90(PIXELS, -1))


def test_transparency_is_kept_though_other_side_data_are_damaged():
    data = encode()
    color = struct.pack(">HHH", *map(int, PIXELS[0, 0]))
    odd = data[:33] + chunk(b"tRNS", color) + chunk(b"gAMA", b"") + data[33:]
    image = decode_image(odd, "x")
    assert image[0, 0].tolist() == [255] * 3 and np.array_equal(image[1:], PIXELS[1:])


@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_without_its_end_is_read_only_if_no_pixel_is_missing(progressive):
    data = encode("JPEG", progressive=progressive, quality=90)
    pixels = decode_image(data, "x")
    assert np.array_equal(decode_image(data[:-2], "x"), pixels)
    for missing in range(4, len(data) // 2, 7):
        with pytest.raises(InputError, match="truncated or damaged"):
            decode_image(data[:-missing], "x")


def test_a_png_without_its_end_is_read_only_if_no_pixel_is_missing():
    data = encode()
    read = 0
    for length in range(20, len(data)):
        try:
            image = decode_image(data[:length], "x")
        except InputError:
            continue
        assert np.array_equal(image, PIXELS), length
        read += 1
    assert read >= 12  # all of the chunk that marks the end may be missing


def test_damaged_pixels_stay_an_error():
    data = bytearray(encode())
    data[60:70] = bytes(10)
    with pytest.raises(InputError, match="truncated or damaged"):
        decode_image(bytes(data), "x")
