"""A clip's image is stabilizer: maps smoothed over time but not over cuts, one scale, and a figure that tells."""

import math

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image

from vitreous.errors import InputError
from vitreous.render.temporal.flicker import Flicker, FlickerSummary
from vitreous.render.temporal.scenes import SIDE, SceneChange, SceneDetector
from vitreous.render.temporal.smooth import RESPONSIVE_CHANGE, MapSmoother, suppress_flicker
from vitreous.render.temporal.stabilize import WINDOW_FRAMES, ColorStabilizer, MapStabilizer

MAPS = arrays(np.float32, array_shapes(min_dims=2, max_dims=2, max_side=9), elements=st.floats(-1e3, 1e3, width=32))
STILL = SceneChange(cut=False, amount=0.0, stillness=np.ones((SIDE, SIDE), np.float32))
CUT = SceneChange(cut=True, amount=0.9, stillness=np.zeros((SIDE, SIDE), np.float32))


@given(MAPS, st.one_of(st.just(0.0), st.floats(0.001, 5)), st.lists(st.floats(0, 1), max_size=8))
def test_a_constant_map_stays_unchanged(heatmap, half_life, steps):
    smoothing = MapSmoother(half_life)
    for step in [0.0, *steps]:
        assert np.allclose(smoothing.update(heatmap, step, STILL.stillness), heatmap, rtol=1e-5)


@given(st.integers(1, 240), st.floats(0.02, 2))
def test_smoothing_depends_on_seconds_and_not_on_frames(frames, half_life):
    smoothing, seconds = MapSmoother(half_life), 0.5
    smoothing.update(np.zeros((2, 3)), 0)
    for _ in range(frames):
        seen = smoothing.update(np.ones((2, 3)), seconds / frames)
    assert np.allclose(seen, 1 - 0.5 ** (seconds / half_life), atol=1e-4)


def test_large_changes_are_followed_only_where_the_image_moves():
    smoothing, stillness = MapSmoother(0.1), np.ones((32, 32), np.float32)
    stillness[:, 20:] = 0
    smoothing.update(np.zeros((4, 8)), 0)
    seen = smoothing.update(np.full((4, 8), 3 * RESPONSIVE_CHANGE), 0.05, stillness, 1.0)
    assert np.allclose(seen[:, 0], 3 * RESPONSIVE_CHANGE * (1 - 0.5**0.5))
    assert np.allclose(seen[:, -1], 3 * RESPONSIVE_CHANGE * (1 - 0.5 ** (0.5 * (1 + 3**2))), rtol=1e-5)


def test_colors_are_smoothed_as_maps_are():
    plain, colored, rng = MapSmoother(), MapSmoother(), np.random.default_rng(0)
    for _ in range(3):
        heatmap, stillness = rng.random((4, 7), np.float32), rng.random((32, 32), np.float32)
        expected = plain.update(heatmap, 0.04, stillness, 1.0)
        assert np.array_equal(colored.update(np.stack([heatmap] * 3, 2), 0.04, stillness, 1.0)[..., 1], expected)


@pytest.mark.parametrize("span", [0.0, 1e-44, 1e-30, 1e30, math.inf])
def test_any_scale_and_any_change_give_finite_values(span):
    smoothing, stillness = MapSmoother(), np.zeros((32, 32), np.float32)
    for heatmap in (np.zeros((3, 5)), np.full((3, 5), 3e30), np.full((3, 5), -3e30)):
        for moves in (stillness, stillness + 1, None):
            assert np.isfinite(smoothing.update(heatmap, 0.0, moves, span)).all()
            assert np.isfinite(smoothing.update(heatmap, 0.04, moves, span)).all()


