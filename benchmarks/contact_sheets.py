"""Where a model looks in clips, as one image: a row of frames for each clip, from the written videos.

Command:  python benchmarks/contact_sheets.py [CLIP ...] [--weights FILE] [-o docs/clips.jpg]
"""

import argparse
import os
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from vitreous import load
from vitreous.clips.explain import run_request
from vitreous.clips.options import OutputOptions, SpeedOptions
from vitreous.clips.request import VideoRequest
from vitreous.process_tuning import keep_freed_memory, share_cores
from vitreous.video.decode import read_frames

SHARED = Path(os.environ.get("VITREOUS_SHARED", "../shared/data"))
CLIPS = [SHARED / "video" / name for name in ("dog.mp4", "juggle.mp4", "people.mp4", "pancake-sound.mkv")]
FRAMES, WIDTH, GAP, PAPER = 5, 384, 6, 18
HEIGHT = 720


def row_of(video: Path) -> Image.Image:
    """Frames of a clip at equal distances, side by side."""
    frames = [frame.image_u8 for frame in read_frames(video)]
    chosen = [frames[round(place)] for place in np.linspace(0.04, 0.96, FRAMES) * (len(frames) - 1)]
    height = round(WIDTH * chosen[0].shape[0] / chosen[0].shape[1])
    row = Image.new("RGB", (FRAMES * (WIDTH + GAP) - GAP, height), (PAPER,) * 3)
    for i, image in enumerate(chosen):
        small = Image.fromarray(image).resize((WIDTH, height), Image.Resampling.LANCZOS)
        row.paste(small, (i * (WIDTH + GAP), 0))
    return row


def main() -> None:
    """Make the image."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", nargs="*", type=Path, default=CLIPS)
    parser.add_argument("--weights", default=str(SHARED / "weights" / "dinov2-vits14.safetensors"))
    parser.add_argument("--input-size", type=int, default=448)
    parser.add_argument("--output", "-o", type=Path, default=Path("docs/clips.jpg"))
    options = parser.parse_args()
    keep_freed_memory()
    share_cores()
    model, rows = load(options.weights, input_size=options.input_size), []
    request = VideoRequest(output=OutputOptions(height=HEIGHT), speed=SpeedOptions(precision="auto"))
    for clip in options.clips:
        with tempfile.TemporaryDirectory() as folder:
            written = Path(folder) / "explained.mp4"
            explained = run_request(model, clip, written, request)
            print(f"{clip.name}: {explained.flicker.describe()}", flush=True)
            rows.append(row_of(written))
    sheet = Image.new("RGB", (rows[0].width, sum(row.height + GAP for row in rows) - GAP), (PAPER,) * 3)
    top = 0
    for row in rows:
        sheet.paste(row, (0, top))
        top += row.height + GAP
    sheet.save(options.output, quality=86)
    print(options.output)


if __name__ == "__main__":
    main()
