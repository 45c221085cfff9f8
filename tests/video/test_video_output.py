import csv
import errno
import io
import itertools
import subprocess
import sys
from dataclasses import replace
from fractions import Fraction

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from video_clips import audio_of, description, moving_square, record_with_audio, timestamps_of

from vitreous import files
from vitreous.errors import InputError
from vitreous.video import pipe
from vitreous.video.check import IncompleteVideoError
from vitreous.video.decode import read_frames
from vitreous.video.encode import VideoWriter, write_video
from vitreous.video.formats import FORMATS, resolve_format
from vitreous.video.info import Frame, read_info
from vitreous.video.options import VideoOptions
from vitreous.video.output import check_output
from vitreous.video.stream import transform_video


def same(frames):
    return [frame.image_u8 for frame in frames]


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """30 frames with AAC sound, 36 by 64 pixels."""
    return record_with_audio(tmp_path_factory.mktemp("source") / "in.mp4", "aac", seconds=1.2)


@settings(max_examples=20, deadline=None)
@given(
    size_hw=st.tuples(st.integers(1, 50), st.integers(1, 50)),
    gaps=st.lists(st.integers(20, 900), min_size=1, max_size=10),
)
def test_gif_times_and_duration_are_exact_to_a_hundredth(tmp_path_factory, size_hw, gaps):
    path = tmp_path_factory.mktemp("gif") / "clip.gif"
    time_base = Fraction(1, 1000)
    times = [sum(gaps[:number]) * time_base for number in range(len(gaps))]
    with VideoWriter(path, description(size_hw, time_base), size_hw) as writer:
        for image, time, gap in zip(moving_square(len(gaps), size_hw), times, gaps, strict=True):
            writer.write(Frame(image, time, gap * time_base))
    read = list(read_frames(path))
    assert len(read) == len(gaps)
    assert all(abs(frame.time_seconds - time) <= Fraction(1, 200) for frame, time in zip(read, times, strict=True))
    if len(gaps) > 1:
        end = read[-1].time_seconds + read[-1].duration_seconds
        assert abs(end - sum(gaps) * time_base) <= Fraction(1, 100)
        assert b"NETSCAPE2.0\x03\x01\x00\x00" in path.read_bytes()  # loops for ever
    assert read[0].image_u8.shape[:2] == size_hw


def test_the_colors_of_a_gif_are_close_and_change_with_the_frame(tmp_path):
    slope = np.linspace(0, 255, 64).astype(np.uint8)
    images = [np.zeros((48, 64, 3), np.uint8) for _ in range(3)]
    for channel, image in enumerate(images):
        image[..., channel] = slope
    write_video(tmp_path / "c.gif", images, Fraction(10))
    for image, frame in zip(images, read_frames(tmp_path / "c.gif"), strict=True):
        assert abs(frame.image_u8.astype(int) - image).mean() < 2


def test_a_gif_keeps_its_speed_above_50_frames_a_second(tmp_path):
    write_video(tmp_path / "in.mp4", moving_square(60), Fraction(60))
    result = transform_video(tmp_path / "in.mp4", tmp_path / "out.gif", same)
    times = [frame.time_seconds for frame in read_frames(tmp_path / "out.gif")]
    assert min(b - a for a, b in itertools.pairwise(times)) == Fraction(2, 100)
    assert abs(result.info.duration_seconds - 1) <= Fraction(2, 100)
    assert f"{60 - len(times)} frames were skipped" in result.notes[0]


@pytest.mark.parametrize(("height", "told"), [(720, ["a GIF of 40 x 720 pixels"]), (480, [])])
def test_a_large_gif_has_one_note_on_how_to_make_it_smaller(tmp_path, height, told):
    write_video(tmp_path / "in.mp4", [np.full((height, 40, 3), 9 * i, np.uint8) for i in range(4)], Fraction(10))
    notes = transform_video(tmp_path / "in.mp4", tmp_path / "out.gif", same).notes
    message = [note for note in notes if "--height 360" in note]
    assert len(message) == len(told) and all(note.startswith(start) for note, start in zip(message, told, strict=True))


@pytest.mark.parametrize(("suffix", "codec"), [(".webm", "vp9"), (".gif", "gif")])
def test_odd_sizes_stay_if_the_codec_allows_them(tmp_path, suffix, codec):
    write_video(tmp_path / f"odd{suffix}", moving_square(3, (21, 33)), Fraction(25))
    info = read_info(tmp_path / f"odd{suffix}")
    assert (info.size_hw, info.video_codec) == ((21, 33), codec)


def test_padding_an_odd_size_is_noted(tmp_path):
    write_video(tmp_path / "in.webm", moving_square(3, (21, 33)), Fraction(25))
    result = transform_video(tmp_path / "in.webm", tmp_path / "out.mp4", same)
    assert "33 x 21" in result.notes[0]


