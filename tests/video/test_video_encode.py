import resource
from contextlib import contextmanager
from fractions import Fraction
from itertools import accumulate
from types import SimpleNamespace

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from video_clips import (
    audio_of,
    audio_onset,
    beginning,
    description,
    end_of,
    moving_square,
    record_with_audio,
    timestamps_of,
)

from vitreous.errors import InputError
from vitreous.video import encode
from vitreous.video.audio import make_monotonic
from vitreous.video.check import IncompleteVideoError
from vitreous.video.decode import read_frames
from vitreous.video.encode import VideoWriter, write_video
from vitreous.video.folder import FolderWriter
from vitreous.video.info import Frame, read_info
from vitreous.video.output import check_output

TIME_BASES = [Fraction(1, 1000), Fraction(1001, 30000), Fraction(1, 90000), Fraction(1, 25), Fraction(1, 1200000)]


@settings(max_examples=25, deadline=None)
@given(
    size_hw=st.tuples(st.integers(1, 70), st.integers(1, 70)),
    gaps=st.lists(st.integers(1, 5000), min_size=1, max_size=12),
    time_base=st.sampled_from(TIME_BASES),
    suffix=st.sampled_from([".mp4", ".mov", ".m4v"]),
)
def test_decoding_what_was_encoded_gives_count_times_and_size(tmp_path_factory, size_hw, gaps, time_base, suffix):
    path = tmp_path_factory.mktemp("clip") / f"clip{suffix}"
    times = [tick * time_base for tick in accumulate(gaps[1:], initial=gaps[0] % 7)]
    images = moving_square(len(times), size_hw)
    with VideoWriter(path, description(size_hw, time_base), size_hw) as writer:
        for image, time in zip(images, times, strict=True):
            writer.write(Frame(image, time, gaps[0] * time_base))
    read = list(read_frames(path))
    height, width = size_hw
    assert {frame.image_u8.shape for frame in read} == {(height + height % 2, width + width % 2, 3)}
    assert [frame.time_seconds for frame in read] == [time - times[0] for time in times]
    assert timestamps_of(path) == times
    assert read[-1].duration_seconds == gaps[0] * time_base


def test_matroska_keeps_times_to_its_millisecond(tmp_path):
    path, times = tmp_path / "clip.mkv", [Fraction(number * 1001, 30000) for number in (0, 1, 2, 9)]
    with VideoWriter(path, description((20, 30), Fraction(1, 30000)), (20, 30)) as writer:
        for image, time in zip(moving_square(4, (20, 30)), times, strict=True):
            writer.write(Frame(image, time))
    assert all(abs(a - b) <= Fraction(1, 2000) for a, b in zip(timestamps_of(path), times, strict=True))


def test_an_odd_image_is_padded_at_its_edge(tmp_path):
    image = np.zeros((21, 33, 3), np.uint8)
    image[:, 20:] = (200, 200, 200)
    image[12:] = (90, 90, 90)
    write_video(tmp_path / "odd.mp4", [image] * 2, Fraction(10))
    decoded = next(read_frames(tmp_path / "odd.mp4")).image_u8.astype(int)
    assert decoded.shape == (22, 34, 3)
    assert abs(decoded[:21, :33] - image).mean() < 3
    assert abs(decoded[21, :] - 90).max() < 12
    assert abs(decoded[:10, 33] - 200).max() < 12


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_saturated_colors_survive_and_are_tagged_as_bt709(tmp_path, suffix):
    path = tmp_path / f"colors{suffix}"
    colors = [(r, g, b) for r in (10, 245) for g in (10, 245) for b in (10, 245)] + [(0, 0, 0), (255, 255, 255)]
    image = np.concatenate([np.full((32, 32, 3), color, np.uint8) for color in colors], axis=1)
    write_video(path, [image] * 3, Fraction(25))
    decoded = list(read_frames(path))[-1].image_u8.astype(int)
    for number, color in enumerate(colors):
        patch = decoded[8:24, 32 * number + 8 : 32 * number + 24]
        assert abs(patch - np.array(color)).max() <= 5, color
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
        assert (frame.colorspace, frame.color_range, frame.color_primaries, frame.color_trc) == (1, 1, 1, 1)
        # BT.709's luma of (10, 245, 10) in limited range; BT.601's is 145
        assert abs(np.asarray(frame.planes[0])[16 * frame.planes[0].line_size + 2 * 32 + 16] - 168.9) <= 2


