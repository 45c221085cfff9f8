import os
from fractions import Fraction
from itertools import islice

import av
import numpy as np
import pytest
from video_clips import beginning, record_with_audio, timestamps_of

from vitreous.errors import InputError
from vitreous.video.color import ToRGB
from vitreous.video.decode import TruncatedVideoError, read_frames
from vitreous.video.frames import FrameTimes
from vitreous.video.info import open_video, read_info
from vitreous.video.orientation import FIXED_POINT_ONE, upright


@pytest.mark.parametrize(
    ("name", "quarter_turns", "frames"),
    [("rotated-90.mov", -1, 3), ("rotated-sound.mp4", 1, 17), ("variable-rate-rotated-180.mp4", 2, 25)],
)
def test_rotation_makes_the_image_upright(shared, name, quarter_turns, frames):
    path = shared / "video" / name
    read = list(islice(read_frames(path), 5))
    with av.open(str(path)) as container:
        raw = [frame.to_ndarray(format="rgb24") for frame in islice(container.decode(video=0), 5)]
    for ours, stored in zip(read, raw, strict=True):
        expected = np.rot90(stored, quarter_turns)
        assert ours.image_u8.shape == expected.shape == (*read_info(path).size_hw, 3)
        difference = abs(ours.image_u8.astype(int) - expected).mean()  # of chroma upsampling and matrix
        assert 3 * difference < abs(ours.image_u8[::-1, ::-1].astype(int) - expected).mean()
    assert sum(1 for _ in read_frames(path)) == frames


def test_mirrored_matrices_follow_the_definition():
    image = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    for a, b, c, d in [(1, 0, 0, 1), (-1, 0, 0, 1), (1, 0, 0, -1), (0, 1, 1, 0), (0, -1, -1, 0), (0, -1, 1, 0)]:
        turned = upright(image, (a * FIXED_POINT_ONE, b * FIXED_POINT_ONE, c * FIXED_POINT_ONE, d * FIXED_POINT_ONE))
        corners = [[(a * x + c * y, b * x + d * y) for x in range(3)] for y in range(2)]
        left, top = min(x for row in corners for x, _ in row), min(y for row in corners for _, y in row)
        for y in range(2):
            for x in range(3):
                new_x, new_y = corners[y][x]
                assert (turned[new_y - top, new_x - left] == image[y, x]).all()


@pytest.mark.parametrize("name", ["variable-rate-rotated-180.mp4", "no-duration.webm", "odd-314x273.gif"])
def test_times_are_those_of_the_file(shared, name):
    path = shared / "video" / name
    assert [frame.time_seconds for frame in read_frames(path)] == timestamps_of(path)


def test_audio_and_images_stay_in_sync(shared):
    first = next(read_frames(shared / "video" / "bunny-sound.webm"))
    assert first.time_seconds == Fraction(3, 1000)  # the sound starts at 0


def test_a_late_start_becomes_zero(tmp_path):
    path = record_with_audio(tmp_path / "late.ts", "mp2", late=20)
    times = [frame.time_seconds for frame in read_frames(path)]
    assert len(times) == 25
    assert 0 <= times[0] < Fraction(1, 10)


def test_frames_without_time_stamps_follow_each_other(tmp_path, shared):
    raw = tmp_path / "raw.h264"
    beginning(shared / "video" / "bikes.mp4", raw, seconds=1)
    times = [frame.time_seconds for frame in read_frames(raw)]
    assert times == [Fraction(number, 25) for number in range(len(times))]
    assert len(times) > 20


def test_irregular_time_stamps_still_increase(shared):
    with open_video(shared / "video" / "dog.mp4") as (container, stream):
        times = FrameTimes(container, stream)
        given = []
        for stamp in [0, 1001, 1001, 900, None, 9000]:
            image = av.VideoFrame(2, 2)
            image.pts = stamp
            given.append(times.next(image)[0] * 30000)
    assert given == [0, 1001, 1002, 1003, 2004, 9000]


def test_transparent_pixels_are_white(shared):
    path = shared / "video" / "odd-314x273.gif"
    with av.open(str(path)) as container:
        raw = next(container.decode(video=0)).to_ndarray(format="rgba")
    image = next(read_frames(path)).image_u8
    assert (raw[..., 3] == 0).any()
    assert (image[raw[..., 3] == 0] == 255).all()
    assert (image[raw[..., 3] == 255] == raw[raw[..., 3] == 255][:, :3]).all()


