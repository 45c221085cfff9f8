"""The overlay shows the heatmap where it is, and changes nothing it was given."""

import colorsys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image, ImageFilter

from vitreous.errors import InputError
from vitreous.imaging.geometry import Geometry
from vitreous.render.color import Scale
from vitreous.render.overlay import DIMMING, blend_table, dimming_for, mean_brightness, overlay, overlay_levels
from vitreous.render.temporal.scenes import SceneChange
from vitreous.render.temporal.stabilize import DimmingStabilizer
from vitreous.render.upsample import upsample_to_image

SIZES = st.tuples(st.integers(1, 12), st.integers(1, 12))


@st.composite
def images_with_maps(draw):
    height, width = draw(SIZES)
    heatmap = draw(arrays(np.float32, (height, width), elements=st.floats(-10, 10, width=32)))
    return draw(arrays(np.uint8, (height, width, 3))), heatmap


@given(images_with_maps(), st.floats(0, 1))
def test_the_overlay_is_deterministic_and_leaves_its_inputs_unchanged(image_and_map, opacity):
    image, heatmap = image_and_map
    image_before, heat_before = image.copy(), heatmap.copy()
    drawn = overlay(image, heatmap, opacity=opacity)
    assert drawn.dtype == np.uint8 and drawn.shape == image.shape and not np.shares_memory(drawn, image)
    assert np.array_equal(drawn, overlay(image, heatmap, opacity=opacity))
    assert np.array_equal(image, image_before) and np.array_equal(heatmap, heat_before)


@given(images_with_maps())
def test_zero_opacity_returns_the_image(image_and_map):
    assert np.array_equal(overlay(*image_and_map, opacity=0.0), image_and_map[0])


@pytest.mark.parametrize("opacity", [0, 0.25, 0.5, 1])
def test_fixed_point_fractions_never_exceed_sixteen_bits(opacity):
    own, gray, added = blend_table(float(opacity)).astype(int).swapaxes(0, 1)
    assert (own >= 0).all() and (255 * (own + gray) + added + 128 < 2**16).all()


@pytest.mark.parametrize("size_hw", [(1, 1), (1, 3000), (3000, 1), (33, 77)])
def test_any_size_and_a_constant_map(size_hw):
    image = np.full((*size_hw, 3), 200, np.uint8)
    drawn = overlay(image, np.full(size_hw, 0.3, np.float32))
    assert drawn.shape == image.shape and (drawn == drawn[0, 0]).all() and drawn.max() < 120


@pytest.mark.parametrize("color", [(30, 30, 40), (128, 90, 60), (90, 120, 160), (240, 235, 225)])
def test_the_peak_is_brighter_and_more_saturated_than_the_rest(color):
    y, x = np.mgrid[:90, :160]
    heatmap = np.exp(-((y - 20) ** 2 + (x - 130) ** 2) / 200).astype(np.float32)
    drawn = overlay(np.full((90, 160, 3), color, np.uint8), heatmap)
    luma = drawn @ np.array([0.3, 0.59, 0.11])
    saturation = np.array([colorsys.rgb_to_hsv(*(drawn[place] / 255))[1] for place in [(20, 130), (80, 10)]])
    brightest = np.unravel_index(luma.argmax(), luma.shape)
    assert abs(brightest[0] - 20) <= 8 and abs(brightest[1] - 130) <= 8
    assert luma[20, 130] > 2 * luma[80, 10] and saturation[0] > saturation[1]


BRIGHT = (30, 90, 120, 200)


def test_a_given_scale_is_used_and_a_slice_or_flipped_image_works():
    image = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    heatmap = np.tile(np.linspace(0, 1, 60, dtype=np.float32), (40, 1))
    low = overlay(image, heatmap, Scale(10, 20))
    assert np.array_equal(low, overlay(image, np.zeros_like(heatmap), Scale(10, 20)))
    assert np.array_equal(overlay(image[:, ::-1], heatmap[:, ::-1]), overlay(image, heatmap)[:, ::-1])