def passing(frames=40, per_frame=0.7):
    """Maps and changes of a spot that crosses a still image from left to right, on noise of 2 % of its height."""
    rng, columns, maps, changes = np.random.default_rng(0), np.arange(21), [], []
    for i in range(frames):
        spot = np.exp(-(((columns - per_frame * i) / 1.2) ** 2))
        maps.append((np.tile(spot, (12, 1)) + 0.02 * rng.standard_normal((12, 21))).astype(np.float32))
        place = (np.arange(SIDE) + 0.5) * 21 / SIDE - 0.5
        stillness = (np.abs(place - per_frame * i) > 2.5).astype(np.float32)
        changes.append(SceneChange(cut=False, amount=0.1, stillness=np.tile(stillness, (SIDE, 1))))
    return maps, changes


def test_the_map_of_a_moving_object_leaves_no_trail_and_does_not_flicker():
    maps, changes = passing()
    stabilizer = MapStabilizer()
    drawn = np.stack([one.heatmap for one in stabilizer.update(maps, np.arange(len(maps)) / 30, changes)])
    behind = np.stack([np.arange(21) < 0.7 * i - 3 for i in range(len(maps))])
    left = np.where(behind, drawn.mean(1) - np.stack(maps).mean(1), 0)[10:30].max()
    assert left < 0.15  # by the image's motion alone, half-lives shortened to a fifth, it was 0.24
    assert stabilizer.flicker_after.value < 0.5 * stabilizer.flicker_before.value


def test_a_speck_on_a_still_image_is_filtered():
    stabilizer, maps = MapStabilizer(), [np.eye(12, 21, dtype=np.float32) for _ in range(20)]
    maps[12][3, 15] = 1
    drawn = [one.heatmap[3, 15] for one in stabilizer.update(maps, np.arange(20) / 30, [STILL] * 20)]
    assert max(drawn) < 0.15


def test_reset_new_shape_and_zero_half_life_start_over():
    smoothing, heatmap = MapSmoother(1.0), np.eye(3, dtype=np.float32)
    smoothing.update(np.zeros((3, 3)), 0)
    assert np.array_equal(smoothing.update(np.ones((2, 5)), 0.1), np.ones((2, 5)))
    smoothing.reset()
    assert np.array_equal(smoothing.update(heatmap, 0.1), heatmap)
    none = MapSmoother(0)
    none.update(np.zeros((3, 3)), 0)
    assert np.array_equal(none.update(heatmap, 0.1), heatmap)


@pytest.mark.parametrize("half_life", [-1, float("nan"), float("inf")])
def test_an_invalid_half_life_is_refused(half_life):
    with pytest.raises(InputError, match="half-life"):
        MapSmoother(half_life)


@given(MAPS)
def test_inputs_are_unchanged(heatmap):
    before, smoothing = heatmap.copy(), MapSmoother()
    for _ in range(2):
        smoothing.update(heatmap, 0.1)
        smoothing.update(heatmap + 1, 0.1)
    assert np.array_equal(heatmap, before)


def test_a_still_video_with_a_constant_map_does_not_flicker():
    flicker = Flicker()
    assert math.isnan(flicker.value)
    for _ in range(5):
        flicker.update(np.eye(7), STILL)
    assert flicker.value == 0


