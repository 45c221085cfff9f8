"""A clip's picture is steady: maps smoothed over time but not over cuts, one scale, and a figure that tells."""

import math

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image

from vitreous.errors import InputError
from vitreous.render.flicker import Flicker
from vitreous.render.scenes import SIDE, Change, SceneWatch
from vitreous.render.smooth import MOVING, MapSmoothing
from vitreous.render.steady import SteadyMap

MAPS = arrays(np.float32, array_shapes(min_dims=2, max_dims=2, max_side=9), elements=st.floats(-1e3, 1e3, width=32))
STILL = Change(cut=False, amount=0.0, stillness=np.ones((SIDE, SIDE), np.float32))
CUT = Change(cut=True, amount=0.9, stillness=np.zeros((SIDE, SIDE), np.float32))


@given(MAPS, st.one_of(st.just(0.0), st.floats(0.001, 5)), st.lists(st.floats(0, 1), max_size=8))
def test_a_constant_map_stays(heat, half_life, steps):
    smoothing = MapSmoothing(half_life)
    for step in [0.0, *steps]:
        assert np.allclose(smoothing.update(heat, step, STILL.stillness), heat, rtol=1e-5)


@given(st.integers(1, 240), st.floats(0.02, 2))
def test_what_is_left_of_a_step_depends_on_the_seconds_and_not_on_the_frames(frames, half_life):
    smoothing, seconds = MapSmoothing(half_life), 0.5
    smoothing.update(np.zeros((2, 3)), 0)
    for _ in range(frames):
        seen = smoothing.update(np.ones((2, 3)), seconds / frames)
    assert np.allclose(seen, 1 - 0.5 ** (seconds / half_life), atol=1e-4)


def test_where_the_picture_moves_the_map_follows_sooner():
    smoothing, stillness = MapSmoothing(0.1), np.ones((32, 32), np.float32)
    stillness[:, 16:] = 0
    smoothing.update(np.zeros((4, 8)), 0)
    seen = smoothing.update(np.ones((4, 8)), 0.05, stillness)
    assert np.allclose(seen[:, 0], 1 - 0.5**0.5) and np.allclose(seen[:, -1], 1 - 0.5 ** (0.5 / MOVING))


def test_a_reset_another_shape_and_no_half_life_begin_anew():
    smoothing, heat = MapSmoothing(1.0), np.eye(3, dtype=np.float32)
    smoothing.update(np.zeros((3, 3)), 0)
    assert np.array_equal(smoothing.update(np.ones((2, 5)), 0.1), np.ones((2, 5)))
    smoothing.reset()
    assert np.array_equal(smoothing.update(heat, 0.1), heat)
    none = MapSmoothing(0)
    none.update(np.zeros((3, 3)), 0)
    assert np.array_equal(none.update(heat, 0.1), heat)


@pytest.mark.parametrize("half_life", [-1, float("nan"), float("inf")])
def test_a_half_life_that_is_none_is_refused(half_life):
    with pytest.raises(InputError, match="half-life"):
        MapSmoothing(half_life)


@given(MAPS)
def test_inputs_are_left_as_they_were(heat):
    before, smoothing = heat.copy(), MapSmoothing()
    for _ in range(2):
        smoothing.update(heat, 0.1)
        smoothing.update(heat + 1, 0.1)
    assert np.array_equal(heat, before)


def test_a_still_clip_with_a_steady_map_does_not_flicker():
    flicker = Flicker()
    assert math.isnan(flicker.value)
    for _ in range(5):
        flicker.update(np.eye(7), STILL)
    assert flicker.value == 0


