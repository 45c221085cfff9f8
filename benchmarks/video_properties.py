"""What goes into `transform_video` and what comes out, as another program (ffprobe) sees it, for every real clip.

Usage: python benchmarks/video_properties.py [FOLDER OF CLIPS] [REPORT.md]; needs ffprobe (Debian's package ffmpeg).
"""

import json
import subprocess
import sys
import tempfile
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from vitreous.video.info import Frame
from vitreous.video.options import KEEP_ALL, VideoOptions
from vitreous.video.stream import transform_video

CLIPS = Path(__file__).parents[2] / "shared" / "data" / "video"
REPORT = Path(__file__).parents[1] / "docs" / "video-properties.md"
OUTPUTS = {".mp4": KEEP_ALL, ".webm": KEEP_ALL, ".gif": VideoOptions(size=120)}
COLUMNS = [
    "file", "frames", "duration, s", "size", "frames/s", "rotation", "video codec", "audio codec",
    "pixel format, range, matrix",
]  # fmt: skip
INTRODUCTION = """# Video properties: input and output files

`python benchmarks/video_properties.py` runs every video of the test data through `transform_video`, with nothing drawn
on it, and writes MP4, WebM and GIF (120 pixels high). The table lists the properties of each file as ffprobe reports
them. The duration is that of the images: from the start of the first frame to the end of the last one. Rotation is
applied to the images, so no output has a rotation tag. H.264 needs even sides. GIF has no audio, and at most 50 frames
per second.
"""


def main() -> None:
    arguments = [Path(text) for text in sys.argv[1:]]
    clips, report = [*arguments, CLIPS, REPORT][0], [*arguments[1:], REPORT][0]
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for clip in sorted(clips.iterdir()):
            rows.append(row(clip, f"**{clip.name}**"))
            for suffix, options in OUTPUTS.items():
                target = Path(folder) / f"out{suffix}"
                transform_video(clip, target, unchanged, options=options)
                rows.append(row(target, f"→ {suffix}"))
            print(clip.name, flush=True)
    table = [COLUMNS, ["---"] * len(COLUMNS), *rows]
    report.write_text(INTRODUCTION + "\n" + "".join(f"| {' | '.join(cells)} |\n" for cells in table), encoding="utf-8")


def unchanged(frames: list[Frame]) -> list[np.ndarray]:
    return [frame.image_u8 for frame in frames]


def row(path: Path, name: str) -> list[str]:
    """One line of the table, from ffprobe alone."""
    streams = probe(path, "-show_streams")["streams"]
    image = next(stream for stream in streams if stream["codec_type"] == "video")
    sound = next((stream["codec_name"] for stream in streams if stream["codec_type"] == "audio"), "none")
    frames = probe(path, "-select_streams", "v:0", "-show_frames", "-show_entries", "frame=pts_time,duration_time")
    shown = [frame for frame in frames["frames"] if "pts_time" in frame]
    last = shown[-1]
    step = 1 / Fraction(image["avg_frame_rate"]) if not image["avg_frame_rate"].startswith("0") else Fraction(0)
    length = float(last["pts_time"]) + float(last.get("duration_time", step)) - float(shown[0]["pts_time"])
    turn = next((data["rotation"] for data in image.get("side_data_list", []) if "rotation" in data), 0)
    colors = [str(image.get(key, "-")) for key in ("pix_fmt", "color_range", "color_space")]
    rate = f"{float(Fraction(image['avg_frame_rate'])):.3f}" if step else "-"
    size = f"{image['width']} × {image['height']}"
    kind = image["codec_name"]
    return [name, str(len(frames["frames"])), f"{length:.3f}", size, rate, str(turn), kind, sound, ", ".join(colors)]


def probe(path: Path, *what: str) -> dict[str, Any]:
    command = ["ffprobe", "-v", "error", "-of", "json", *what, str(path)]
    return json.loads(subprocess.run(command, capture_output=True, check=True).stdout)


if __name__ == "__main__":
    main()