def test_full_range_and_matrix_are_honored(shared):
    """The clip's stored values, put through BT.709's own equations for full range."""
    path = shared / "video" / "bt709-full-range.mp4"
    with av.open(str(path)) as container:
        planes = [np.asarray(plane).reshape(plane.height, -1) for plane in next(container.decode(video=0)).planes]
    image = next(read_frames(path)).image_u8
    for x in range(100, 1280, 213):
        luma, blue, red = (int(planes[k][680 >> (k > 0), x >> (k > 0)]) - 128 * (k > 0) for k in range(3))
        expected = [luma + 1.5748 * red, luma - 0.18732 * blue - 0.46812 * red, luma + 1.8556 * blue]
        assert np.abs(image[680, x] - np.clip(expected, 0, 255)).max() <= 2


@pytest.mark.parametrize(("height", "weights"), [(240, (0.299, 0.114)), (720, (0.2126, 0.0722))])
def test_untagged_colors_are_bt601_below_720_lines_and_bt709_from_there(tmp_path, height, weights):
    path = tmp_path / "untagged.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=25, width=64, height=height, pix_fmt="yuv420p")
        frame = av.VideoFrame(64, height, "yuv420p")
        for plane, value in zip(frame.planes, (90, 100, 180), strict=True):
            plane.update(bytes([value]) * plane.buffer_size)
        container.mux([*stream.encode(frame), *stream.encode(None)])
    red_weight, blue_weight = weights
    luma, blue, red = (90 - 16) * 255 / 219, (100 - 128) * 255 / 224, (180 - 128) * 255 / 224
    r, b = luma + 2 * (1 - red_weight) * red, luma + 2 * (1 - blue_weight) * blue
    g = (luma - red_weight * r - blue_weight * b) / (1 - red_weight - blue_weight)
    assert np.abs(next(read_frames(path)).image_u8 - np.array([r, g, b])).max() <= 2


def test_a_reserved_matrix_counts_as_untagged():
    image = av.VideoFrame.from_ndarray(np.full((54, 64), 128, np.uint8), format="yuv420p")
    untagged = ToRGB(image)(image)
    image.colorspace = 3
    assert (ToRGB(image)(image) == untagged).all()


def test_a_truncated_video_yields_its_good_frames_first(shared):
    reader = read_frames(shared / "bad" / "corrupted.mp4")
    assert [frame.time_seconds for frame in islice(reader, 28)] == [Fraction(number, 10) for number in range(28)]
    with pytest.raises(TruncatedVideoError, match=r"after 28 frames, at 2\.70 s: invalid data") as caught:
        next(reader)
    assert (caught.value.frames, caught.value.time_seconds) == (28, Fraction(27, 10))


@pytest.mark.parametrize("name", ["dog.mp4", "pancake-sound.mkv"])
def test_a_cut_file_is_truncated_instead_of_ending(shared, tmp_path, name):
    whole = (shared / "video" / name).read_bytes()
    (tmp_path / name).write_bytes(whole[: len(whole) // 4])
    with pytest.raises(TruncatedVideoError) as caught:
        for _ in read_frames(tmp_path / name):
            pass
    assert 20 < caught.value.frames < 150


def test_a_video_without_a_good_frame_is_an_input_error(tmp_path):
    path = record_with_audio(tmp_path / "clip.mp4", "aac")
    content = bytearray(path.read_bytes())
    start = content.index(b"mdat") + 4
    content[start : content.index(b"moov") - 4] = bytes(content.index(b"moov") - 4 - start)
    path.write_bytes(content)
    with pytest.raises(InputError, match="no frame of"):
        next(read_frames(path))


def test_an_abandoned_reader_closes_its_file(shared):
    def open_files():
        return sum(1 for entry in os.scandir("/proc/self/fd") if "dog.mp4" in os.path.realpath(entry.path))

    reader = read_frames(shared / "video" / "dog.mp4")
    next(reader)
    assert open_files() == 1
    reader.close()
    assert open_files() == 0
