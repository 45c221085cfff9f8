"""Streams whose times, fields or audio are out of the ordinary, each made here, with the values they ought to have."""

import os
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
from video_clips import audio_of, moving_square, timestamps_of

from vitreous.errors import InputError
from vitreous.video.clock_jumps import clock_jumps
from vitreous.video.decode import read_frames
from vitreous.video.info import Frame, read_info
from vitreous.video.options import KEEP_ALL, VideoOptions
from vitreous.video.output import check_output
from vitreous.video.stream import transform_video
from vitreous.video.trim import ReadReport

TICK = Fraction(1, 25)


def unchanged(frames: list[Frame]) -> list[np.ndarray]:
    return [frame.image_u8 for frame in frames]


def write_stream(
    path: Path,
    codec: str = "mpeg4",
    times: list[int] | None = None,
    audio: str | None = None,
    offset_seconds: float = 0,
    images: list[np.ndarray] | None = None,
    silent_seconds: tuple[float, float] = (0, 0),
    **options: str,
) -> Path:
    """Write a clip of 25 ticks a second with B-frames, if the codec has them, and perhaps a tone of the same length.

    Between `silent_seconds` there are no packets of audio.
    """
    times = list(range(25)) if times is None else times
    images = moving_square(len(times), (48, 64)) if images is None else images
    with av.open(str(path), "w", container_options={"output_ts_offset": str(offset_seconds)}) as container:
        height, width, _ = images[0].shape
        video = container.add_stream(codec, rate=25, width=width, height=height, options=options)
        video.pix_fmt = "yuv420p"
        sound = None if audio is None else container.add_stream(audio, rate=48_000, layout="mono")
        for image, time in zip(images, times, strict=True):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = time, TICK
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        for first in range(0, (times[-1] + 1) * 1920 if sound else 0, 960):
            if silent_seconds[0] <= first / 48_000 < silent_seconds[1]:
                continue
            tone = (0.5 * np.sin(np.arange(first, first + 960) / 10)).astype(np.float32)[None]
            frame = av.AudioFrame.from_ndarray(tone, format="fltp", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = 48_000, first, Fraction(1, 48_000)
            container.mux(sound.encode(frame))
        if sound:
            container.mux(sound.encode(None))
    return path


def times_and_durations(path: Path, report: ReadReport | None = None) -> list[tuple[Fraction, Fraction]]:
    return [(frame.time_seconds, frame.duration_seconds) for frame in read_frames(path, KEEP_ALL, report)]


@pytest.mark.parametrize("second_offset", [0, 500])
@pytest.mark.parametrize(("suffix", "codec", "audio"), [("ts", "libx264", "aac"), ("mpg", "mpeg2video", "mp2")])
def test_times_continue_where_joined_streams_restart_or_jump(tmp_path, suffix, codec, audio, second_offset):
    first = write_stream(tmp_path / f"1.{suffix}", codec, audio=audio)
    second = write_stream(tmp_path / f"2.{suffix}", codec, audio=audio, offset_seconds=second_offset)
    joined = tmp_path / f"joined.{suffix}"
    joined.write_bytes(first.read_bytes() + second.read_bytes())
    report = ReadReport()
    frames = times_and_durations(joined, report)
    assert len(frames) == 50
    steps = np.diff([float(time) for time, _ in frames])
    assert np.allclose(steps, 0.04, atol=1e-4)
    assert [note.split(" at ")[0] for note in report.notes] == ["the file's clock jumps once,"]
    assert read_info(joined).duration_seconds == pytest.approx(2.0, abs=1e-3)

    output = tmp_path / "out.mp4"
    result = transform_video(joined, output, unchanged)
    assert any("clock jumps" in note for note in result.notes)
    times = audio_of(output).times
    assert all(0 < step < 0.07 for step in np.diff([float(time) for time in times]))
    assert float(times[-1]) == pytest.approx(float(timestamps_of(output)[-1]), abs=0.1)
    excerpt = transform_video(joined, tmp_path / "part.mp4", unchanged, options=VideoOptions(start=1.5))
    assert 12 <= excerpt.frames <= 14


def test_a_gap_in_the_audio_alone_stays(tmp_path):
    path = write_stream(
        tmp_path / "gap.ts", "mpeg2video", list(range(0, 750, 25)), audio="mp2", silent_seconds=(5, 20), bf="0"
    )
    result = transform_video(path, tmp_path / "out.mp4", unchanged)
    times = [float(time) for time in audio_of(tmp_path / "out.mp4").times]
    assert not any("clock" in note for note in result.notes)
    assert [(a, b) for a, b in pairwise(times) if b - a > 1] == [
        (pytest.approx(5, abs=0.1), pytest.approx(20, abs=0.1))
    ]
    assert times[-1] == pytest.approx(29, abs=0.1)


@pytest.mark.parametrize("audio", ["mp2", None])
def test_slides_stay_as_long_as_they_are(tmp_path, audio):
    path = write_stream(tmp_path / "slides.ts", "mpeg2video", [0, 300, 600, 900], audio=audio, bf="0")
    report = ReadReport()
    times = [float(time) for time, _ in times_and_durations(path, report)]
    assert times == pytest.approx([0, 12, 24, 36], abs=0.02)  # the codec's delay
    assert not report.notes and read_info(path).duration_seconds == pytest.approx(36.04, abs=0.1)


def test_a_gap_ahead_of_a_single_stream_stays(tmp_path):
    parts = [write_stream(tmp_path / f"{offset}.ts", "mpeg2video", offset_seconds=offset) for offset in (0, 500)]
    joined = tmp_path / "joined.ts"
    joined.write_bytes(b"".join(part.read_bytes() for part in parts))
    times = [float(time) for time, _ in times_and_durations(joined)]
    assert times[24] == pytest.approx(0.96) and times[25] == pytest.approx(500, abs=0.1)


def test_times_of_other_streams_are_no_jumps(tmp_path):
    path = tmp_path / "data.ts"
    with av.open(str(path), "w") as container:
        video = container.add_stream("mpeg2video", rate=25, width=64, height=48)
        video.pix_fmt = "yuv420p"
        data = container.add_data_stream("klv")
        for number, image in enumerate(moving_square(25, (48, 64))):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = number, TICK
            container.mux(video.encode(frame))
            if number in (5, 15):
                packet = av.Packet(b"some data")
                packet.pts = packet.dts = 90_000 * 2 * number
                packet.time_base, packet.stream = Fraction(1, 90_000), data
                container.mux(packet)
        container.mux(video.encode(None))
    with av.open(str(path)) as container:
        jumps = clock_jumps(container)
        assert not jumps and list(jumps.by_stream) == [0] and len(container.streams) == 2


@pytest.mark.parametrize(("codec", "options"), [("libx264", {"bf": "2", "b-adapt": "0"}), ("mpeg4", {"bf": "2"})])
def test_an_avi_with_b_frames_starts_at_zero_and_has_even_steps(tmp_path, codec, options):
    path = write_stream(tmp_path / "b.avi", codec, **options)
    with av.open(str(path)) as container:
        assert container.streams.video[0].codec_context.has_b_frames
    assert times_and_durations(path) == [(n * TICK, TICK) for n in range(25)]
    transform_video(path, tmp_path / "out.mp4", unchanged)
    assert timestamps_of(tmp_path / "out.mp4") == [n * TICK for n in range(25)]
    part = transform_video(path, tmp_path / "part.mp4", unchanged, options=VideoOptions(start=0.4, end=0.6))
    assert part.frames == 5


def test_an_avi_shows_a_frame_on_where_entries_are_empty(tmp_path):
    path = write_stream(tmp_path / "gaps.avi", "libx264", [0, 1, 2, 6, 7, 15, 16], bf="0")
    expected = [(0, 1), (1, 1), (2, 4), (6, 1), (7, 8), (15, 1), (16, 1)]
    assert times_and_durations(path) == [(start * TICK, length * TICK) for start, length in expected]
    info = read_info(path)
    assert (info.frame_count, info.fps) == (7, Fraction(6, 16) / TICK)


def test_a_packet_without_data_shows_the_frame_before_for_longer(tmp_path):
    path = tmp_path / "repeats.nut"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25, width=64, height=48)
        for number, image in enumerate(moving_square(10, (48, 64))):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = number, TICK
            for packet in stream.encode(frame):
                kept = packet if number % 4 == 0 else av.Packet(b"")
                kept.pts, kept.dts, kept.time_base, kept.stream = packet.pts, packet.dts, packet.time_base, stream
                container.mux(kept)
    assert times_and_durations(path) == [(0, 4 * TICK), (4 * TICK, 4 * TICK), (8 * TICK, 2 * TICK)]
    result = transform_video(path, tmp_path / "out.mp4", unchanged)
    assert (result.frames, result.truncation) == (3, None)