def test_non_square_pixels_stay_non_square(tmp_path, shared):
    source = read_info(shared / "video" / "people.mp4")
    with VideoWriter(tmp_path / "wide.mp4", source, (36, 64)) as writer:
        writer.write(Frame(moving_square(1)[0], Fraction(0)))
    assert read_info(tmp_path / "wide.mp4").pixel_aspect == source.pixel_aspect


def test_a_video_can_be_played_while_it_downloads(tmp_path):
    write_video(tmp_path / "clip.mp4", moving_square(5), Fraction(30000, 1001))
    content = (tmp_path / "clip.mp4").read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")
    info = read_info(tmp_path / "clip.mp4")
    assert (info.fps, info.frame_count) == (Fraction(30000, 1001), 5)
    assert info.duration_seconds == 5 * Fraction(1001, 30000)


SOUNDS = [  # codec of the source, its file, the target, codec there
    ("aac", "a.mp4", ".mp4", "aac"),
    ("aac", "a.ts", ".mov", "aac"),
    ("libmp3lame", "a.mkv", ".mp4", "mp3"),
    ("ac3", "a.mkv", ".m4v", "ac3"),
    ("flac", "a.mkv", ".mp4", "flac"),
    ("libopus", "a.mkv", ".mp4", "opus"),
    ("libopus", "a.mp4", ".mkv", "opus"),
    ("libopus", "a.mkv", ".mov", "aac"),
    ("pcm_s16le", "a.mkv", ".mp4", "aac"),
    ("pcm_s16le", "a.mkv", ".mov", "pcm_s16le"),
    ("aac", "a.mp4", ".mkv", "aac"),
]


@pytest.mark.parametrize(("codec", "name", "suffix", "expected"), SOUNDS)
def test_audio_is_remuxed_bit_for_bit_or_becomes_aac_and_stays_in_sync(tmp_path, codec, name, suffix, expected):
    source, target = record_with_audio(tmp_path / name, codec), tmp_path / f"out{suffix}"
    copy_frames(source, target)
    before, after = audio_of(source), audio_of(target)
    assert after.codec == expected
    assert (
        abs(audio_onset(target) - timestamps_of(target)[0] - (audio_onset(source) - timestamps_of(source)[0])) < 0.006
    )
    if before.codec == expected and not name.endswith(".ts"):  # there each packet has a header that MP4 has elsewhere
        run_in = sum(time < 0 for time in before.times) if suffix == ".mkv" and expected != "opus" else 0
        assert b"".join(after.payloads) == b"".join(before.payloads[run_in:])
        if not codec.startswith("pcm"):  # raw samples come back in packets of another length
            times = zip(after.times, before.times[run_in:], strict=True)
            assert all(abs(a - b) <= Fraction(1, 1000) for a, b in times)


@pytest.mark.parametrize(("suffix", "expected"), [(".mp4", "aac"), (".mkv", "vorbis")])
def test_vorbis_is_copied_into_matroska_only(tmp_path, shared, suffix, expected):
    source = beginning(shared / "video" / "bunny-sound.webm", tmp_path / "bunny.mkv", seconds=0.5)
    info = read_info(source)
    with VideoWriter(tmp_path / f"out{suffix}", info, (36, 64)) as writer:
        for frame in read_frames(source):
            writer.write(Frame(frame.image_u8[::20, ::20], frame.time_seconds, frame.duration_seconds))
    before, after = audio_of(source), audio_of(tmp_path / f"out{suffix}")
    assert after.codec == expected
    assert abs(after.times[-1] - before.times[-1]) < Fraction(1, 20)
    assert expected == "aac" or after.payloads == before.payloads


def test_a_late_start_keeps_audio_and_images_in_sync(tmp_path):
    source, target = record_with_audio(tmp_path / "late.ts", "mp2", late=20), tmp_path / "out.mp4"
    copy_frames(source, target)
    assert timestamps_of(target)[0] < Fraction(1, 10)
    assert (
        abs(audio_onset(target) - timestamps_of(target)[0] - (audio_onset(source) - timestamps_of(source)[0])) < 0.006
    )
    assert abs(end_of(target) - 1) < Fraction(1, 10)


def test_audio_can_be_cut_with_the_images(tmp_path):
    source, target = record_with_audio(tmp_path / "a.mp4", "aac", seconds=2), tmp_path / "out.mp4"
    with VideoWriter(target, read_info(source), (36, 64)) as writer:
        for frame in list(read_frames(source))[:20]:
            writer.write(frame)
        writer.cut_audio()
    assert end_of(target) == Fraction(20, 25)
    assert Fraction(20, 25) - Fraction(1024, 48000) <= audio_of(target).times[-1] < Fraction(20, 25)


