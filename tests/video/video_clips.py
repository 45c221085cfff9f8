"""What the video tests share: small clips drawn on the spot, and FFmpeg's own view of a file, without our code."""

from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from vitreous.video.encode import VideoWriter
from vitreous.video.info import Frame, VideoInfo


@dataclass(frozen=True)
class Audio:
    """The packets of a file's sound: their times in seconds and their bytes."""

    codec: str
    times: list[Fraction]
    payloads: list[bytes]


def moving_square(frames: int, size_hw: tuple[int, int] = (36, 64)) -> list[np.ndarray]:
    """A white square that goes over a dark slope."""
    height, width = size_hw
    images = []
    for number in range(frames):
        image = np.zeros((height, width, 3), np.uint8)
        image[..., 2] = np.linspace(0, 120, width).astype(np.uint8)
        image[height // 4 : height // 2 + 1, number % width : number % width + 8] = 255
        images.append(image)
    return images


def description(size_hw: tuple[int, int], time_base: Fraction, fps: Fraction = Fraction(25)) -> VideoInfo:
    """The record of a source that exists only in the test."""
    return VideoInfo(Path("drawn"), size_hw, fps, time_base, None, None, 0, None, "none")


def timestamps_of(path: Path) -> list[Fraction]:
    """The times of a file's images in seconds, by demuxing."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        return sorted(p.pts * p.time_base for p in container.demux(stream) if p.pts is not None)


def end_of(path: Path) -> Fraction:
    """When the last image of a file ends, in seconds, by decoding."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        step = 1 / stream.average_rate
        return max(f.pts * f.time_base + (f.duration * f.time_base or step) for f in container.decode(stream))


def audio_of(path: Path) -> Audio:
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        packets = [p for p in container.demux(stream) if p.dts is not None]
        times = [p.pts * p.time_base for p in packets]
        return Audio(stream.codec_context.codec.canonical_name, times, [bytes(p) for p in packets])


def audio_onset(path: Path) -> float:
    """When the sound of a file first gets loud, in seconds."""
    with av.open(str(path)) as container:
        to_float = av.AudioResampler(format="fltp")
        for frame in container.decode(audio=0):
            loud = np.flatnonzero(np.abs(to_float.resample(frame)[0].to_ndarray()).max(axis=0) > 0.2)
            if loud.size:
                return float(frame.pts * frame.time_base) + loud[0] / frame.sample_rate
    raise AssertionError(f"{path} is silent")


def record_with_audio(path: Path, codec: str, seconds: float = 1.0, late: float = 0.0, layout: str = "stereo") -> Path:
    """Write a clip of 25 frames a second whose tone sets in at half its time; everything starts `late` seconds late."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("mpeg4", rate=25, width=64, height=36, pix_fmt="yuv420p")
        sound = container.add_stream(codec, rate=48_000, layout=layout)
        for number, image in enumerate(moving_square(round(25 * seconds))):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = number + round(late * 25), Fraction(1, 25)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        samples = np.arange(round(seconds * 48_000))
        tone = 0.5 * np.sin(samples / 10) * (samples > samples.size // 2)
        for first in range(0, samples.size, 960):
            part = np.tile(tone[first : first + 960], (av.AudioLayout(layout).nb_channels, 1)).astype(np.float32)
            frame = av.AudioFrame.from_ndarray(part, format="fltp", layout=layout)
            frame.sample_rate, frame.pts, frame.time_base = 48_000, first + round(late * 48_000), Fraction(1, 48_000)
            container.mux(sound.encode(frame))
        container.mux(sound.encode(None))
    return path


def beginning(source: Path, target: Path, seconds: float) -> Path:
    """Copy the first seconds of a clip, packet by packet, so that a test need not wait for all of it."""
    with av.open(str(source)) as old, av.open(str(target), "w") as new:
        streams = [*old.streams.video, *old.streams.audio]
        copies = {stream.index: new.add_stream_from_template(stream) for stream in streams}
        for packet in old.demux(streams):
            if packet.dts is not None and packet.dts * packet.time_base < seconds:
                packet.stream = copies[packet.stream.index]
                new.mux(packet)
    return target


def write_wide_pixels(path: Path) -> Path:
    """Write a clip of three frames, 72 by 128 pixels, each 4/3 as wide as high."""
    source = replace(description((72, 128), Fraction(1, 10)), pixel_aspect=Fraction(4, 3))
    with VideoWriter(path, source, (72, 128)) as writer:
        for number, image in enumerate(moving_square(3, (72, 128))):
            writer.write(Frame(image, Fraction(number, 10)))
    return path