@pytest.mark.parametrize("suffix", [".webm", ".mp4", ".mkv"])
def test_a_stream_that_starts_before_zero_is_written_in_step(tmp_path, suffix):
    # The clock of 33 bits ends within a minute of the start, for which FFmpeg gives times below zero.
    path = write_stream(tmp_path / "wrap.ts", "libx264", audio="aac", offset_seconds=95_440)
    with av.open(str(path)) as container:
        assert container.start_time < 0
    same = write_stream(tmp_path / "same.ts", "libx264", audio="aac", offset_seconds=100)
    assert times_and_durations(path) == times_and_durations(same)
    outputs = [tmp_path / f"{name}{suffix}" for name in ("wrap", "same")]
    for source, output in zip((path, same), outputs, strict=True):
        assert transform_video(source, output, unchanged).frames == 25
    assert timestamps_of(outputs[0]) == timestamps_of(outputs[1])
    assert audio_of(outputs[0]).times == audio_of(outputs[1]).times


def combing(image_u8: np.ndarray) -> float:
    """How much rows differ from both of their neighbors, in one direction: high where two fields are interleaved."""
    gray = image_u8.mean(axis=2)
    above, below = gray[1:-1] - gray[:-2], gray[1:-1] - gray[2:]
    return float(np.mean(np.where(above * below > 0, np.minimum(abs(above), abs(below)), 0)))


