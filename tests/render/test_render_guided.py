"""A map brought to an image's edges keeps its range and its mean, and does follow them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from vitreous.errors import InputError
from vitreous.render.guided import RESULT_SIDE, guided_filter


@st.composite
def images_with_maps(draw):
    size_hw = draw(st.tuples(st.integers(1, 60), st.integers(1, 60)))
    grid_hw = draw(st.tuples(st.integers(1, 9), st.integers(1, 9)))
    image = np.random.default_rng(draw(st.integers(0, 99))).integers(0, 256, (*size_hw, 3), dtype=np.uint8)
    return draw(arrays(np.float32, grid_hw, elements=st.floats(-100, 100, width=32))), image


@settings(deadline=None, max_examples=60)
@given(images_with_maps())
def test_range_and_mean_are_kept_and_inputs_unchanged(pair):
    heatmap, image = pair
    before = heatmap.copy(), image.copy()
    result = guided_filter(heatmap, image)
    room = 1e-4 * max(1.0, float(np.abs(heatmap).max()))
    assert result.dtype == np.float32 and np.isfinite(result).all()
    assert heatmap.min() - room <= result.min() and result.max() <= heatmap.max() + room
    assert result.mean() == pytest.approx(heatmap.mean(dtype=np.float64), abs=10 * room)
    assert np.array_equal(heatmap, before[0]) and np.array_equal(image, before[1])


@pytest.mark.parametrize("value", [0.0, 3.5, -2.0])
def test_a_constant_map_stays_constant(value):
    image = np.random.default_rng(0).integers(0, 256, (90, 160, 3), dtype=np.uint8)
    assert np.allclose(guided_filter(np.full((5, 9), value), image), value, atol=1e-5)


def test_a_non_negative_map_stays_non_negative():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (90, 160, 3), dtype=np.uint8)
    assert guided_filter(rng.random((9, 16)) ** 4, image).min() >= 0


def test_the_map_follows_the_edges_of_the_image():
    image = np.full((180, 320, 3), (40, 90, 40), np.uint8)
    image[50:130, 103:217] = (200, 180, 150)
    inside = image[..., 0] == 200
    cells = inside.reshape(9, 20, 20, 16).mean(axis=(1, 3)).astype(np.float32)
    plain = np.asarray(Image.fromarray(cells).resize((320, 180), Image.Resampling.BILINEAR))
    result = guided_filter(cells, image)
    assert plain[90, 103] - plain[90, 102] < 0.1 and result[90, 103] - result[90, 102] > 0.5
    assert plain[50, 160] - plain[49, 160] < 0.1 and result[50, 160] - result[49, 160] > 0.5
    assert np.abs(result - inside).mean() < np.abs(plain - inside).mean()


def test_only_the_box_of_the_map_is_used_and_the_result_is_bounded():
    image = np.random.default_rng(0).integers(0, 256, (720, 1280, 3), dtype=np.uint8)
    heatmap = np.eye(12, dtype=np.float32)
    assert max(guided_filter(heatmap, image).shape) <= RESULT_SIDE
    boxed, cut = guided_filter(heatmap, image, (0, 280, 720, 1000)), guided_filter(heatmap, image[:, 280:1000])
    assert np.array_equal(boxed, cut)


def test_a_map_that_is_not_finite_is_refused():
    with pytest.raises(InputError, match="not finite"):
        guided_filter(np.full((3, 3), np.nan), np.zeros((9, 9, 3), np.uint8))
