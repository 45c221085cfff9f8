from fractions import Fraction

import av
import numpy as np
import pytest

from vitreous.errors import InputError
from vitreous.video.encode import write_video
from vitreous.video.info import read_info

EXPECTED = {  # name: (height, width), frames in the header, rotation, sound, codec
    "bikes.mp4": ((272, 640), 250, 0, None, "h264"),
    "bt709-full-range.mp4": ((720, 1280), 30, 0, None, "h264"),
    "bunny-sound.webm": ((720, 1280), None, 0, "vorbis", "vp8"),
    "dog.mp4": ((720, 1280), 289, 0, "aac", "h264"),
    "no-duration.webm": ((720, 1280), None, 0, "opus", "vp9"),
    "odd-314x273.gif": ((273, 314), 30, 0, None, "gif"),
    "odd-321x241.mp4": ((241, 321), 25, 0, None, "vp9"),
    "rotated-90.mov": ((568, 320), 3, -90, None, "h264"),
    "rotated-sound.mp4": ((480, 270), 17, 90, None, "h264"),
    "variable-rate-rotated-180.mp4": ((720, 1280), 25, 180, "aac", "h264"),
}


@pytest.mark.parametrize("name", EXPECTED)
def test_info_of_real_videos(shared, name):
    info = read_info(shared / "video" / name)
    assert (info.size_hw, info.frame_count, info.rotation_degrees, info.audio_codec, info.video_codec) == EXPECTED[name]


def test_rates_are_exact_fractions(shared):
    info = read_info(shared / "video" / "dog.mp4")
    assert info.fps == Fraction(30000, 1001)
    assert info.duration_seconds == Fraction(289289, 30000)
    assert read_info(shared / "video" / "no-duration.webm").duration_seconds is None
    assert read_info(shared / "video" / "people.mp4").pixel_aspect == Fraction(1024, 765)


def test_a_file_that_is_no_video_is_called_what_it_is(tmp_path):
    cases = {
        "missing.mp4": (None, "there is no file"),
        "empty.webm": (b"", "is empty"),
        "pointer.mp4": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "Git LFS pointer"),
        "words.txt": (b"hello\n" * 500, "can't be read as a video"),
        "list.m3u8": (b"#EXTM3U\n#EXTINF:9,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n", "can't be read as a video"),
    }
    for name, (content, message) in cases.items():
        path = tmp_path / name
        if content is not None:
            path.write_bytes(content)
        check_refused(path, message)
    check_refused(tmp_path, "is a folder")


def test_audio_files_and_photos_are_no_videos(tmp_path):
    song = tmp_path / "song.mp4"
    with av.open(str(song), "w") as container:
        stream = container.add_stream("aac", rate=48_000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 4800), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 48_000
        container.mux([*stream.encode(frame), *stream.encode(None)])
    check_refused(song, "no moving image, only audio")
    photo = tmp_path / "photo.png"
    av.VideoFrame.from_ndarray(np.zeros((8, 8, 3), np.uint8)).to_image().save(photo)
    check_refused(photo, "can't be read as a video")


@pytest.mark.parametrize("suffix", [".mkv", ".mp4", ".avi"])
def test_a_video_without_frames_is_refused(tmp_path, suffix):
    path = tmp_path / f"none{suffix}"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25, width=64, height=36, pix_fmt="yuv420p")
        container.start_encoding()
        container.mux(stream.encode(None))
    check_refused(path, str(path))


def test_a_name_that_looks_like_a_protocol_is_a_file(tmp_path, monkeypatch, shared):
    (tmp_path / "a:b.mp4").write_bytes((shared / "video" / "rotated-90.mov").read_bytes())
    monkeypatch.chdir(tmp_path)
    assert read_info("a:b.mp4").size_hw == (568, 320)


def test_metadata_in_another_encoding_does_no_harm(tmp_path):
    path = tmp_path / "clip.mp4"
    write_video(path, [np.zeros((8, 8, 3), np.uint8)] * 2, Fraction(25))
    path.write_bytes(path.read_bytes().replace(b"iso2", b"\xe9so2"))
    assert read_info(path).size_hw == (8, 8)


@pytest.mark.parametrize("name", ["empty.webm", "git_lfs_pointer.pth", "truncated_checkpoint.pt"])
def test_bad_files_are_refused(shared, name):
    check_refused(shared / "bad" / name, name)


def check_refused(path, message):
    with pytest.raises(InputError) as caught:
        read_info(path)
    message = str(caught.value)
    assert message in message
    assert str(path) in message
    assert "\n" not in message
