import gc
import os
import signal
import threading
import time
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from video_clips import audio_of, beginning, end_of, moving_square, record_with_audio, timestamps_of

from vitreous.callbacks import Callback
from vitreous.errors import InputError
from vitreous.video import stream
from vitreous.video.encode import write_video
from vitreous.video.info import read_info
from vitreous.video.stream import annotate_video, transform_video
from vitreous.video.video_track import VideoTrack

CLIPS = [
    "bikes.mp4",
    "bt709-full-range.mp4",
    "bunny-sound.webm",
    "dog.mp4",
    "juggle.mp4",
    "no-duration.webm",
    "odd-314x273.gif",
    "odd-321x241.mp4",
    "pancake-sound.mkv",
    "people.mp4",
    "rotated-90.mov",
    "rotated-sound.mp4",
    "variable-rate-rotated-180.mp4",
]
LONG_AND_LARGE = {"bunny-sound.webm": 2, "dog.mp4": 3, "juggle.mp4": 2}  # seconds that the tests use


def same(frames):
    return [frame.image_u8 for frame in frames]


def quarter(frames):
    return [frame.image_u8[::4, ::4] for frame in frames]


@pytest.fixture(autouse=True)
def no_thread_is_left():
    before = threading.active_count()
    yield
    assert threading.active_count() == before


@pytest.fixture(scope="module")
def clip_300(tmp_path_factory):
    """300 frames, 24 by 32 pixels."""
    path = tmp_path_factory.mktemp("source") / "300.mp4"
    write_video(path, moving_square(300, (24, 32)), Fraction(30))
    return path


def test_every_video_is_listed(shared):
    assert sorted(path.name for path in (shared / "video").iterdir()) == CLIPS


@pytest.mark.parametrize("name", CLIPS)
def test_real_videos_keep_frames_times_duration_size_and_audio(shared, tmp_path, name):
    source = shared / "video" / name
    if name in LONG_AND_LARGE:
        source = beginning(source, tmp_path / f"source{source.suffix}", LONG_AND_LARGE[name])
    before = read_info(source)
    draw, size_hw = (quarter, (180, 320)) if before.size_hw == (720, 1280) else (same, before.size_hw)
    target = tmp_path / "out.mp4"
    result = transform_video(source, target, draw)
    intended = timestamps_of(source)
    assert result.truncation is None
    assert result.info == read_info(target)
    assert result.info.size_hw == tuple(side + side % 2 for side in size_hw)
    assert result.info.rotation_degrees == 0
    assert result.frames == len(intended) == len(timestamps_of(target))
    pairs = zip(timestamps_of(target), intended, strict=True)
    assert all(abs(found - expected_time) <= result.info.time_base for found, expected_time in pairs)
    assert abs(end_of(target) - end_of(source)) <= 1 / before.fps
    assert (result.info.audio_codec is None) == (before.audio_codec is None)
    if before.audio_codec in {"aac", "opus"}:
        assert audio_of(target).payloads == audio_of(source).payloads
    assert {path.name for path in tmp_path.iterdir()} <= {"out.mp4", source.name}


def test_images_arrive_in_order_and_in_batches(clip_300, tmp_path):
    times, batches, steps = [], [], []

    def draw(frames):
        times.extend(frame.time_seconds for frame in frames)
        batches.append(len(frames))
        return same(frames)

    class Recorder(Callback):
        def on_progress(self, progress):
            steps.append((progress.done, progress.total))

    transform_video(clip_300, tmp_path / "out.mp4", draw, 7, Recorder())
    assert times == [Fraction(number, 30) for number in range(300)]
    assert batches == [7] * 42 + [6]
    assert steps[-1] == (300, 300)
    assert all(later[0] > earlier[0] for earlier, later in pairwise(steps))


@pytest.mark.parametrize("size_hw", [(1, 1), (1, 7), (3, 2), (50, 17)])
def test_images_may_have_any_size(clip_300, tmp_path, size_hw):
    source = beginning(clip_300, tmp_path / "short.mp4", 0.3)
    image = np.full((*size_hw, 3), 99, np.uint8)
    result = transform_video(source, tmp_path / "out.mp4", lambda frames: [image] * len(frames))
    assert result.info.size_hw == tuple(side + side % 2 for side in size_hw)


def test_the_good_part_of_a_truncated_video_is_written(shared, tmp_path):
    result = transform_video(shared / "bad" / "corrupted.mp4", tmp_path / "out.mp4", quarter)
    assert result.frames == result.truncation.frames == result.info.frame_count == 28
    assert end_of(tmp_path / "out.mp4") == Fraction(28, 10)


