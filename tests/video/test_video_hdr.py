"""Clips of more than 8 bits, of high dynamic range, and such as change their size on the way."""

from fractions import Fraction

import av
import numpy as np
import pytest
from video_clips import moving_square, timestamps_of

from vitreous.video.decode import read_frames
from vitreous.video.options import VideoOptions
from vitreous.video.stream import transform_video
from vitreous.video.trim import ReadReport

NITS = [0, 5, 20, 50, 100, 203, 400, 1000]


def ten_bit_video(path, luma, *, chroma=(512, 512), matrix=1, transfer=1, primaries=1, codec="ffv1"):
    """Three frames of vertical bars of 32 columns with these 10-bit values; 720 lines make BT.709 the usual matrix."""
    with av.open(str(path), "w") as container:
        width = 32 * len(luma)
        stream = container.add_stream(codec, rate=25, width=width, height=64, pix_fmt="yuv420p10le")
        context = stream.codec_context
        context.colorspace, context.color_trc, context.color_primaries, context.color_range = (
            matrix,
            transfer,
            primaries,
            1,
        )
        for number in range(3):
            frame = av.VideoFrame(width, 64, "yuv420p10le")
            rows = [np.repeat(np.uint16(luma), 32), *(np.full(width // 2, value, np.uint16) for value in chroma)]
            for plane, row in zip(frame.planes, rows, strict=True):
                stored = np.zeros((plane.height, plane.line_size // 2), np.uint16)
                stored[:, : row.size] = row
                plane.update(stored.tobytes())
            frame.pts, frame.time_base = number, Fraction(1, 25)
            frame.colorspace, frame.color_trc, frame.color_primaries, frame.color_range = (
                matrix,
                transfer,
                primaries,
                1,
            )
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def pq(nits):
    """SMPTE ST 2084's code value of a brightness, 10 bits in limited range."""
    m1, m2, c1, c2, c3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128
    part = (nits / 10000) ** m1
    return round(64 + 876 * ((c1 + c2 * part) / (1 + c3 * part)) ** m2)


@pytest.mark.parametrize(("matrix", "red", "blue"), [(1, 0.2126, 0.0722), (9, 0.2627, 0.0593), (5, 0.299, 0.114)])
def test_ten_bit_colors_follow_their_own_equations(tmp_path, matrix, red, blue):
    luma = [64, 200, 501, 700, 940]
    path = ten_bit_video(tmp_path / "ten.mkv", luma, chroma=(480, 560), matrix=matrix)
    image = next(read_frames(path)).image_u8
    for number, value in enumerate(luma):
        y, b, r = (value - 64) / 876, (480 - 512) / 896, (560 - 512) / 896
        rgb = [y + 2 * (1 - red) * r, 0.0, y + 2 * (1 - blue) * b]
        rgb[1] = (y - red * rgb[0] - blue * rgb[2]) / (1 - red - blue)
        assert np.abs(image[32, 32 * number + 16] - np.clip(np.array(rgb) * 255, 0, 255)).max() <= 1.5


def test_pq_is_tone_mapped_to_sdr(tmp_path):
    path = ten_bit_video(tmp_path / "hdr.mkv", [pq(nits) for nits in NITS], matrix=9, transfer=16, primaries=9)
    report = ReadReport()
    frames = list(read_frames(path, report=report))
    grays = frames[0].image_u8[32, 16::32].astype(int)
    assert grays.max() - grays.min() > 150
    assert (np.diff(grays[..., 0]) > 10).all()  # all brightnesses stay apart
    assert np.ptp(grays, axis=1).max() <= 2  # gray stays gray
    assert 140 <= grays[NITS.index(203), 0] <= 235  # white paper
    assert len(frames) == 3
    assert report.notes == ["the video is HDR (PQ): it was tone-mapped to SDR (BT.709)"]


def test_hlg_is_tone_mapped_with_a_note(tmp_path):
    path = ten_bit_video(tmp_path / "hlg.mkv", [64, 400, 721, 940], matrix=9, transfer=18, primaries=9)
    result = transform_video(path, tmp_path / "out.mp4", lambda frames: [frame.image_u8 for frame in frames])
    assert "HDR (HLG)" in result.notes[0]
    grays = next(read_frames(tmp_path / "out.mp4")).image_u8[32, 16::32, 0].astype(int)
    assert (np.diff(grays) > 20).all()


def video_of_changing_size(path, sizes):
    """A raw H.264 stream whose images change their size: streams of each of `sizes`, one after the other."""
    streams = []
    for number, size_hw in enumerate(sizes):
        part = path.with_name(f"part{number}.h264")
        with av.open(str(part), "w", format="h264") as container:
            stream = container.add_stream("libx264", rate=25, options={"bf": "0"})
            stream.height, stream.width = size_hw
            for image in moving_square(5, size_hw):
                image[:2], image[-2:] = (200, 0, 0), (200, 0, 0)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
            container.mux(stream.encode(None))
        streams.append(part.read_bytes())
        part.unlink()
    path.write_bytes(b"".join(streams))
    return path


def test_frames_of_another_size_are_fitted_into_the_first(tmp_path):
    path = video_of_changing_size(tmp_path / "in.h264", [(64, 96), (128, 192), (64, 64)])
    report = ReadReport()
    frames = list(read_frames(path, report=report))
    assert [frame.image_u8.shape for frame in frames] == [(64, 96, 3)] * 15
    assert report.notes == [
        "the video changes its size from 96 x 64 to 192 x 128: all frames are fitted to the first size"
    ]
    red = [frame.image_u8[0].astype(int) for frame in (frames[2], frames[7], frames[12])]
    assert all(abs(row[48] - [200, 0, 0]).max() < 60 for row in red)  # top to bottom
    assert abs(red[1][2] - [200, 0, 0]).max() < 60  # the same shape fills it
    assert (red[2][:16] == 0).all()  # a narrower one stands on black
    assert (red[2][-16:] == 0).all()


def test_a_video_that_changes_size_is_written_completely(tmp_path):
    path = video_of_changing_size(tmp_path / "in.h264", [(64, 96), (32, 96)])
    result = transform_video(
        path,
        tmp_path / "out.mp4",
        lambda frames: [frame.image_u8 for frame in frames],
        options=VideoOptions(size=32, every=2),
    )
    assert result.info.size_hw == (32, 48)
    assert len(timestamps_of(tmp_path / "out.mp4")) == 5
    assert "changes its size" in result.notes[0]