def test_the_flicker_is_the_mean_change_where_the_picture_is_still_and_counts_no_cut():
    flicker, half_still = Flicker(), np.zeros((SIDE, SIDE), np.float32)
    half_still[:, : SIDE // 2] = 1
    drawn = np.zeros((SIDE, SIDE), np.float32)
    flicker.update(drawn, CUT)
    flicker.update(drawn + 0.9, CUT)
    drawn[:, SIDE // 2 :] = 0.5
    flicker.update(drawn + 0.4 - drawn * 0.8, Change(cut=False, amount=0.1, stillness=half_still))
    assert flicker.value == pytest.approx(0.5)


def noise_clip(frames=48):
    rng, place = np.random.default_rng(0), np.mgrid[:12, :21]
    base = np.exp(-((place[0] - 5) ** 2 + (place[1] - 8) ** 2) / 8).astype(np.float32)
    return [base * rng.uniform(0.6, 1.4) + 0.1 * rng.random(base.shape).astype(np.float32) for _ in range(frames)]


@pytest.mark.parametrize("signed", [False, True])
def test_smoothing_and_one_scale_take_most_of_the_flicker_of_noise(signed):
    steady, maps = SteadyMap(signed=signed), noise_clip()
    for i in range(0, 48, 16):
        steady.update(maps[i : i + 16], np.arange(i, i + 16) / 30, [STILL] * 16)
    assert 0 < steady.flicker_after.value < 0.5 * steady.flicker_before.value


def test_a_cut_inside_a_batch_begins_the_map_and_its_scale_anew():
    steady, maps = SteadyMap(0.5), noise_clip(16)
    maps[9:] = [1000 + 10 * heat for heat in maps[9:]]
    drawn = steady.update(maps, np.arange(16) / 30, [STILL] * 9 + [CUT] + [STILL] * 6)
    assert len(drawn) == 16
    assert np.array_equal(drawn[9].heat, maps[9]) and np.array_equal(drawn[0].heat, maps[0])
    assert drawn[8].scale.high < 3 and drawn[9].scale.low > 990


def test_batches_of_any_size_smooth_alike():
    whole, parts, maps, times = SteadyMap(), SteadyMap(), noise_clip(12), np.arange(12) / 30
    together = whole.update(maps, times, [STILL] * 12)
    apart = [one for i in range(12) for one in parts.update(maps[i : i + 1], times[i : i + 1], [STILL])]
    assert all(np.array_equal(first.heat, second.heat) for first, second in zip(together, apart, strict=True))


def moving(image, frames=24, step=9):
    height, width = image.shape[0] // 2, image.shape[1] // 2
    return [image[i : i + height, step * i : step * i + width] for i in range(frames)]


def cuts(frames):
    watch = SceneWatch()
    return [i for i, frame in enumerate(frames) if watch.update(frame).cut]


@pytest.fixture(scope="module")
def pictures():
    """Three pictures of soft blobs of their own colours, 200 x 640."""
    rng = np.random.default_rng(0)
    small = [rng.integers(0, 256, (6, 16, 3), dtype=np.uint8) // 2 + tint for tint in ((0, 60, 120), (120, 0, 20), 60)]
    return [
        np.asarray(Image.fromarray(one.astype(np.uint8)).resize((640, 200), Image.Resampling.BICUBIC)) for one in small
    ]


def test_spliced_clips_are_cut_where_they_were_spliced_and_pans_are_not(pictures):
    assert cuts([frame for picture in pictures for frame in moving(picture)]) == [24, 48]


def test_flashes_fades_and_shaking_are_no_cuts(pictures):
    image, rng = pictures[0], np.random.default_rng(0)
    flash = [np.clip(image * (1.4 if i == 5 else 1.0), 0, 255).astype(np.uint8) for i in range(10)]
    fade = [(image * (1 - i / 12)).astype(np.uint8) for i in range(13)]
    shaking = [np.roll(image, tuple(rng.integers(-12, 13, 2)), (0, 1)) for _ in range(20)]
    assert cuts(flash) == cuts(fade) == cuts(shaking) == []


@pytest.mark.parametrize("size_hw", [(1, 1), (3, 500), (500, 3), (33, 31)])
def test_frames_of_any_size_and_even_ones_can_be_watched(size_hw):
    black, white = (np.full((*size_hw, 3), value, np.uint8) for value in (0, 255))
    watch = SceneWatch()
    first = watch.update(black)
    assert not first.cut and not first.stillness.any()
    assert watch.update(black).stillness.min() == 1
    assert 0 <= watch.update(white).amount <= 1


@pytest.mark.parametrize(("name", "expected"), [("bikes.mp4", [30, 76, 137, 187, 242]), ("people.mp4", [])])
def test_the_cuts_of_real_clips(shared, name, expected):
    with av.open(str(shared / "video" / name)) as clip:
        small = (frame.reformat(width=160, height=96, format="rgb24") for frame in clip.decode(video=0))
        assert cuts(frame.to_ndarray() for frame in small) == expected
