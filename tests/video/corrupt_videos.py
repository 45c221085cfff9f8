"""Clips corrupt in ways that happen: cut off, bits flipped, blocks zeroed, two files spliced; all from one seed."""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
from video_clips import record_with_audio

from vitreous.video.encode import write_video

TINY = [("libopus", "a.mkv"), ("aac", "b.mp4"), ("aac", "c.ts"), ("mp2", "d.avi"), ("flac", "e.mkv"), ("aac", "f.mov")]
REAL = ["video/rotated-90.mov", "video/rotated-sound.mp4", "video/odd-321x241.mp4", "bad/corrupted.mp4"]


def source_videos(folder: Path, shared: Path | None) -> list[Path]:
    """Small whole clips of many kinds: drawn here, and real ones where they are at hand."""
    from video_clips import moving_square

    made = [record_with_audio(folder / name, codec, seconds=0.5) for codec, name in TINY]
    for name in ["g.mp4", "h.webm", "i.gif"]:
        write_video(folder / name, moving_square(12), Fraction(25))
        made.append(folder / name)
    return made + [shared / name for name in REAL if shared]


def corrupt(path: Path, other: Path, random: np.random.Generator) -> tuple[str, bytes]:
    """The bytes of a clip after one kind of damage, and what it was."""
    content = np.frombuffer(path.read_bytes(), np.uint8).copy()
    size = content.size
    kind = random.choice(["cut", "header", "middle", "zeros", "spliced", "tail", "dense"])
    start = int(random.integers(0, size))
    if kind == "cut":
        content = content[: max(1, start)]
    elif kind == "tail":
        content = content[start // 4 :]
    elif kind == "zeros":
        content[start : start + int(random.integers(1, size // 2))] = 0
    elif kind == "spliced":
        rest = np.frombuffer(other.read_bytes(), np.uint8)
        content = np.concatenate([content[:start], rest[rest.size * start // size :]])
    else:
        reach = {"header": min(size, 600), "middle": size, "dense": size}[kind]
        places = random.integers(0, reach, {"header": 3, "middle": 5, "dense": max(5, size // 200)}[kind])
        content[places] ^= (1 << random.integers(0, 8, places.size)).astype(np.uint8)
    return kind, content.tobytes()


def corrupt_variants(whole: list[Path], count: int, seed: int) -> Iterator[tuple[str, str, bytes]]:
    """`count` corrupt clips: (name, kind of damage, bytes)."""
    random = np.random.default_rng(seed)
    for number in range(count):
        path, other = whole[number % len(whole)], whole[int(random.integers(len(whole)))]
        kind, content = corrupt(path, other, random)
        yield f"{number:04d}-{kind}{path.suffix}", kind, content
