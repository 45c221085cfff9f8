"""Every image file is read as upright RGB; every corrupt one is a one-line error that names it."""

import io
import struct
import threading
import warnings
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from vitreous.errors import InputError
from vitreous.imaging.reading import PIXEL_LIMIT, as_image_u8, decode_image, open_image


def encode(image: Image.Image, image_format: str = "PNG", **options) -> bytes:
    stream = io.BytesIO()
    image.save(stream, image_format, **options)
    return stream.getvalue()


def gradient(height: int = 20, width: int = 30) -> np.ndarray:
    rows, columns = np.mgrid[0:height, 0:width]
    return np.stack([rows * 9, columns * 7, 255 - rows * 5], axis=2).astype(np.uint8)


def png_header(width: int, height: int) -> bytes:
    """Return a PNG whose header states a size and which has no pixels: reading them fails."""
    chunk = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    header = struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))
    return b"\x89PNG\r\n\x1a\n" + header + struct.pack(">I", 99) + b"IDAT"


@pytest.mark.parametrize("image_format", ["PNG", "BMP", "TIFF", "PPM"])
def test_lossless_formats_keep_every_pixel(image_format, tmp_path):
    path = tmp_path / "image.bin"  # the content decides, not the extension
    path.write_bytes(encode(Image.fromarray(gradient()), image_format))
    assert np.array_equal(open_image(path), gradient())
    assert np.array_equal(open_image(str(path)), gradient())


@pytest.mark.parametrize("image_format", ["JPEG", "WEBP", "AVIF", "JPEG2000"])
def test_lossy_formats_come_close(image_format):
    image = decode_image(encode(Image.fromarray(gradient()), image_format, quality=95), "x")
    assert image.shape == (20, 30, 3)
    assert np.abs(image.astype(int) - gradient()).mean() < 12


def test_one_pixel():
    assert decode_image(encode(Image.new("RGB", (1, 1), (1, 2, 3))), "x").tolist() == [[[1, 2, 3]]]


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (Image.new("L", (3, 2), 77), (77, 77, 77)),
        (Image.new("1", (3, 2), 1), (255, 255, 255)),
        (Image.new("LA", (3, 2), (0, 0)), (255, 255, 255)),
        (Image.new("RGBA", (3, 2), (255, 0, 0, 128)), (255, 127, 127)),
        (Image.new("RGB", (3, 2), (9, 200, 30)).quantize(4), (9, 200, 30)),
        (Image.fromarray(np.full((2, 3), 25700, np.uint16)), (100, 100, 100)),
        (Image.fromarray(np.full((2, 3), 65535, np.uint16)), (255, 255, 255)),
    ],
    ids=["L", "1", "LA", "RGBA", "P", "I;16", "I;16 white"],
)
def test_every_mode_becomes_rgb(image, expected):
    result = decode_image(encode(image), "x")
    assert result.shape == (2, 3, 3) and result.dtype == np.uint8
    assert (result == expected).all()
    assert np.array_equal(as_image_u8(image), result)


def test_a_transparent_palette_is_composited_on_white():
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 0, 0])
    image.putdata([0, 1])
    assert decode_image(encode(image, transparency=0), "x").tolist() == [[[255] * 3, [200, 0, 0]]]


def test_cmyk_jpeg():
    image = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    assert np.abs(decode_image(encode(image, "JPEG"), "x").astype(int) - (255, 0, 0)).max() < 6


@pytest.mark.parametrize("scale", [1.0, 255.0, 65535.0])
def test_floats_are_scaled_by_their_full_scale_not_clipped(scale):
    values = np.array([[0.0, 0.5, 1.0]], np.float32) * np.float32(scale)
    assert decode_image(encode(Image.fromarray(values), "TIFF"), "x")[0, :, 0].tolist() == [0, 128, 255]


