"""Images of more than 8 bits keep their brightness: their full scale is what the file declares."""

import io
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin

from vitreous.imaging.deep_pixels import scale_to_u8
from vitreous.imaging.reading import as_image_u8, decode_image

GRAY = np.arange(256, dtype=np.uint8).reshape(8, 32)


def encode(values: np.ndarray, image_format: str, **options) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(values).save(stream, image_format, **options)
    return stream.getvalue()


def png(values: np.ndarray, width: int, bits: int, color_type: int, transparent: bytes) -> bytes:
    """Write a PNG of whole rows of packed samples, with a transparent color."""
    chunks = {
        b"IHDR": struct.pack(">IIBBBBB", width, len(values), bits, color_type, 0, 0, 0),
        b"tRNS": transparent,
        b"IDAT": zlib.compress(b"".join(b"\0" + row.tobytes() for row in values)),
        b"IEND": b"",
    }
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in chunks.items()
    )


def tiff_12_bits(values: np.ndarray) -> bytes:
    """Write an uncompressed TIFF of 12 bits a sample, two samples in three bytes."""
    first, second = values[:, ::2], values[:, 1::2]
    packed = np.stack([first >> 4, (first & 15) << 4 | second >> 8, second & 255], axis=2).astype(np.uint8)
    tags = [(256, values.shape[1]), (257, values.shape[0]), (258, 12), (259, 1), (262, 1), (273, 8 + 2 + 12 * 9 + 4),
            (277, 1), (278, values.shape[0]), (279, packed.size)]  # fmt: skip
    directory = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    return b"II*\0" + struct.pack("<I", 8) + directory + bytes(4) + packed.tobytes()


@pytest.mark.parametrize("kind", [np.int32, np.float32])
def test_samples_of_32_bits_that_are_8_bit_values_are_read_as_such(kind):
    assert np.array_equal(decode_image(encode(GRAY.astype(kind), "TIFF"), "x")[..., 0], GRAY)
    assert np.array_equal(as_image_u8(Image.fromarray(GRAY.astype(kind)))[..., 0], GRAY)


def test_samples_of_32_bits_that_are_16_bit_values_are_read_as_such():
    assert np.array_equal(decode_image(encode(GRAY.astype(np.int32) * 257, "TIFF"), "x")[..., 0], GRAY)


def test_samples_of_12_bits_are_scaled_by_4095():
    values = np.linspace(0, 4095, 256).round().astype(np.uint16).reshape(8, 32)
    assert np.array_equal(decode_image(tiff_12_bits(values), "x")[..., 0], GRAY)


@pytest.mark.parametrize("image_format", ["PNG", "PPM", "TIFF", "JPEG2000"])
def test_a_dark_image_of_16_bits_stays_dark(image_format):
    values = GRAY.astype(np.uint16)  # of 65,535
    assert decode_image(encode(values, image_format), "x").max() == 1


def test_samples_of_15_bits_and_a_sign_are_scaled_by_32767():
    values = (GRAY.astype(np.float64) * 32767 / 255).round().astype(np.int32)
    data = bytearray(encode(values.astype(np.uint16), "TIFF", tiffinfo={339: 2}))
    assert np.array_equal(decode_image(bytes(data), "x")[..., 0], GRAY)


def test_white_may_be_zero():
    directory = TiffImagePlugin.ImageFileDirectory_v2()
    values = GRAY.astype(np.uint16) * 257
    data = bytearray(encode(values, "TIFF", tiffinfo=directory))
    entry = data.index(struct.pack("<HHI", 262, 3, 1))
    data[entry + 8] = 0
    assert np.array_equal(decode_image(bytes(data), "x")[..., 0], 255 - GRAY)


def test_the_transparent_gray_of_16_bits_is_white():
    values = np.array([[1000, 1001, 25700]], ">u2")
    assert decode_image(png(values, 3, 16, 0, struct.pack(">H", 1000)), "x")[0, :, 0].tolist() == [255, 4, 100]


@pytest.mark.parametrize(("bits", "packed", "expected"), [(2, 0b00011011, [0, 255, 170, 255]), (4, 0x12, [255, 34])])
def test_the_transparent_gray_of_less_than_8_bits_is_white(bits, packed, expected):
    data = png(np.array([[packed]], np.uint8), 8 // bits, bits, 0, struct.pack(">H", 1))
    assert decode_image(data, "x")[0, :, 0].tolist() == expected


def test_the_transparent_color_of_48_bits_is_white():
    values = np.array([[1000, 2000, 3000], [65535, 0, 0]], ">u2")
    data = png(values, 1, 16, 2, struct.pack(">HHH", 1000, 2000, 3000))
    assert decode_image(data, "x").tolist() == [[[255] * 3], [[255, 0, 0]]]


def test_large_images_are_scaled_in_blocks():
    values = np.zeros((4000, 2000), np.uint16)
    values[-1, -1] = 65535
    tracemalloc.start()
    scaled = scale_to_u8(values, (65535.0,))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert scaled[-1, -1] == 255 and scaled.sum() == 255
    assert peak < 2 * scaled.nbytes + 64e6  # all of it as float64 takes 64 MB more
