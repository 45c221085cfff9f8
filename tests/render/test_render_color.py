"""Scales keep order and stay in [0, 1]; the steady one moves slowly; colors are those of the table."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image

from vitreous.errors import InputError
from vitreous.render.color import COLORMAPS, Scale, StabilizedScale, color_table, resize_coarse_map

MAPS = arrays(np.float32, array_shapes(min_dims=2, max_dims=2, max_side=9), elements=st.floats(-1e6, 1e6, width=32))


@given(MAPS)
def test_a_scaled_map_is_in_the_unit_interval_and_keeps_its_order(heatmap):
    before = heatmap.copy()
    scaled = Scale.robust(heatmap).apply(heatmap)
    assert scaled.dtype == np.float32 and scaled.shape == heatmap.shape
    assert scaled.min() >= 0 and scaled.max() <= 1
    assert (np.diff(scaled.ravel()[np.argsort(heatmap, axis=None)]) >= 0).all()
    assert np.array_equal(heatmap, before)


@given(st.floats(-1e6, 1e6, width=32))
def test_a_constant_map_becomes_zeros(value):
    heatmap = np.full((3, 5), value, np.float32)
    assert not Scale.robust(heatmap).apply(heatmap).any()


def test_float_noise_on_a_constant_map_is_not_amplified():
    heatmap = np.float32(0.1) + np.linspace(0, 1e-8, 20).reshape(4, 5).astype(np.float32)
    assert not Scale.robust(heatmap).apply(heatmap).any()


def test_a_single_spike_on_a_flat_map_stays_visible():
    heatmap = np.zeros((40, 40), np.float32)
    heatmap[7, 3] = 2
    scaled = Scale.robust(heatmap).apply(heatmap)
    assert scaled[7, 3] == 1 and scaled.sum() == 1


def test_one_outlier_does_not_set_the_scale():
    heatmap = np.tile(np.linspace(0, 1, 100, dtype=np.float32), (100, 1))
    heatmap[0, 0] = 1000
    assert Scale.robust(heatmap).high <= 1


def test_sampled_percentiles_of_a_large_map_are_close_to_the_exact_ones():
    heatmap = np.random.default_rng(0).gamma(2, size=(720, 1280)).astype(np.float32)
    scale = Scale.robust(heatmap)
    assert np.allclose([scale.low, scale.high], np.percentile(heatmap, [1, 99.5]), rtol=0.05)


@pytest.mark.parametrize("ends", [(1.0, 0.0), (float("nan"), 1.0), (0.0, float("inf"))])
def test_a_scale_without_two_ordered_ends_is_refused(ends):
    with pytest.raises(InputError, match="scale"):
        Scale(*ends)


@pytest.mark.parametrize(
    "bad", [np.zeros((2, 2, 2)), np.zeros((0, 3)), np.full((2, 3), np.nan), np.full((1, 1), np.inf)]
)
def test_a_map_that_is_not_finite_or_two_dimensional_is_refused(bad):
    with pytest.raises(InputError, match="map"):
        Scale.robust(bad)


RAMP = np.linspace(0, 1, 6400, dtype=np.float32).reshape(64, 100)


@given(st.lists(MAPS, min_size=2, max_size=6), st.floats(0.1, 10), st.floats(0, 1))
def test_the_stabilized_scale_never_moves_further_than_its_fraction_allows(maps, half_life, step):
    steady = StabilizedScale(half_life)
    old = steady.update(maps[0])
    assert old == Scale.robust(resize_coarse_map(maps[0]))
    for heatmap in maps[1:]:
        new, aim = steady.update(heatmap, step), Scale.robust(resize_coarse_map(heatmap))
        share = max(1 - 0.5 ** (step / half_life), 0.5)
        ratio = (aim.high - aim.low) / (old.high - old.low) if not old.is_flat else 1
        overlap = min(aim.high, old.high) - max(aim.low, old.low)
        if not old.is_flat:
            span = old.high - old.low
            is_visible = 2 / 3 <= ratio <= 1.5 and overlap >= 0.99 * min(span, aim.high - aim.low)
            catch_up = 0 if is_visible else 1 - 0.5 ** (step / min(0.25, half_life))
            for end in ("low", "high"):
                moved = abs(getattr(new, end) - getattr(old, end))
                wanted = abs(getattr(aim, end) - getattr(old, end))
                assert moved <= wanted * (1 + 1e-6) + 1e-9
                assert moved <= (catch_up + share * (1 + 2 * catch_up)) * span * (1 + 1e-6) + 1e-9
        old = new


def test_the_scale_of_a_window_covers_all_its_maps_and_ignores_outliers():
    maps = [RAMP] * 15 + [RAMP + 5]
    scale = StabilizedScale().begin(maps)
    assert scale == Scale.robust(np.concatenate(maps))
    assert StabilizedScale().begin([RAMP] * 500 + [1000 * RAMP]).high < 1.01


@pytest.mark.parametrize("fps", [10, 24, 60])
def test_after_its_half_life_the_scale_is_halfway_at_any_frame_rate(fps):
    steady = StabilizedScale(2.0)
    before = steady.begin([RAMP] * 1000)  # a window so long that the running mean plays no part any more
    for _ in range(2 * fps):
        after = steady.update(1.5 * RAMP, 1 / fps)
    assert after.high - before.high == pytest.approx(0.25 * before.high, rel=0.02)


def drawn_range(scale: Scale, heatmap: np.ndarray) -> float:
    drawn = scale.apply(heatmap)
    return float(drawn.max() - drawn.min())


@pytest.mark.parametrize("fps", [10, 25, 60])
def test_maps_that_would_drown_after_a_bright_scene_are_seen_within_two_seconds(fps):
    steady = StabilizedScale()
    steady.begin([100 * RAMP] * 16)
    ranges = [drawn_range(steady.update(RAMP, 1 / fps), RAMP) for _ in range(4 * fps)]
    assert ranges[0] < 0.02 and min(ranges[2 * fps :]) > 0.5
    assert max(np.diff(ranges)) < 0.12 and ranges == sorted(ranges)  # without a jump


def test_maps_that_would_saturate_do_so_for_no_more_than_two_seconds():
    steady = StabilizedScale()
    steady.begin([RAMP] * 16)
    clipped = [float((steady.update(100 * RAMP).apply(100 * RAMP) >= 1).mean()) for _ in range(100)]
    assert clipped[0] > 0.95 and max(clipped[50:]) < 0.4
    signed = StabilizedScale(signed=True)
    signed.begin([100 * (RAMP - 0.5)] * 16)
    for _ in range(50):
        scale = signed.update(RAMP - 0.5)
    assert scale.low == -scale.high and drawn_range(scale, RAMP - 0.5) > 0.6


def test_maps_within_two_thirds_of_each_other_keep_their_brightness_relative_to_each_other():
    steady = StabilizedScale()
    before = steady.begin([RAMP] * 1000)
    for heatmap in [0.75 * RAMP, RAMP, 1.25 * RAMP, RAMP] * 3:
        after = steady.update(heatmap)
    assert after.high == pytest.approx(before.high, rel=0.05)


def test_begin_forgets_the_previous_scene():
    steady = StabilizedScale()
    steady.begin([100 * RAMP])
    assert steady.begin([RAMP]) == Scale.robust(RAMP)


def test_the_stabilized_scale_converges_and_ignores_a_blank_frame():
    steady = StabilizedScale(0.5)
    steady.update(RAMP)
    for _ in range(300):
        reached = steady.update(3 * RAMP + 1)
    assert np.allclose([reached.low, reached.high], [1.03, 3.985], atol=0.02)
    assert steady.update(np.zeros_like(RAMP)) == reached


def test_a_blank_first_frame_does_not_hold_the_scale_back():
    steady = StabilizedScale()
    steady.update(np.zeros((10, 10), np.float32))
    assert steady.update(RAMP) == Scale.robust(RAMP)


def test_a_coarse_map_is_scaled_as_it_looks_upsampled():
    grid = np.random.default_rng(0).random((12, 21)).astype(np.float32)
    large = np.asarray(Image.fromarray(grid).resize((1260, 720), Image.Resampling.BILINEAR))
    scale = StabilizedScale().begin([grid])
    assert np.allclose([scale.low, scale.high], np.percentile(large, [1, 99.5]), atol=0.01)


@pytest.mark.parametrize("half_life", [0, -1, float("inf"), float("nan")])
def test_an_invalid_half_life_is_refused(half_life):
    with pytest.raises(InputError, match="half-life"):
        StabilizedScale(half_life)


@pytest.mark.parametrize("colormap", COLORMAPS)
def test_colors_are_those_of_matplotlib(colormap):
    from matplotlib import colormaps

    table = color_table(colormap)
    assert table.dtype == np.uint8 and table.shape == (256, 3)
    assert np.abs(table - 255 * colormaps[colormap](np.arange(256))[:, :3]).max() <= 0.5
    with pytest.raises(ValueError, match="read-only"):
        table[0] = 0


def test_an_unknown_colormap_names_the_nearest():
    with pytest.raises(InputError, match="did you mean 'inferno'"):
        color_table("infrno")