@pytest.mark.parametrize(
    ("image", "heatmap", "words"),
    [
        (np.zeros((4, 6, 3), np.uint8), np.zeros((6, 4)), "6x4 does not fit an image of 4x6"),
        (np.zeros((4, 6), np.uint8), np.zeros((4, 6)), "uint8"),
        (np.zeros((4, 6, 3), np.float32), np.zeros((4, 6)), "float32"),
        (np.zeros((4, 6, 3), np.uint8), np.full((4, 6), np.nan), "24 values that are not finite"),
    ],
)
def test_mismatched_inputs_are_refused_in_one_line(image, heatmap, words):
    with pytest.raises(InputError, match=words) as caught:
        overlay(image, heatmap)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("opacity", [-0.1, 1.5, float("nan")])
def test_an_opacity_out_of_range_is_refused(opacity):
    with pytest.raises(InputError, match="opacity"):
        overlay(np.zeros((2, 2, 3), np.uint8), np.eye(2), opacity=opacity)


@pytest.mark.parametrize("size_hw", [(1, 1), (2, 3), (33, 77), (211, 340), (480, 300)])
@pytest.mark.parametrize("step", [1, 2])
@pytest.mark.parametrize("signed", [False, True])
def test_one_level_per_square_equals_repeated_levels(size_hw, step, signed):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (*size_hw, 3), dtype=np.uint8)
    levels = rng.integers(0, 256, (-(-size_hw[0] // step), -(-size_hw[1] // step)), dtype=np.uint8)
    repeated = levels.repeat(step, axis=0)[: size_hw[0]].repeat(step, axis=1)[:, : size_hw[1]]
    assert np.array_equal(overlay_levels(image, levels, signed=signed), overlay_levels(image, repeated, signed=signed))


@pytest.mark.parametrize("signed", [False, True])
def test_the_fast_path_from_a_grid_equals_the_reference(signed):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (720, 1280, 3), dtype=np.uint8)
    grid = rng.normal(size=(12, 21)).astype(np.float32)
    box = (40.0, 100.0, 680.0, 1200.0)
    heatmap, scale = Geometry((720, 1280), (224, 224), box).to_image(grid), Scale.for_map(grid, signed=signed)
    levels = upsample_to_image(grid, scale, (720, 1280), box, step=2)
    fast = overlay_levels(image, levels, dimming=dimming_for(mean_brightness(image)), signed=signed)
    apart = np.abs(fast.astype(int) - overlay(image, heatmap, scale, signed=signed))
    assert apart.mean() < 1 and np.percentile(apart, 99.9) <= 8


def test_on_a_real_frame_the_object_is_brighter_than_its_surroundings(shared):
    with Image.open(shared / "davis" / "dog" / "frames" / "00010.jpg") as frame:
        image = np.asarray(frame.convert("RGB"))
    with Image.open(sorted((shared / "davis" / "dog" / "masks").iterdir())[10]) as stored:
        mask = stored.convert("L").point(lambda value: 255 if value else 0)
    heatmap = np.asarray(mask.filter(ImageFilter.GaussianBlur(15)), np.float32)
    kept = overlay(image, heatmap).mean(axis=2) / np.maximum(image.mean(axis=2), 1)
    inside = np.asarray(mask) > 0
    assert kept[inside].mean() > 2 * kept[~inside].mean()


def test_a_dark_image_is_dimmed_less_and_a_bright_one_as_usual():
    kept = {
        value: overlay(np.full((40, 60, 3), value, np.uint8), np.zeros((40, 60))).mean() / value for value in BRIGHT
    }
    assert kept[30] == pytest.approx(0.7, abs=0.02) and kept[200] == pytest.approx(1 - DIMMING, abs=0.02)
    assert kept[30] > kept[90] > kept[120] > kept[200]
    assert dimming_for(0.0) == dimming_for(0.1) < dimming_for(0.4) < dimming_for(0.9) == DIMMING
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (501, 777, 3), dtype=np.uint8)
    assert mean_brightness(image) == pytest.approx(image.mean() / 255, abs=0.01)


def test_dimming_changes_slowly_and_resets_at_a_cut():
    dark, bright = np.full((9, 9, 3), 40, np.uint8), np.full((9, 9, 3), 220, np.uint8)
    still, cut = (SceneChange(cut=cut, amount=0.0, stillness=np.ones((32, 32), np.float32)) for cut in (False, True))
    found = DimmingStabilizer().update([dark] + [bright] * 200, [still] * 201)
    assert found[0] == dimming_for(40 / 255) and found[-1] == DIMMING
    assert max(np.abs(np.diff(found))) < 0.05
    assert DimmingStabilizer().update([dark, bright], [still, cut]) == [found[0], DIMMING]