def test_an_interlaced_video_is_deinterlaced_with_a_note(tmp_path):
    fields = [np.repeat(np.repeat(one, 2, 0), 2, 1) for one in moving_square(60, (36, 64))]
    images = []
    for number in range(20):
        image = fields[2 * number].copy()
        image[1::2] = fields[2 * number + 1][1::2]
        images.append(image)
    path = write_stream(
        tmp_path / "fields.mp4", "libx264", list(range(20)), images=images, crf="8", **{"x264-params": "tff=1"}
    )
    report = ReadReport()
    frames = list(read_frames(path, KEEP_ALL, report))
    assert [frame.time_seconds for frame in frames] == [n * TICK for n in range(20)]
    assert [note.split(":")[0] for note in report.notes] == ["the video is interlaced"]
    before, after = (np.mean([combing(image) for image in some]) for some in (images, unchanged(frames)))
    assert before > 1 and after < 0.2 * before
    assert len(list(read_frames(path, VideoOptions(start=0.4)))) == 10
    progressive = write_stream(tmp_path / "whole.mp4", "libx264", list(range(20)), images=images, crf="8")
    report = ReadReport()
    assert np.mean([combing(frame.image_u8) for frame in read_frames(progressive, KEEP_ALL, report)]) > 0.8 * before
    assert report.notes == []


def test_a_pipe_is_refused_at_once_as_input_and_as_output(tmp_path):
    pipe = tmp_path / "pipe.mp4"
    os.mkfifo(pipe)
    with pytest.raises(InputError, match="is a pipe, a socket or a device"):
        read_info(pipe)
    with pytest.raises(InputError, match="is a pipe, a socket or a device"):
        check_output(pipe, tmp_path / "in.mp4")
    with pytest.raises(InputError, match="is a pipe, a socket or a device"):
        read_info("/dev/null")


def silent_stream(path: Path) -> Path:
    """Write a transport stream that announces AAC audio and has no packet of it."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=25, width=64, height=48)
        video.pix_fmt = "yuv420p"
        container.add_stream("aac", rate=48_000, layout="mono")
        for number, image in enumerate(moving_square(5, (48, 64))):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = number, TICK
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
    return path


def open_files() -> set[str]:
    return {str(link.readlink()) for link in Path("/proc/self/fd").iterdir() if os.path.lexists(link)}


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="open files are listed in /proc")
@pytest.mark.parametrize("suffix", [".mov", ".mp4", ".mkv", ".webm"])
def test_audio_that_cannot_be_read_is_left_out_with_a_note_and_no_file_stays_open(tmp_path, suffix):
    path = silent_stream(tmp_path / "silent.ts")
    assert read_info(path).audio_codec == "aac"
    result = transform_video(path, tmp_path / f"out{suffix}", unchanged)
    assert (result.frames, result.info.audio_codec) == (5, None)
    assert any(note.startswith("the aac audio can't be read") for note in result.notes)
    assert not [name for name in open_files() if str(tmp_path) in name]


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="open files are listed in /proc")
def test_no_file_stays_open_where_a_header_cannot_be_written(tmp_path):
    # H.264 takes no image of this width, which the encoder says when the header is written.
    with pytest.raises((InputError, av.error.FFmpegError, AssertionError)):
        transform_video(
            write_stream(tmp_path / "in.mp4", times=[0, 1]),
            tmp_path / "out.mp4",
            lambda frames: [np.zeros((2, 100_000, 3), np.uint8) for _ in frames],
        )
    assert not [name for name in open_files() if str(tmp_path) in name]
    assert sorted(one.name for one in tmp_path.iterdir()) == ["in.mp4"]