@pytest.mark.parametrize(
    ("codec", "name", "expected"), [("libopus", "a.mkv", "opus"), ("aac", "a.mp4", "opus"), ("flac", "b.mkv", "opus")]
)
def test_webm_copies_opus_and_encodes_the_rest_to_it(tmp_path, codec, name, expected):
    source = record_with_audio(tmp_path / name, codec)
    result = transform_video(source, tmp_path / "out.webm", same)
    assert (result.info.audio_codec, result.info.video_codec) == (expected, "vp9")
    if codec == "libopus":
        assert audio_of(tmp_path / "out.webm").payloads == audio_of(source).payloads
    assert all(
        abs(a - b) <= Fraction(1, 500)
        for a, b in zip(timestamps_of(tmp_path / "out.webm"), timestamps_of(source), strict=False)
    )


@pytest.mark.parametrize(
    ("layout", "mixed"), [("mono", ""), ("stereo", ""), ("5.1", ", and its 6 channels were mixed down to 2")]
)
def test_re_encoded_audio_is_noted(tmp_path, layout, mixed):
    source = record_with_audio(tmp_path / "in.mkv", "flac", layout=layout)
    told = transform_video(source, tmp_path / "out.mov", same).notes
    assert told == (f"the format can't hold flac audio: it was re-encoded as aac{mixed}",)
    assert transform_video(source, tmp_path / "out.mkv", same).notes == ()


@pytest.fixture(scope="module")
def wide_pixels(tmp_path_factory):
    """36 by 64 pixels, each 4/3 as wide as high, without sound."""
    return record_with_pixel_aspect(tmp_path_factory.mktemp("wide") / "in.mp4", Fraction(4, 3))


def record_with_pixel_aspect(path, aspect):
    source = replace(description((36, 64), Fraction(1, 25)), pixel_aspect=aspect)
    with VideoWriter(path, source, (36, 64)) as writer:
        for number, image in enumerate(moving_square(6)):
            writer.write(Frame(image, Fraction(number, 25)))
    assert read_info(path).pixel_aspect == aspect
    return path


@pytest.mark.parametrize(
    ("target", "spoken"), [("out.gif", "GIF"), ("out.webm", "WebM"), ("out/", "a folder"), ("-", "a pipe")]
)
def test_formats_with_square_pixels_get_them_with_one_note(wide_pixels, tmp_path, target, spoken, monkeypatch, capsys):
    out = io.BytesIO()
    monkeypatch.setattr(pipe.sys, "stdout", io.TextIOWrapper(out))
    result = transform_video(wide_pixels, "-" if target == "-" else f"{tmp_path}/{target}", same)
    assert (result.info.size_hw, result.info.pixel_aspect) == ((36, 85), 1)
    (note,) = result.notes
    assert note.startswith(spoken) and "1.33 times" in note and note.endswith("64 x 36 became 85 x 36")
    assert target != "-" or (len(out.getvalue()) == 6 * 36 * 85 * 3 and "85x36" in capsys.readouterr().err)


@pytest.mark.parametrize(
    ("aspect", "size", "expected"),
    [(Fraction(1, 2), None, (72, 64)), (Fraction(4, 3), 18, (18, 42)), (Fraction(4, 3), (10, 10), (10, 10))],
)
def test_square_pixels_of_other_sizes(tmp_path, aspect, size, expected):
    source, options = record_with_pixel_aspect(tmp_path / "in.mp4", aspect), VideoOptions(size=size)
    result = transform_video(source, tmp_path / "out.gif", same, options=options)
    assert result.info.size_hw == expected and bool(result.notes) == (not isinstance(size, tuple))


@pytest.mark.parametrize("name", ["out.mp4", "out.mkv", "out.mov"])
def test_other_formats_store_the_pixel_aspect(wide_pixels, tmp_path, name):
    result = transform_video(wide_pixels, tmp_path / name, same)
    assert (result.info.size_hw, result.info.pixel_aspect, result.notes) == ((36, 64), Fraction(4, 3), ())