def test_values_of_no_usual_scale_are_scaled_from_minimum_to_maximum():
    values = np.array([[-100_000, 0, 100_000]], np.int32)
    assert as_image_u8(Image.fromarray(values))[0, :, 0].tolist() == [0, 128, 255]
    assert as_image_u8(Image.fromarray(np.float32([[np.nan, 1e9, -1e9]])))[0, :, 0].tolist() == [128, 255, 0]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation):
    upright = gradient(16, 24)
    stored = {
        1: upright, 2: upright[:, ::-1], 3: upright[::-1, ::-1], 4: upright[::-1],
        5: upright.transpose(1, 0, 2), 6: np.rot90(upright, 1), 7: upright[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }[orientation]  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(Image.fromarray(np.ascontiguousarray(stored)), exif=exif)
    assert np.array_equal(decode_image(data, "x"), upright)


@pytest.mark.parametrize("image_format", ["GIF", "WEBP", "PNG", "TIFF"])
def test_animations_give_their_first_frame(image_format):
    frames = [Image.new("RGB", (8, 6), color) for color in ["red", "lime", "blue"]]
    options = {"lossless": True} if image_format == "WEBP" else {}
    data = encode(frames[0], image_format, save_all=True, append_images=frames[1:], **options)
    assert (decode_image(data, "x") == (255, 0, 0)).all()


def test_a_huge_image_is_an_error_before_it_is_decoded(tmp_path):
    for side in (60_000, 10_001):  # for the second, Pillow itself would only warn
        path = tmp_path / "huge.png"
        path.write_bytes(png_header(side, side))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            with pytest.raises(InputError, match=r"huge.png has .*pixels, the limit is 100 million"):
                open_image(path)
        assert not caught
    assert PIXEL_LIMIT == 10_000**2


def test_a_huge_pil_image_is_an_error_too(monkeypatch):
    monkeypatch.setattr("vitreous.imaging.reading.PIXEL_LIMIT", 100)
    with pytest.raises(InputError, match="11 x 10 pixels"):
        as_image_u8(Image.new("RGB", (11, 10)))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n", "git lfs pull"),
        (b"hello, I am a text file", "not an image that can be read"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image that can be read"),
        (encode(Image.fromarray(gradient()))[:60], "truncated or damaged"),
        (encode(Image.fromarray(gradient()), "JPEG")[:500], "truncated or damaged"),
        (png_header(0, 10), "damaged|0 x 10"),
    ],
    ids=["empty", "LFS", "text", "PostScript", "cut PNG", "cut JPEG", "no width"],
)
def test_a_corrupt_file_is_a_one_line_error_with_its_name(data, message, tmp_path):
    path = tmp_path / "corrupt.png"
    path.write_bytes(data)
    with pytest.raises(InputError, match=message) as caught:
        open_image(path)
    assert "corrupt.png" in str(caught.value) and "\n" not in str(caught.value)


def test_errors_name_missing_files_and_folders(tmp_path):
    with pytest.raises(InputError, match=r"there is no file .*nowhere\.jpg"):
        open_image(tmp_path / "nowhere.jpg")
    with pytest.raises(InputError, match="is a folder"):
        open_image(tmp_path)


@pytest.mark.filterwarnings("ignore")  # Pillow warns of damage that it can ignore
@settings(max_examples=200, deadline=None)
@given(
    image_format=st.sampled_from(["PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF", "PPM", "AVIF", "JPEG2000"]),
    position=st.floats(0, 1),
    junk=st.binary(min_size=1, max_size=6),
    cut=st.booleans(),
)
def test_damage_anywhere_gives_an_image_or_an_input_error(image_format, position, junk, cut):
    data = bytearray(encode(Image.fromarray(gradient()), image_format))
    start = int(position * (len(data) - 1))
    data[start : start + len(junk)] = junk
    try:
        image = decode_image(bytes(data[:start] if cut else data), "x")
    except InputError as error:
        assert "\n" not in str(error)
    else:
        assert image.ndim == 3 and image.shape[2] == 3 and image.dtype == np.uint8


def test_arrays_of_one_or_three_channels():
    image = gradient()
    assert np.array_equal(as_image_u8(image), image)
    for one in (image[..., 0], image[..., :1]):
        assert np.array_equal(as_image_u8(one), np.repeat(image[..., :1], 3, axis=2))


@pytest.mark.parametrize(
    ("thing", "named"),
    [
        (np.zeros((2, 3, 3), np.float32), "float32"),
        (np.zeros((3, 2, 4), np.uint8), r"\(3, 2, 4\)"),
        (np.zeros((3, 2, 3, 1), np.uint8), r"\(3, 2, 3, 1\)"),
        (np.zeros((0, 2, 3), np.uint8), r"\(0, 2, 3\)"),
        (17, "int"),
        (None, "NoneType"),
    ],
)
def test_the_error_of_another_type_names_it(thing, named):
    with pytest.raises(InputError, match=named):
        as_image_u8(thing)


def test_many_threads_may_read_at_once():
    data, results = encode(Image.fromarray(gradient())), []
    threads = [threading.Thread(target=lambda: results.append(decode_image(data, "x"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 8 and all(np.array_equal(image, gradient()) for image in results)


def test_a_real_photo(shared):
    image = open_image(next((shared / "photos").glob("two-cats.*")))
    assert image.shape[2] == 3 and image.std() > 20
