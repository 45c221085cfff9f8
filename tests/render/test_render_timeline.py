"""The strip under a clip and the timeline of a whole one show what was texts when."""

import numpy as np
import pytest
from PIL import Image

from vitreous.errors import InputError
from vitreous.render.plots.timeline import Segment, spread_labels, timeline
from vitreous.render.temporal.class_strip import EMPTY_COLOR, ClassStrip, append_strip, class_color

FIRST, SECOND = (class_color(number) for number in range(2))


def band(strip_u8, letters=11):
    """The middle row of the colored band."""
    return strip_u8[round(1.9 * letters) + round(0.75 * letters)]


@pytest.mark.parametrize("size_hw", [(256, 340), (255, 341), (721, 1280), (9, 9), (1, 1)])
@pytest.mark.parametrize("duration", [None, 4.0])
def test_image_and_strip_together_have_an_even_height_at_all_times(size_hw, duration):
    strip, frame = ClassStrip(size_hw, duration), np.zeros((*size_hw, 3), np.uint8)
    for i in range(30):
        drawn = strip.update(i / 2, [("dog", 0.7), ("猫 $x$", 0.2)] if i % 3 else [])
        assert drawn.dtype == np.uint8 and drawn.shape == (strip.height, size_hw[1], 3)
        assert append_strip(frame, drawn).shape[0] % 2 == 0


def test_the_strip_fills_with_time_in_the_colors_of_the_classes():
    strip = ClassStrip((256, 340), 10.0)
    for i in range(50):
        drawn = strip.update(i / 10, [("dog", 0.9), ("cat", 0.1)] if i < 25 else [("cat", 0.9), ("dog", 0.1)])
    middle = band(drawn)[9:-9]
    assert (middle[:75] == FIRST).all() and (middle[85:150] == SECOND).all() and (middle[170:] == EMPTY_COLOR).all()
    assert (middle[150:170] == 255).all(axis=1).sum() == 1


def test_without_a_duration_the_strip_fills_and_then_scrolls():
    strip = ClassStrip((256, 340), None)
    for i in range(300):
        drawn = strip.update(i / 20, [("dog", 1.0)] if i < 200 else [("cat", 1.0)])
    middle = band(drawn)[9:-9]
    assert (middle[:158] == FIRST).all() and (middle[164:] == SECOND).all()


def test_a_scrolling_strip_has_no_gaps_at_any_frame_rate():
    strip = ClassStrip((256, 340), None)
    for i in range(14):
        drawn = strip.update(1.07 * i, [("dog", 1.0)])
    assert (band(drawn)[9:-9] == FIRST).all()


def test_a_class_keeps_its_color_and_times_beyond_the_end_are_accepted():
    strip = ClassStrip((256, 340), 1.0)
    for name in [f"class {i}" for i in range(12)] * 2:
        drawn = strip.update(1.5, [(name, 1.0)])
    assert drawn.shape[1] == 340
    with pytest.raises(InputError, match="duration"):
        ClassStrip((256, 340), 0.0)


def test_every_class_of_a_video_has_a_color_however_many_there_are():
    colors = [class_color(number) for number in range(21)]
    distances = [abs(np.subtract(one, other)).sum() for i, one in enumerate(colors) for other in colors[:i]]
    assert min(distances) > 30 and min(abs(np.subtract(color, EMPTY_COLOR)).sum() for color in colors) > 60
    strip = ClassStrip((256, 340), 30.0)
    for i in range(300):
        drawn = strip.update(i / 10, [(f"class {i // 10}", 1.0)])
    found = [tuple(band(drawn)[9:-9][round((number + 0.5) / 30 * 322)]) for number in range(30)]
    assert found == [class_color(number) for number in range(30)]


@pytest.mark.parametrize("frames", [1, 2, 200])
@pytest.mark.parametrize("entropy", [False, True])
def test_the_timeline_is_a_png_1600_pixels_wide(tmp_path, frames, entropy):
    times, path = np.arange(frames) / 30, tmp_path / "timeline.png"
    shares = {"golden retriever $2": np.linspace(1, 0, frames), "cat" * 30: np.linspace(0, 1, frames)}
    segments = [Segment(0, 2, "golden retriever $2"), Segment(2, 2.05, "cat")]
    timeline(times, shares, segments, path, entropy=np.full(frames, 0.5) if entropy else None)
    with Image.open(path) as image:
        assert image.width == 1600 and image.format == "PNG" and image.height > (800 if entropy else 600)


def test_the_timeline_of_a_model_without_classes_shows_the_entropy_alone(tmp_path):
    timeline([0, 1, 2], {}, [], tmp_path / "entropy.png", entropy=np.array([0.2, 0.9, 0.5]), title="dog.mp4")
    with Image.open(tmp_path / "entropy.png") as image:
        assert image.width == 1600 and 200 < image.height < 500
        assert len(np.unique(np.asarray(image.convert("L")))) > 20
    with pytest.raises(InputError, match="3 frames and no values"):
        timeline([0, 1, 2], {}, [], tmp_path / "nothing.png")


def test_segments_describe_themselves():
    assert Segment(0, 3.21, "dog").describe() == "0.0-3.2 s dog"


def test_labels_are_spread_and_stay_in_place_if_there_is_room():
    assert spread_labels([10, 60, 90], 5, 100) == [10, 60, 90]
    crowded = sorted(spread_labels([1, 2, 2, 60, 99, 99], 6, 100))
    assert np.diff(crowded).min() >= 6 - 1e-9 and crowded[0] >= 0 and crowded[-1] <= 100


def test_mismatched_series_are_refused_and_nothing_is_written(tmp_path):
    with pytest.raises(InputError, match="dog"):
        timeline([0, 1], {"dog": np.zeros(3)}, [], tmp_path / "a.png")
    with pytest.raises(InputError, match="0 frames"):
        timeline([], {}, [], tmp_path / "a.png")
    assert not list(tmp_path.iterdir())