def test_a_folder_of_png_holds_the_frames_to_the_bit_and_their_times(clip, tmp_path):
    result = transform_video(clip, f"{tmp_path}/frames/", same)
    frames = list(read_frames(clip))
    files = sorted((tmp_path / "frames").glob("*.png"))
    assert [file.name for file in files] == [f"frame-{number:06d}.png" for number in range(len(frames))]
    for file, frame in zip(files, frames, strict=True):
        with Image.open(file) as image:
            assert (np.asarray(image) == frame.image_u8).all()
    with (tmp_path / "frames" / "times.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["time_seconds"]) for row in rows] == [float(frame.time_seconds) for frame in frames]
    assert sum(float(row["duration_seconds"]) for row in rows) == pytest.approx(1.2)
    assert (result.info.video_codec, result.info.frame_count, result.info.duration_seconds) == (
        "png",
        30,
        Fraction(12, 10),
    )
    assert "can't hold audio: it was left out" in result.notes[0]


def test_an_output_folder_may_exist_empty_or_be_chosen_by_format(clip, tmp_path):
    (tmp_path / "empty").mkdir()
    transform_video(clip, tmp_path / "empty", same)
    transform_video(clip, tmp_path / "named", same, options=VideoOptions(format="png"))
    assert len(list((tmp_path / "empty").iterdir())) == len(list((tmp_path / "named").iterdir())) == 31
    for refused in ["empty", "named/"]:
        with pytest.raises(InputError, match="is not empty"):
            transform_video(clip, f"{tmp_path}/{refused}", lambda frames: pytest.fail("drawn"))


@pytest.mark.parametrize("target", ["frames/", "out.gif", "out.webm"])
def test_an_error_leaves_neither_file_nor_folder(clip, tmp_path, target):
    calls = []

    def draw(frames):
        calls.append(1)
        if len(calls) == 3:
            raise ZeroDivisionError
        return same(frames)

    with pytest.raises(ZeroDivisionError):
        transform_video(clip, f"{tmp_path}/{target}", draw)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_a_missing_file_is_not_reported_as_done(clip, tmp_path):
    def draw(frames):
        for path in tmp_path.rglob("frame-000003.png"):
            path.unlink()
        return same(frames)

    with pytest.raises(IncompleteVideoError, match="number of files"):
        transform_video(clip, f"{tmp_path}/frames/", draw)
    assert list(tmp_path.iterdir()) == []


def test_raw_frames_go_to_a_pipe_and_their_size_and_rate_are_printed(clip, tmp_path):
    code = (
        "import sys; from vitreous.video.stream import transform_video;"
        "transform_video(sys.argv[1], '-', lambda frames: [frame.image_u8 for frame in frames])"
    )
    done = subprocess.run([sys.executable, "-c", code, clip], capture_output=True, check=True)
    frames = list(read_frames(clip))
    assert done.stdout == b"".join(frame.image_u8.tobytes() for frame in frames)
    message = done.stderr.decode()
    assert message.count("\n") == 1
    assert "-f rawvideo -pixel_format rgb24 -video_size 64x36 -framerate 25 -i -" in message


def test_a_closed_pipe_is_reported_in_one_line(clip, monkeypatch, capsys):
    class Closed(io.RawIOBase):
        def write(self, _):
            raise BrokenPipeError(32, "Broken pipe")

    writer = pipe.PipeWriter(read_info(clip), (36, 64), Closed())
    with pytest.raises(InputError, match="after 0 frames: broken pipe"), writer:
        writer.write(next(read_frames(clip)))
    assert "raw frames follow" in capsys.readouterr().err


def test_every_format_is_written_and_read_back(clip, tmp_path):
    for name in FORMATS:
        if name.startswith("."):
            result = transform_video(clip, tmp_path / f"out{name}", same)
            assert len(timestamps_of(tmp_path / f"out{name}")) == result.frames == 30
            assert (result.info.audio_codec is None) == (FORMATS[name].audio_encoder is None)


def test_errors_name_the_formats_that_can(clip, tmp_path):
    cases = [
        ("out.gif", {"quality": 20}, r"gif has no quality.*\.mp4, \.m4v, \.mov, \.mkv, \.webm"),
        ("out.mp4", {"quality": 60}, "from 0 .best. to 51"),
        ("out.mp4", {"format": "webm"}, "its name ends in mp4"),
        ("out", {"format": "webmm"}, "did you mean 'webm'"),
        ("/proc/no/out.mp4", {}, "can't"),
    ]
    for target, values, message in cases:
        with pytest.raises(InputError, match=message):
            transform_video(clip, tmp_path / target, same, options=VideoOptions(**values))
    assert resolve_format("clip", "WEBM") == ".webm"
    assert list(tmp_path.iterdir()) == []


def test_an_output_under_a_file_or_in_a_read_only_folder(clip, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="file is a file"):
        check_output(tmp_path / "file" / "out.mp4", clip)

    def refuse(**_: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(files, "TemporaryFile", refuse)  # the tests may run as root, who writes everywhere
    for target in ["out.mp4", "frames/"]:
        with pytest.raises(InputError, match=r"can't write into .*: read-only file system"):
            check_output(f"{tmp_path}/{target}", clip)
    with pytest.raises(InputError, match="it is a file"):
        check_output(f"{tmp_path}/file/", clip)


def test_pyav_has_every_encoder_of_the_table():
    for kind in FORMATS.values():
        assert kind.encoder is None or kind.encoder.name in av.codecs_available