def test_flicker_is_the_mean_change_on_still_parts_without_cuts():
    flicker, half_still = Flicker(), np.zeros((SIDE, SIDE), np.float32)
    half_still[:, : SIDE // 2] = 1
    drawn = np.zeros((SIDE, SIDE), np.float32)
    flicker.update(drawn, CUT)
    flicker.update(drawn + 0.9, CUT)
    drawn[:, SIDE // 2 :] = 0.5
    flicker.update(drawn + 0.4 - drawn * 0.8, SceneChange(cut=False, amount=0.1, stillness=half_still))
    assert flicker.value == pytest.approx(0.5)


def noise_clip(frames=48):
    rng, place = np.random.default_rng(0), np.mgrid[:12, :21]
    base = np.exp(-((place[0] - 5) ** 2 + (place[1] - 8) ** 2) / 8).astype(np.float32)
    return [base * rng.uniform(0.6, 1.4) + 0.1 * rng.random(base.shape).astype(np.float32) for _ in range(frames)]


@pytest.mark.parametrize("signed", [False, True])
def test_stabilizing_removes_most_of_the_flicker_of_noise(signed):
    stabilizer, maps = MapStabilizer(signed=signed), noise_clip()
    for i in range(0, 48, 16):
        stabilizer.update(maps[i : i + 16], np.arange(i, i + 16) / 30, [STILL] * 16)
    assert 0 < stabilizer.flicker_after.value < 0.5 * stabilizer.flicker_before.value


def test_a_cut_inside_a_batch_resets_map_and_scale():
    stabilizer, maps = MapStabilizer(0.5), noise_clip(16)
    maps[9:] = [1000 + 10 * heatmap for heatmap in maps[9:]]
    drawn = stabilizer.update(maps, np.arange(16) / 30, [STILL] * 9 + [CUT] + [STILL] * 6)
    assert len(drawn) == 16
    assert np.array_equal(drawn[9].heatmap, maps[9]) and np.array_equal(drawn[0].heatmap, maps[0])
    assert drawn[8].scale.high < 3 and drawn[9].scale.low > 990


def test_colors_are_stable_on_a_still_image_and_reset_at_a_cut():
    rng, stabilizer = np.random.default_rng(0), ColorStabilizer()
    raw = [0.5 + 0.1 * rng.standard_normal((4, 7, 3)).astype(np.float32) for _ in range(31)]
    drawn_map = [stabilizer.update(one, i / 30, STILL) for i, one in enumerate(raw[:30])]
    jumps = [np.abs(np.diff(some, axis=0)).mean() for some in (raw[:30], drawn_map)]
    assert jumps[1] < 0.25 * jumps[0]
    assert np.array_equal(stabilizer.update(raw[30], 1.0, CUT), raw[30])


def test_the_result_does_not_depend_on_the_number_of_windows_per_call():
    maps, times, changes = noise_clip(70), np.arange(70) / 30, [STILL] * 31 + [CUT] + [STILL] * 38
    drawn = []
    for size in (WINDOW_FRAMES, 2 * WINDOW_FRAMES, 80):
        stabilizer = MapStabilizer()
        parts = [slice(i, i + size) for i in range(0, 70, size)]
        drawn.append([one for part in parts for one in stabilizer.update(maps[part], times[part], changes[part])])
    for other in drawn[1:]:
        assert all(
            np.array_equal(a.heatmap, b.heatmap) and a.scale == b.scale for a, b in zip(drawn[0], other, strict=True)
        )


def test_after_a_cut_on_the_last_frame_of_a_window_the_next_one_sets_the_scale():
    maps, changes = noise_clip(32), [STILL] * 15 + [CUT] + [STILL] * 16
    maps[15] = 0.1 * maps[15]
    drawn = MapStabilizer().update(maps, np.arange(32) / 30, changes)
    fresh = MapStabilizer().update(maps[16:], np.arange(16) / 30, [STILL] * 16)
    assert drawn[15].scale.high < 0.3
    assert drawn[16].scale.high == pytest.approx(fresh[0].scale.high, rel=0.25)


def test_a_one_frame_flash_is_removed_even_where_the_image_moves():
    moves, base = SceneChange(cut=False, amount=0.1, stillness=np.zeros((SIDE, SIDE), np.float32)), np.eye(12, 21)
    maps = [base.astype(np.float32) for _ in range(16)]
    maps[7] = maps[7] + 0.8
    for per_second, left in ((30, 0.0), (5, 0.5)):  # of five frames a second one is no flash
        drawn = MapStabilizer().update(maps, np.arange(16) / per_second, [moves] * 16)
        assert (drawn[7].heatmap - base).max() >= left and (left > 0 or np.allclose(drawn[7].heatmap, base))
    as_they_are = MapStabilizer(0).update(maps, np.arange(16) / 30, [moves] * 16)
    assert all(np.array_equal(one.heatmap, heatmap) for one, heatmap in zip(as_they_are, maps, strict=True))


@given(st.lists(arrays(np.float32, (2, 3), elements=st.floats(-9, 9, width=32)), min_size=1, max_size=6))
def test_suppress_flicker_takes_the_median_of_three_maps(maps):
    timed = [(i / 30, heatmap) for i, heatmap in enumerate(maps)]
    evened = suppress_flicker(timed, 0.2)
    for i, one in enumerate(evened):
        inside = 0 < i < len(maps) - 1
        assert np.array_equal(one, np.median(maps[i - 1 : i + 2], axis=0) if inside else maps[i])


def test_flicker_before_and_after_is_measured_on_one_scale():
    stabilizer, maps = MapStabilizer(0), noise_clip()
    stabilizer.update(maps, np.arange(48) / 30, [STILL] * 48)
    assert stabilizer.flicker_before.value == stabilizer.flicker_after.value  # the scale alone is no gain
    flicker, moves = Flicker(), SceneChange(cut=False, amount=0.1, stillness=np.zeros((SIDE, SIDE), np.float32))
    for value in (0.0, 0.3, 0.0):
        flicker.update(np.full((7, 9), value), moves)
    assert math.isnan(flicker.value) and flicker.everywhere == pytest.approx(0.3)
    flicker.update(np.ones((7, 9)), CUT)
    assert flicker.everywhere == pytest.approx(0.3)
    found = FlickerSummary.of([(stabilizer.flicker_before, stabilizer.flicker_after)] * 2)
    assert (
        found.still == pytest.approx((stabilizer.flicker_before.value,) * 2)
        and "where the image is still" in found.describe()
    )
    assert FlickerSummary.of([(Flicker(), Flicker())]).describe() == ""


def moving(image, frames=24, step=9):
    height, width = image.shape[0] // 2, image.shape[1] // 2
    return [image[i : i + height, step * i : step * i + width] for i in range(frames)]


def cuts(frames):
    detector = SceneDetector()
    return [i for i, frame in enumerate(frames) if detector.update(frame).cut]


@pytest.fixture(scope="module")
def images():
    """Three images of soft blobs of their own colors, 200 x 640."""
    rng = np.random.default_rng(0)
    small = [rng.integers(0, 256, (6, 16, 3), dtype=np.uint8) // 2 + tint for tint in ((0, 60, 120), (120, 0, 20), 60)]
    return [
        np.asarray(Image.fromarray(one.astype(np.uint8)).resize((640, 200), Image.Resampling.BICUBIC)) for one in small
    ]


def test_cuts_are_found_at_splices_and_not_in_pans(images):
    assert cuts([frame for image in images for frame in moving(image)]) == [24, 48]


def test_flashes_fades_and_shaking_are_no_cuts(images):
    image, rng = images[0], np.random.default_rng(0)
    flash = [np.clip(image * (1.4 if i == 5 else 1.0), 0, 255).astype(np.uint8) for i in range(10)]
    fade = [(image * (1 - i / 12)).astype(np.uint8) for i in range(13)]
    shaking = [np.roll(image, tuple(rng.integers(-12, 13, 2)), (0, 1)) for _ in range(20)]
    assert cuts(flash) == cuts(fade) == cuts(shaking) == []


@pytest.mark.parametrize("size_hw", [(1, 1), (3, 500), (500, 3), (33, 31)])
def test_frames_of_any_size_and_uniform_ones_are_accepted(size_hw):
    black, white = (np.full((*size_hw, 3), value, np.uint8) for value in (0, 255))
    detector = SceneDetector()
    first = detector.update(black)
    assert not first.cut and not first.stillness.any()
    assert detector.update(black).stillness.min() == 1
    assert 0 <= detector.update(white).amount <= 1


@pytest.mark.parametrize(("name", "expected"), [("bikes.mp4", [30, 76, 137, 187, 242]), ("people.mp4", [])])
def test_the_cuts_of_real_videos(shared, name, expected):
    with av.open(str(shared / "video" / name)) as clip:
        small = (frame.reformat(width=160, height=96, format="rgb24") for frame in clip.decode(video=0))
        assert cuts(frame.to_ndarray() for frame in small) == expected
