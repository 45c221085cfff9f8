import itertools
from fractions import Fraction

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from video_clips import audio_of, audio_onset, beginning, end_of, moving_square, record_with_audio, timestamps_of

from vitreous.callbacks import Callback
from vitreous.errors import InputError
from vitreous.video import frames as images
from vitreous.video.decode import TruncatedVideoError, read_frames
from vitreous.video.encode import write_video
from vitreous.video.info import read_info
from vitreous.video.options import VideoOptions
from vitreous.video.stream import transform_video
from vitreous.video.trim import DecodedFrame, ReadReport, expected_frames, trim_frames


def same(frames):
    return [frame.image_u8 for frame in frames]


@given(
    gaps=st.lists(st.integers(1, 9), min_size=1, max_size=30),
    start=st.integers(0, 60),
    length=st.none() | st.integers(1, 60),
    every=st.integers(1, 5),
)
def test_trimming_follows_its_definition(gaps, start, length, every):
    times = [sum(gaps[:number]) for number in range(len(gaps))]
    frames_in = [DecodedFrame(Fraction(t), Fraction(g), n) for n, (t, g) in enumerate(zip(times, gaps, strict=True))]
    end = None if length is None else start + length
    report = ReadReport()
    found = list(trim_frames(frames_in, VideoOptions(start=start, end=end, every=every), report))
    inside = [number for number, time in enumerate(times) if time >= start and (end is None or time < end)]
    assert [moment.image for moment in found] == inside[::every]
    if inside:
        zero = times[inside[0]] if start else 0
        assert report.zero_seconds == zero
        assert [moment.time_seconds for moment in found] == [times[number] - zero for number in inside[::every]]
        last = times[inside[-1]] + gaps[inside[-1]]
        assert found[-1].end_seconds == (last if end is None else min(last, end)) - zero
        assert all(a.end_seconds == b.time_seconds for a, b in itertools.pairwise(found))