@pytest.mark.parametrize("name", ["dog.mp4", "pancake-sound.mkv"])
def test_audio_ends_where_the_images_are_truncated(shared, tmp_path, name):
    whole = (shared / "video" / name).read_bytes()
    (tmp_path / name).write_bytes(whole[: len(whole) // 5])
    result = transform_video(tmp_path / name, tmp_path / "out.mp4", quarter)
    assert result.truncation.frames == result.frames > 10
    end, sound = end_of(tmp_path / "out.mp4"), audio_of(tmp_path / "out.mp4")
    assert end - Fraction(1, 4) < sound.times[-1] < end


def test_truncated_audio_is_reported(tmp_path):
    source = record_with_audio(tmp_path / "a.mkv", "flac", seconds=2)
    payload = audio_of(source).payloads[12]
    source.write_bytes(source.read_bytes().replace(payload, bytes(len(payload))))
    result = transform_video(source, tmp_path / "out.mov", same)  # MOV takes no FLAC, so that it is decoded
    assert result.frames == 50
    assert "the audio is truncated at 1." in str(result.truncation)
    assert 0.9 < audio_of(tmp_path / "out.mov").times[-1] < 1.3


@pytest.mark.parametrize("name", ["empty.webm", "git_lfs_pointer.pth", "truncated_checkpoint.pt"])
def test_bad_files_are_refused_and_leave_nothing(shared, tmp_path, name):
    with pytest.raises(InputError):
        transform_video(shared / "bad" / name, tmp_path / "out.mp4", same)
    assert list(tmp_path.iterdir()) == []


def test_a_bad_output_is_refused_before_any_work(clip_300, tmp_path):
    for target in [tmp_path / "out.avi", clip_300]:
        with pytest.raises(InputError):
            transform_video(clip_300, target, lambda frames: pytest.fail("drawn"))


@pytest.mark.parametrize("error", [ZeroDivisionError("in draw"), KeyboardInterrupt()])
@pytest.mark.parametrize("fails_at", [1, 20])
def test_an_error_in_draw_surfaces_at_once_and_leaves_nothing(clip_300, tmp_path, error, fails_at):
    calls = []

    def draw(frames):
        calls.append(len(frames))
        if len(calls) == fails_at:
            raise error
        return same(frames)

    start = time.monotonic()
    with pytest.raises(type(error)) as caught:
        transform_video(clip_300, tmp_path / "out.mp4", draw)
    assert caught.value is error
    assert len(calls) == fails_at
    assert time.monotonic() - start < 5
    assert list(tmp_path.iterdir()) == []


def test_an_error_in_the_writer_surfaces_at_once_and_leaves_nothing(clip_300, tmp_path, monkeypatch):
    real, drawn = VideoTrack.write, []

    def write(self, frame):
        if len(self.ticks) == 50:
            raise ZeroDivisionError("in the writer")
        real(self, frame)

    monkeypatch.setattr(VideoTrack, "write", write)
    with pytest.raises(ZeroDivisionError, match="in the writer"):
        transform_video(clip_300, tmp_path / "out.mp4", lambda frames: drawn.extend(frames) or same(frames))
    assert len(drawn) < 100
    assert list(tmp_path.iterdir()) == []


def test_an_error_in_the_reader_surfaces_and_leaves_nothing(clip_300, tmp_path, monkeypatch):
    real = stream.read_frames

    def read_frames(path, *rest):
        for number, frame in enumerate(real(path, *rest)):
            if number == 150:
                raise ZeroDivisionError("in the reader")
            yield frame

    monkeypatch.setattr(stream, "read_frames", read_frames)
    with pytest.raises(ZeroDivisionError, match="in the reader"):
        transform_video(clip_300, tmp_path / "out.mp4", same)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def control_c():
    """A function that sends Ctrl-C to this process after some seconds; a shell may have it ignored: here it counts."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield lambda seconds: threading.Timer(seconds, os.kill, [os.getpid(), signal.SIGINT]).start()
    signal.signal(signal.SIGINT, before)


def compute_until(what, seconds=5.0):
    """Compute until `what()` holds, as a model does."""
    end = time.monotonic() + seconds
    while not what() and time.monotonic() < end:
        np.ones((64, 64)) @ np.ones((64, 64))


@pytest.mark.parametrize("name", ["out.mp4", "out.webm", "out.gif", "out/"])
def test_control_c_in_a_model_call_ends_the_output_properly(clip_300, tmp_path, control_c, name):
    calls = []

    def infer(frames):
        calls.append(len(frames))
        if len(calls) == 4:
            control_c(0)
            compute_until(lambda: signal.getsignal(signal.SIGINT) is signal.default_int_handler)
        return calls[-1]

    result = annotate_video(clip_300, f"{tmp_path}/{name}", infer, lambda frames, results: same(frames), batch_size=10)
    assert (result.frames, result.is_interrupted, result.truncation) == (40, True, None)
    assert result.info.frame_count == (None if name == "out.webm" else 40)
    assert [path.name for path in tmp_path.iterdir()] == [name.rstrip("/")]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_control_c_while_waiting_ends_the_output_properly_with_its_audio(tmp_path, monkeypatch, control_c):
    source, real = record_with_audio(tmp_path / "in.mp4", "aac", seconds=4), stream.read_frames

    def slow_frames(path, *rest):
        for number, frame in enumerate(real(path, *rest)):
            if number == 50:
                control_c(0.05)
                time.sleep(0.3)
            yield frame

    monkeypatch.setattr(stream, "read_frames", slow_frames)
    result = transform_video(source, tmp_path / "out.mp4", same, batch_size=5)
    assert result.is_interrupted
    assert result.frames == len(timestamps_of(tmp_path / "out.mp4")) == 50
    assert abs(audio_of(tmp_path / "out.mp4").times[-1] - 2) < Fraction(1, 10)
    assert {path.name for path in tmp_path.iterdir()} == {"in.mp4", "out.mp4"}


def test_control_c_while_the_last_batch_waits_ends_the_output_properly(clip_300, tmp_path, control_c):
    """The reader then stands at the last batch, which is not full."""
    source, calls = beginning(clip_300, tmp_path / "in.mp4", 40 / 30), []

    def infer(frames):
        calls.append(len(frames))
        time.sleep(0.3)
        control_c(0)
        compute_until(lambda: signal.getsignal(signal.SIGINT) is signal.default_int_handler)

    result = annotate_video(source, tmp_path / "out.mp4", infer, lambda frames, _: same(frames), 16)
    assert calls == [16] and (result.frames, result.is_interrupted) == (16, True)
    assert len(timestamps_of(tmp_path / "out.mp4")) == 16


@pytest.mark.parametrize("name", ["out.mp4", "out/"])
def test_a_second_control_c_stops_at_once_and_leaves_nothing(clip_300, tmp_path, control_c, name):
    calls = []

    def draw(frames):
        calls.append(1)
        if len(calls) == 3:
            control_c(0)
            control_c(0.3)
            compute_until(lambda: False)
        return same(frames)

    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        transform_video(clip_300, f"{tmp_path}/{name}", draw)
    assert time.monotonic() - start < 4
    assert list(tmp_path.iterdir()) == []


def test_control_c_before_the_first_batch_leaves_nothing(clip_300, tmp_path, control_c, monkeypatch):
    real = stream.read_frames

    def slow_frames(path, *rest):
        control_c(0)
        time.sleep(0.3)
        yield from real(path, *rest)

    monkeypatch.setattr(stream, "read_frames", slow_frames)
    with pytest.raises(KeyboardInterrupt):
        transform_video(clip_300, tmp_path / "out.mp4", same)
    assert list(tmp_path.iterdir()) == []


def test_a_draw_function_with_a_wrong_result_is_stopped(clip_300, tmp_path):
    sizes = iter(range(8, 100))
    promises = {
        "returned 7 images": lambda frames: same(frames)[1:],
        "uint8": lambda frames: [frame.image_u8.astype(np.float32) for frame in frames],
        "is not": lambda frames: [np.zeros((next(sizes), 9, 3), np.uint8) for _ in frames],
    }
    for message, draw in promises.items():
        with pytest.raises(AssertionError, match=message):
            transform_video(clip_300, tmp_path / "out.mp4", draw)
    assert list(tmp_path.iterdir()) == []


def record_traffic(monkeypatch, pause_seconds=0.0):
    """Lists that fill as frames are read and written: one entry each, and at each reading how many are in between."""
    real_read, real_write = stream.read_frames, VideoTrack.write
    read, written, between = [], [], []

    def read_frames(path, *rest):
        for frame in real_read(path, *rest):
            read.append(1)
            between.append(len(read) - len(written))
            yield frame

    def write(self, frame):
        time.sleep(pause_seconds)
        written.append(1)
        real_write(self, frame)

    monkeypatch.setattr(stream, "read_frames", read_frames)
    monkeypatch.setattr(VideoTrack, "write", write)
    return read, written, between


def test_few_frames_are_in_memory_at_a_time(clip_300, tmp_path, monkeypatch):
    """A slow writer holds the reader back: at most four batches are between the two."""
    read, written, between = record_traffic(monkeypatch, 0.001)
    transform_video(clip_300, tmp_path / "out.mp4", same, batch_size=5)
    assert len(read) == len(written) == 300
    assert max(between) <= 5 * 5


@pytest.mark.parametrize(("pixels", "most"), [(1, 5), (3 * 5 * 24 * 32, 15)])
def test_fewer_large_frames_are_in_memory_and_batches_stay(clip_300, tmp_path, monkeypatch, pixels, most):
    """However large, one batch is on its way at least."""
    monkeypatch.setattr(stream, "MAX_PIXELS_IN_FLIGHT", pixels)
    _, written, between = record_traffic(monkeypatch)
    batches = []
    annotate_video(
        clip_300,
        tmp_path / "out.mp4",
        lambda frames: batches.append(len(frames)),
        lambda frames, _: same(frames),
        5,
    )
    assert batches == [5] * 60 and len(written) == 300 and max(between) <= most


def test_no_codec_thread_is_left(clip_300, tmp_path):
    def threads_of_the_process():
        gc.collect()
        return len(list(Path("/proc/self/task").iterdir()))

    transform_video(clip_300, tmp_path / "warm.mp4", same)
    before = threads_of_the_process()
    for number in range(3):
        transform_video(clip_300, tmp_path / f"{number}.mp4", same)
    assert threads_of_the_process() <= before