def test_audio_packets_become_monotonic():
    packets = []
    for stamp in [0, 20, 20, 5, 60, 80]:
        packet = av.Packet(b"x")
        packet.pts, packet.dts, packet.duration = stamp, stamp, 20
        packets.append(packet)
    assert [packet.pts for packet in make_monotonic(iter(packets))] == [0, 20, 40, 60, 80, 100]


def test_names_without_a_video_format_are_refused(tmp_path):
    source = record_with_audio(tmp_path / "a.mp4", "aac")
    for name in ["out.avi", "out"]:
        with pytest.raises(InputError, match=r"end the name in \.mp4, \.m4v, \.mov, \.mkv, \.webm, \.gif"):
            check_output(tmp_path / name, source)
    (tmp_path / "link.mp4").symlink_to(source)
    for name in ["a.mp4", "link.mp4"]:
        with pytest.raises(InputError, match="is the video that is being read"):
            check_output(tmp_path / name, source)
    (tmp_path / "folder.mp4").mkdir()
    with pytest.raises(InputError, match="is a folder"):
        write_video(tmp_path / "folder.mp4", moving_square(2), Fraction(25))


def test_an_error_while_writing_leaves_nothing_and_what_was_there_stays(tmp_path):
    target = tmp_path / "out.mp4"
    target.write_bytes(b"earlier")
    with (
        pytest.raises(ZeroDivisionError),
        VideoWriter(target, description((36, 64), Fraction(1, 25)), (36, 64)) as clip,
    ):
        clip.write(Frame(moving_square(1)[0], Fraction(0)))
        raise ZeroDivisionError
    assert [path.name for path in tmp_path.iterdir()] == ["out.mp4"]
    assert target.read_bytes() == b"earlier"


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".webm", ".gif"])
def test_a_full_disk_is_reported_in_one_line(tmp_path, suffix):
    noise = np.random.default_rng(0).integers(0, 256, (30, 96, 128, 3)).astype(np.uint8)
    with file_size_limit(40_000), pytest.raises(InputError, match=rf"can't write .*noise{suffix}: ") as caught:
        write_video(tmp_path / f"noise{suffix}", noise, Fraction(25))
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_no_folder_either(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (128, 128, 3)).astype(np.uint8)
    folder = FolderWriter(tmp_path / "frames", description((128, 128), Fraction(1, 25)), (128, 128))
    with file_size_limit(20_000), pytest.raises(InputError, match=r"can't write the folder .*frames: "), folder:
        folder.write(Frame(noise, Fraction(0)))
    assert list(tmp_path.iterdir()) == []


def test_no_space_left_is_reported_in_those_words(tmp_path, monkeypatch):
    def no_space(*_):
        raise av.error.OSError(28, "No space left on device")

    monkeypatch.setattr(encode.VideoTrack, "finish", no_space)
    with pytest.raises(InputError, match=r"out.mp4: no space left on device$"):
        write_video(tmp_path / "out.mp4", moving_square(3), Fraction(25))
    assert list(tmp_path.iterdir()) == []


def test_a_video_that_reads_back_differently_is_not_reported_as_done(tmp_path, monkeypatch):
    real = encode.verify_video
    wrong = {
        "number of frames": lambda p: {"ticks": p.ticks[:-1], "stored_hw": p.stored_hw, "time_base": p.time_base},
        "size": lambda p: {"ticks": p.ticks, "stored_hw": (38, 64), "time_base": p.time_base},
        "frame 2 ": lambda p: {"ticks": p.ticks, "stored_hw": p.stored_hw, "time_base": p.time_base * 3},
    }
    for message, change in wrong.items():
        monkeypatch.setattr(
            encode,
            "verify_video",
            lambda path, image, *, has_audio, change=change: real(
                path, SimpleNamespace(**change(image)), has_audio=has_audio
            ),
        )
        with pytest.raises(IncompleteVideoError, match=message):
            write_video(tmp_path / "out.mp4", moving_square(6), Fraction(25))
    monkeypatch.setattr(encode, "verify_video", lambda path, image, *, has_audio: real(path, image, has_audio=True))
    with pytest.raises(IncompleteVideoError, match="audio"):
        write_video(tmp_path / "out.mp4", moving_square(6), Fraction(25))
    assert list(tmp_path.iterdir()) == []


def copy_frames(source, target):
    info = read_info(source)
    with VideoWriter(target, info, info.size_hw) as writer:
        for frame in read_frames(source):
            writer.write(frame)


@contextmanager
def file_size_limit(size_bytes):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