@pytest.mark.parametrize("name", ["pancake-sound.mkv", "rotated-sound.mp4", "people.mp4", "odd-314x273.gif"])
def test_a_trimmed_video_has_the_frames_of_the_whole(shared, name):
    path = shared / "video" / name
    whole = list(read_frames(path, VideoOptions(size=16)))
    start, end = whole[len(whole) // 3].time_seconds, whole[2 * len(whole) // 3].time_seconds
    options = VideoOptions(start=start, end=end, every=2, size=16)
    part, wanted = list(read_frames(path, options)), whole[len(whole) // 3 : 2 * len(whole) // 3 : 2]
    assert [frame.time_seconds + start for frame in part] == [frame.time_seconds for frame in wanted]
    assert all((a.image_u8 == b.image_u8).all() for a, b in zip(part, wanted, strict=True))
    assert abs(part[-1].time_seconds + part[-1].duration_seconds - (end - start)) <= Fraction(1, 1000)


@pytest.mark.parametrize("name", ["pancake-sound.mkv", "people.mp4", "odd-314x273.gif"])
def test_seeking_gives_the_same_frames_as_reading_through(shared, monkeypatch, name):
    path = shared / "video" / name
    length = float(list(read_frames(path, VideoOptions(size=8)))[-1].time_seconds)
    for part in (0.15, 0.5, 0.93):
        options = VideoOptions(start=part * length, end=part * length + 0.3, size=16)
        found = []
        for seek_from in (0, 10_000):
            monkeypatch.setattr(images, "SEEK_FROM_SECONDS", seek_from)
            report = ReadReport()
            found.append((list(read_frames(path, options, report)), report.zero_seconds))
        (jumped, zero), (through, expected) = found
        assert zero == expected
        assert [frame.time_seconds for frame in jumped] == [frame.time_seconds for frame in through]
        assert all((a.image_u8 == b.image_u8).all() for a, b in zip(jumped, through, strict=True))


def test_a_raw_stream_without_an_index_is_read_from_its_beginning(tmp_path, monkeypatch):
    path = tmp_path / "raw.h264"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, width=64, height=36, pix_fmt="yuv420p")
        for image in moving_square(50):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
    whole = [frame.image_u8 for frame in read_frames(path)]
    monkeypatch.setattr(images, "SEEK_FROM_SECONDS", 0)
    part = list(read_frames(path, VideoOptions(start=1)))
    assert len(part) == len(whole) - 25 > 20 and part[0].time_seconds == 0
    assert all((a.image_u8 == b).all() for a, b in zip(part, whole[25:], strict=True))


@pytest.mark.parametrize("target", ["out.mp4", "out.mkv", "out.webm", "out.mov"])
def test_audio_is_trimmed_with_the_images_and_stays_in_sync(tmp_path, target):
    source = record_with_audio(tmp_path / "in.mkv", "flac", seconds=4)  # its tone sets in at 2 s
    steps = []

    class Recorder(Callback):
        def on_progress(self, progress):
            steps.append((progress.done, progress.total))

    options = VideoOptions(start=1.5, end=3, every=3)
    result = transform_video(source, tmp_path / target, same, 4, Recorder(), options=options)
    first = next(time for time in timestamps_of(source) if time >= Fraction(3, 2))
    assert result.frames == steps[-1][0] == 13  # 38 frames, each third
    found = [stamp - timestamps_of(tmp_path / target)[0] for stamp in timestamps_of(tmp_path / target)]
    assert all(abs(time - Fraction(number * 3, 25)) <= Fraction(1, 1000) for number, time in enumerate(found))
    assert timestamps_of(tmp_path / target)[0] == 0
    assert abs(end_of(tmp_path / target) - (3 - first)) <= Fraction(1, 500)
    assert abs(audio_onset(tmp_path / target) - (2 - float(first))) < 0.03
    assert abs(audio_of(tmp_path / target).times[-1] - (3 - first)) < Fraction(1, 10)


def test_totals_are_right_with_all_options(tmp_path):
    source = tmp_path / "in.mp4"
    write_video(source, moving_square(100), Fraction(30000, 1001))
    info = read_info(source)
    for options in [
        VideoOptions(),
        VideoOptions(every=7),
        VideoOptions(start=0.5),
        VideoOptions(end=Fraction(1001, 30000)),
        VideoOptions(start=0.111, end=2.2, every=4),
    ]:
        assert expected_frames(info, options) == sum(1 for _ in read_frames(source, options)), options


def test_frames_are_resized_before_they_are_drawn_on(shared, tmp_path):
    source = beginning(shared / "video" / "dog.mp4", tmp_path / "dog.mp4", 0.5)
    seen = []

    def draw(frames):
        seen.extend(frame.image_u8.shape for frame in frames)
        return same(frames)

    for size, expected in [(90, (90, 160)), ((64, 50), (64, 50)), (121, (121, 216))]:
        result = transform_video(source, tmp_path / "out.webm", draw, options=VideoOptions(size=size))
        assert result.info.size_hw == expected == seen[-1][:2]
    turned = next(read_frames(shared / "video" / "rotated-90.mov", VideoOptions(size=200))).image_u8
    full = next(read_frames(shared / "video" / "rotated-90.mov")).image_u8
    assert turned.shape == (200, 112, 3)
    assert abs(turned.astype(int).mean((0, 1)) - full.mean((0, 1))).max() < 2


def test_a_lower_crf_gives_a_larger_file(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (6, 64, 64, 3)).astype(np.uint8)
    write_video(tmp_path / "in.mp4", noise, Fraction(25))
    for suffix, low, high in [(".mp4", 5, 45), (".webm", 5, 60)]:
        sizes = []
        for quality in (low, high):
            target = tmp_path / f"{quality}{suffix}"
            transform_video(tmp_path / "in.mp4", target, same, options=VideoOptions(quality=quality))
            sizes.append(target.stat().st_size)
        assert sizes[0] > 1.5 * sizes[1]


def test_trimming_a_truncated_video(shared):
    read = []
    with pytest.raises(TruncatedVideoError) as caught:
        read.extend(read_frames(shared / "bad" / "corrupted.mp4", VideoOptions(start=1, every=5)))
    assert caught.value.frames == 4  # 10, 15, 20, 25 of 28
    with pytest.raises(InputError, match=r"has no frame at or after 4 s: the last one read is at 2\.70 s"):
        next(read_frames(shared / "bad" / "corrupted.mp4", VideoOptions(start=4)))


def test_an_empty_range_is_an_input_error(tmp_path):
    write_video(tmp_path / "in.mp4", moving_square(10), Fraction(10))
    for options, message in [(VideoOptions(start=2), "at or after 2 s"), (VideoOptions(0.91, 0.95), "before 0.95 s")]:
        with pytest.raises(InputError, match=message):
            transform_video(tmp_path / "in.mp4", tmp_path / "out.mp4", same, options=options)
    assert [path.name for path in tmp_path.iterdir()] == ["in.mp4"]


@pytest.mark.parametrize(
    "values",
    [
        {"start": -1},
        {"start": float("nan")},
        {"start": 2, "end": 2},
        {"end": float("inf")},
        {"every": 0},
        {"size": 0},
        {"size": -5},
        {"size": (5, 0)},
        {"size": 99999},
    ],
)
def test_options_out_of_range(values):
    with pytest.raises(InputError):
        VideoOptions(**values)


@pytest.mark.parametrize("tenths", range(1, 10))
def test_seconds_are_exact_as_written(tenths):
    """0.1 as a float lies above a tenth: the frame that begins there would belong to both sides."""
    frames_in = [DecodedFrame(Fraction(number, 30), Fraction(1, 30)) for number in range(40)]
    cut = tenths / 10
    before = list(trim_frames(frames_in, VideoOptions(end=cut), ReadReport()))
    after = list(trim_frames(frames_in, VideoOptions(start=cut), ReadReport()))
    assert len(before) == 3 * tenths and len(after) == 40 - 3 * tenths
    assert all(moment.duration_seconds == Fraction(1, 30) for moment in (*before, *after))
