"""Pixels keep their positions from the image to the model's input and back: any size, any aspect ratio."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from vitreous.errors import InputError
from vitreous.imaging.geometry import Geometry
from vitreous.imaging.preprocessing import RESIZE_MODES, Preprocessing, preprocess_image, resize_images
from vitreous.render.upsample import crop_to_image

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)
WITHOUT_PADDING = [name for name in RESIZE_MODES if name != "letterbox"]
sides = st.integers(1, 150)
grids = st.tuples(st.integers(1, 24), st.integers(1, 24))


def resize_image(image_u8: np.ndarray, size: tuple[int, int], mode: str) -> np.ndarray:
    """Resize one image as datasets are."""
    images = torch.from_numpy(image_u8.copy()).permute(2, 0, 1)[None]
    return resize_images(images, size, mode)[0].permute(1, 2, 0).numpy()


def preprocessing(input_size=(32, 48), resize_mode="squash", patch_size=8) -> Preprocessing:
    return Preprocessing(input_size, resize_mode, MEAN, STD, patch_size)


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@given(
    height=sides,
    width=sides,
    mode=st.sampled_from(RESIZE_MODES),
    size=st.tuples(st.integers(8, 64), st.integers(8, 64)),
)
@settings(max_examples=60, deadline=None)
def test_any_image_fits_any_model(height, width, mode, size):
    pixels, geometry = preprocess_image(noise(height, width), preprocessing(size, mode))
    assert pixels.shape == (3, *geometry.input_size) and pixels.dtype == torch.float32 and pixels.is_contiguous()
    top, left, bottom, right = geometry.visible_box
    assert 0 <= top < bottom <= height and 0 <= left < right <= width
    assert mode == "letterbox" or geometry.visible_box == geometry.box
    assert geometry.original_size == (height, width)
    assert geometry.input_size == size or mode == "aspect"
    if mode != "crop":
        assert geometry.visible_box == pytest.approx((0, 0, height, width))


@pytest.mark.parametrize(
    ("original_size", "input_size", "area"),
    [
        ((90, 160), (64, 64), (16, 0, 48, 64)),  # 36 rows would fit: 32 are whole patches
        ((160, 90), (64, 64), (0, 16, 64, 48)),
        ((50, 50), (32, 64), (0, 16, 32, 48)),
        ((4, 400), (64, 64), (24, 0, 32, 64)),
        ((64, 64), (64, 64), (0, 0, 64, 64)),
    ],
)
def test_a_letterbox_keeps_the_aspect_ratio_and_pads_whole_patches(original_size, input_size, area):
    image = np.full((*original_size, 3), 255, np.uint8)
    pixels, geometry = preprocess_image(image, preprocessing(input_size, "letterbox"))
    visible = (pixels != 0).all(0)
    rows, columns = visible.any(1).nonzero(), visible.any(0).nonzero()
    top, left, bottom, right = rows[0].item(), columns[0].item(), rows[-1].item() + 1, columns[-1].item() + 1
    assert (top, left, bottom, right) == area and visible[top:bottom, left:right].all()
    heat = np.zeros((input_size[0] // 8, input_size[1] // 8), np.float32)
    heat[top // 8 : bottom // 8, left // 8 : right // 8] = 1
    part, box = crop_to_image(heat, geometry.box, original_size)
    assert part.shape == ((bottom - top) // 8, (right - left) // 8) and (part == 1).all()
    assert box == pytest.approx((0, 0, *original_size)) and geometry.visible_box == pytest.approx(
        (0, 0, *original_size)
    )


def test_a_map_without_padding_is_kept_whole():
    heat = np.arange(12.0).reshape(3, 4)
    for box in ((0, 0, 30, 40), (5, 6, 20, 30)):
        part, kept = crop_to_image(heat, box, (30, 40))
        assert part is not heat and np.array_equal(part, heat) and kept == pytest.approx(box)


@pytest.mark.parametrize("mode", WITHOUT_PADDING)
def test_the_color_of_a_plain_image_is_normalized(mode):
    image = np.full((70, 90, 3), (51, 102, 204), np.uint8)
    pixels, _ = preprocess_image(image, preprocessing(resize_mode=mode))
    expected = (torch.tensor([0.2, 0.4, 0.8]) - torch.tensor(MEAN)) / torch.tensor(STD)
    assert torch.allclose(pixels, expected[:, None, None].expand_as(pixels), atol=1e-6)


def test_one_channel_is_luma():
    image = np.full((20, 20, 3), (255, 0, 0), np.uint8)
    pixels, _ = preprocess_image(image, Preprocessing((8, 12), "squash", (0.0,), (1.0,), 4))
    assert pixels.shape == (1, 8, 12)
    assert pixels.mean().item() == pytest.approx(0.299, abs=0.01)


def test_crop_takes_the_center_at_the_models_aspect_ratio():
    image = np.zeros((100, 300, 3), np.uint8)
    image[:, 100:200] = 255
    assert (resize_image(image, (20, 20), "crop") == 255).all()
    assert preprocess_image(image, preprocessing((20, 20), "crop"))[1].box == (0, 100, 100, 200)
    assert preprocess_image(image, preprocessing((20, 40), "crop"))[1].box == (0, 50, 100, 250)
    assert preprocess_image(image.transpose(1, 0, 2), preprocessing((20, 20), "crop"))[1].box == (100, 0, 200, 100)


def test_squash_keeps_relative_positions():
    image = np.zeros((40, 120, 3), np.uint8)
    image[:20, 60:] = 255
    fitted = resize_image(image, (32, 32), "squash")
    assert (fitted[:14, 18:] > 240).all() and (fitted[18:] < 15).all() and (fitted[:, :14] < 15).all()


@pytest.mark.parametrize(
    ("original_size", "input_size"), [((480, 640), (192, 256)), ((720, 1280), (168, 296)), ((64, 64), (224, 224))]
)
def test_aspect_keeps_ratio_and_area(original_size, input_size):
    _, geometry = preprocess_image(noise(*original_size), preprocessing((224, 224), "aspect"))
    assert geometry.input_size == input_size


@given(height=st.integers(1, 3000), width=st.integers(1, 3000))
@settings(max_examples=40, deadline=None)
def test_aspect_never_needs_many_more_patches(height, width):
    _, geometry = preprocess_image(np.zeros((height, width, 3), np.uint8), preprocessing((64, 64), "aspect"))
    assert geometry.input_size[0] % 8 == 0 == geometry.input_size[1] % 8
    assert geometry.input_size[0] * geometry.input_size[1] <= 64 * 64 * 1.5
    if 0.5 < height / width < 2:
        assert 0.75 < geometry.input_size[0] / geometry.input_size[1] * width / height < 1.34


def test_shrinking_a_large_image_is_antialiased():
    stripes = np.zeros((720, 1280, 3), np.uint8)
    stripes[:, ::2] = 255
    fitted = resize_image(stripes, (32, 32), "squash").astype(int)
    assert np.abs(fitted - 127).max() <= 4


@given(height=sides, width=sides, grid=grids, mode=st.sampled_from(WITHOUT_PADDING), data=st.data())
@settings(max_examples=150, deadline=None)
def test_a_peak_stays_inside_its_cell(height, width, grid, mode, data):
    _, geometry = preprocess_image(np.zeros((height, width, 3), np.uint8), preprocessing((32, 48), mode))
    row, column = data.draw(st.integers(0, grid[0] - 1)), data.draw(st.integers(0, grid[1] - 1))
    heat = np.zeros(grid, np.float32)
    heat[row, column] = 1
    found = geometry.to_image(heat)
    assert found.shape == (height, width) and found.dtype == np.float32
    assert found.min() >= 0 and found.max() <= 1 + 1e-6
    peak = np.unravel_index(found.argmax(), found.shape)
    top, left, bottom, right = geometry.box
    for position, start, stop, cell, cells in [
        (peak[0], top, bottom, row, grid[0]),
        (peak[1], left, right, column, grid[1]),
    ]:
        low, high = (start + (stop - start) * edge / cells for edge in (cell, cell + 1))
        assert low - 1 < position < high, f"pixel {position} doesn't touch [{low}, {high})"
        if (stop - start) / cells >= 1:
            assert low - 1e-6 <= position + 0.5 <= high + 1e-6


@given(height=sides, width=sides, grid=grids, value=st.floats(0, 100, width=32))
@settings(max_examples=60, deadline=None)
def test_a_constant_map_stays_constant(height, width, grid, value):
    found = Geometry((height, width), (32, 32), (0, 0, height, width)).to_image(np.full(grid, value, np.float32))
    assert np.allclose(found, value, rtol=1e-5)


@given(height=st.integers(1, 24), width=st.integers(1, 24), times=st.integers(8, 12), seed=st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_range_and_mean_are_kept(height, width, times, seed):
    heat = np.random.default_rng(seed).random((height, width), dtype=np.float32)
    original_size = (height * times, width * (times + 3))
    found = Geometry(original_size, (32, 32), (0, 0, *original_size)).to_image(heat)
    assert found.mean() == pytest.approx(heat.mean(), rel=1e-3)
    assert heat.min() - 1e-6 <= found.min() and found.max() <= heat.max() + 1e-6


def test_shrinking_averages():
    heat = np.random.default_rng(0).random((60, 90)).astype(np.float32)
    found = Geometry((12, 9), (32, 32), (0, 0, 12, 9)).to_image(heat)
    assert found.mean() == pytest.approx(heat.mean(), rel=0.02)
    assert found.std() < 0.1 < heat.std()


@given(height=sides, width=sides, grid=grids, seed=st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_a_mirrored_map_is_a_mirrored_result(height, width, grid, seed):
    geometry = Geometry((height, width), (32, 32), (0, 0, height, width))
    heat = np.random.default_rng(seed).random(grid).astype(np.float32)
    assert np.allclose(geometry.to_image(heat[:, ::-1])[:, ::-1], geometry.to_image(heat), atol=1e-5)
    assert np.allclose(geometry.to_image(heat[::-1])[::-1], geometry.to_image(heat), atol=1e-5)


def test_a_map_equals_bilinear_interpolation_and_stays_in_its_box():
    heat = np.random.default_rng(0).random((5, 7)).astype(np.float32)
    found = Geometry((40, 90), (32, 32), (0, 10, 40, 80)).to_image(heat)
    wanted = torch.nn.functional.interpolate(torch.from_numpy(heat)[None, None], (40, 70), mode="bilinear")[0, 0]
    assert np.allclose(found[:, 10:80], wanted, atol=1e-5)
    assert (found[:, :10] == 0).all() and (found[:, 80:] == 0).all()


def test_a_bright_spot_is_the_peak_of_its_map():
    """Preprocessed, averaged over patches and upsampled to the image, a bright spot is where it was."""
    for mode in RESIZE_MODES:
        image = np.zeros((90, 160, 3), np.uint8)
        image[50:60, 100:110] = 255
        pixels, geometry = preprocess_image(image, Preprocessing((64, 64), mode, (0.0,), (1.0,), 8))
        heat = torch.nn.functional.avg_pool2d(pixels[None], 8)[0, 0].numpy()
        row, column = np.unravel_index(geometry.to_image(heat).argmax(), (90, 160))
        assert abs(row - 55) <= 8 and abs(column - 105) <= 12, mode


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"resize_mode": "stretch"}, "no resize mode 'stretch'"),
        (
            {"input_size": (0, 3)},
            r"input_size=\(0, 3\) is invalid: give a side or \(height, width\) in pixels, above 0",
        ),
        ({"input_size": "64"}, "input_size='64' is invalid"),
        ({"input_size": (True, 3)}, r"input_size=\(True, 3\) is invalid"),
        ({"input_size": 8.0}, "input_size=8.0 is invalid"),
        ({"patch_size": 0}, "patch_size=0 is invalid"),
        ({"patch_size": None}, "patch_size=None is invalid"),
        ({"mean": 0.5}, "mean 0.5 and std .* don't fit"),
        ({"mean": ("a", "b", "c")}, "don't fit"),
        ({"std": (1.0, float("nan"), 1.0)}, "don't fit"),
        ({"crop_pct": "all"}, "crop_pct='all' is invalid"),
        ({"crop_pct": True}, "crop_pct=True is invalid"),
        ({"crop_pct": 1e-9}, "crop_pct is 1e-09: it must be 0.01 to 1"),
        ({"mean": (0.5,)}, "don't fit"),
        ({"std": (1.0, 0.0, 1.0)}, "don't fit"),
    ],
)
def test_invalid_settings_are_an_error(changes, message):
    with pytest.raises(InputError, match=message):
        Preprocessing(
            **({"input_size": (8, 8), "resize_mode": "crop", "mean": MEAN, "std": STD, "patch_size": 4} | changes)
        )


def test_resizing_to_one_size_needs_a_mode_that_gives_one_size():
    with pytest.raises(InputError, match="aspect"):
        resize_image(noise(4, 4), (8, 8), "aspect")


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize("original_size", [(900, 1300), (4000, 90), (31, 47), (64, 96), (3, 200), (1, 1)])
def test_resizing_equals_pillows(interpolation, original_size):
    image = noise(*original_size)
    pixels, _ = preprocess_image(
        image, Preprocessing((64, 96), "squash", (0.0,) * 3, (1.0,) * 3, 8, interpolation=interpolation)
    )
    pillow_filter = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}[interpolation]
    expected = np.array(Image.fromarray(image).resize((96, 64), pillow_filter))
    differences = (pixels.permute(1, 2, 0).numpy() * 255).round() - expected
    # Only the order of rows and columns, with a rounding between them, may differ.
    assert np.abs(differences).max() <= 2
    assert np.abs(differences).mean() < 0.25
    assert abs(differences.mean()) < 0.01


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize(("mode", "crop_pct"), [("squash", 1.0), ("squash", 0.875), ("crop", 1.0), ("crop", 0.875)])
def test_datasets_are_resized_to_the_pixels_that_a_model_predicts_from(channels, interpolation, mode, crop_pct):
    random = np.random.default_rng(0)
    images_u8 = torch.from_numpy(random.integers(0, 256, (3, channels, 32, 28), dtype=np.uint8))
    settings = Preprocessing(
        (64, 48), mode, (0.0,) * channels, (1.0,) * channels, 8, crop_pct=crop_pct, interpolation=interpolation
    )
    resized = resize_images(images_u8, (64, 48), mode, crop_pct, interpolation)
    for image_u8, expected in zip(images_u8, resized, strict=True):
        pixels, _ = preprocess_image(image_u8.expand(3, -1, -1).permute(1, 2, 0).numpy(), settings)
        assert torch.equal((pixels * 255).round().to(torch.uint8), expected)


def test_images_of_the_size_wanted_keep_every_pixel():
    images_u8 = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (5, 3, 32, 32), dtype=np.uint8))
    assert torch.equal(resize_images(images_u8, (32, 32), "squash"), images_u8)
