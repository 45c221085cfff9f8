"""Explained clips in a browser: whether headless Chromium plays each to its end, and what colors it shows.

Usage: python benchmarks/video_playback.py [--folder FOLDER] [--report REPORT.md]; needs Chromium.

The model is tiny and random: what is looked at are the files. Each is served from 127.0.0.1, by ranges as servers do,
to a browser of its own. Files that `--folder` holds already are not written again.
"""

import argparse
import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch

from vitreous.clips.explain import run_request
from vitreous.clips.options import OutputOptions
from vitreous.clips.request import VideoRequest
from vitreous.imaging.preprocessing import Preprocessing
from vitreous.model.classifier import ImageClassifier
from vitreous.model.config import named_config
from vitreous.model.vit import ViT
from vitreous.video.info import Frame
from vitreous.video.stream import transform_video

CLIPS = Path(os.environ.get("VITREOUS_SHARED", "../shared/data")) / "video"
REPORT = Path(__file__).parents[1] / "docs" / "video-properties.md"
CHROMIUM = "/usr/bin/chromium"
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--autoplay-policy=no-user-gesture-required",
]
EVERY_FORMAT = ("dog.mp4", "odd-314x273.gif", "variable-rate-rotated-180.mp4")
"""Clips that are written as WebM and GIF too."""
FULL_RANGE = "bt709-full-range.mp4"
PATIENCE_SECONDS = 60
COLUMNS = ("file", "width × height", "duration, s", "played to the end", "frames", "presented",
           "color error: mean", "color error: field", "error")  # fmt: skip
HEADING = "## Playback in a browser\n"
INTRODUCTION = """
`python benchmarks/video_playback.py` writes every video of the test data with a map over it, and three of them also as
WebM and GIF (240 pixels high). Each file is served from 127.0.0.1 by range requests, opened in headless Chromium
{version}, and played at {rate} times its speed.

- Width, height and duration are those that the browser reports. people.mp4 has pixels that are not square, like its
  source. A duration includes the audio.
- "frames" counts the frames of the file, as PyAV decodes them. "presented" counts those that the browser presented: as
  many as the machine ({cores} cores, shared, no GPU) drew in time. A GIF goes through the browser's own image decoder;
  for it, "presented" counts the frames that differ from the one before.
- The color error compares the frame in the middle, drawn to a canvas, with the same frame decoded by PyAV. It is the
  largest difference, of 255 levels, in the mean red, green and blue of the whole frame ("mean"), and of each of 4 × 4
  fields ("field").

The last two rows are a video with nothing drawn on it, compared with its source, and that source itself, which has the
full range. This Chromium shows the most saturated blue and yellow of limited range by up to 11 levels paler than they
are.
"""
PAGE = """<!doctype html><meta charset="utf-8"><title>played</title><body></body><script>
const {name, rate} = Object.fromEntries(new URLSearchParams(location.search))
const canvas = document.createElement("canvas"), ROWS = 4, COLUMNS = 4
const event = (target, kind) => new Promise(done => target.addEventListener(kind, done, {once: true}))
const pause = seconds => new Promise(done => setTimeout(done, 1000 * seconds))

function fields(image, width, height) {
  [canvas.width, canvas.height] = [width, height]
  const context = canvas.getContext("2d", {willReadFrequently: true})
  context.drawImage(image, 0, 0)
  const pixels = context.getImageData(0, 0, width, height).data
  const sums = Array.from({length: ROWS * COLUMNS}, () => [0, 0, 0, 0])
  for (let y = 0, at = 0; y < height; y++) for (let x = 0; x < width; x++, at += 4) {
    const sum = sums[COLUMNS * Math.floor(y * ROWS / height) + Math.floor(x * COLUMNS / width)]
    for (let channel = 0; channel < 3; channel++) sum[channel] += pixels[at + channel]
    sum[3]++
  }
  return sums.map(([red, green, blue, count]) => [red / count, green / count, blue / count])
}

async function film() {
  const video = document.body.appendChild(document.createElement("video"))
  video.muted = true
  video.src = name
  const failed = event(video, "error").then(() => { throw Error(video.error.message || "code " + video.error.code) })
  await Promise.race([event(video, "loadeddata"), failed])
  const found = {width: video.videoWidth, height: video.videoHeight, duration: video.duration}
  let last = null
  const watch = (_, shown) => { last = shown; video.requestVideoFrameCallback(watch) }
  video.requestVideoFrameCallback(watch)
  const seek = async seconds => {
    const arrived = event(video, "seeked")
    video.currentTime = seconds
    await Promise.race([arrived, failed])
    await pause(0.3)
  }
  await seek(video.duration / 2)
  found.fields = fields(video, found.width, found.height)
  found.at = last.mediaTime
  await seek(0)
  const before = last.presentedFrames - 1  // the first frame is there already
  const ended = event(video, "ended")
  video.playbackRate = rate
  await Promise.race([video.play(), failed])
  await Promise.race([ended, failed, pause(2 * video.duration + 10)])
  await pause(0.1)
  found.ended = video.ended
  found.presented = last.presentedFrames - before
  return found
}

async function animation() {
  const image = document.body.appendChild(new Image())
  image.src = name
  await image.decode()
  const decoder = new ImageDecoder({data: (await fetch(name)).body, type: "image/gif"})
  await decoder.tracks.ready
  await decoder.completed
  const found = {width: image.naturalWidth, height: image.naturalHeight, duration: 0, presented: 0}
  const count = decoder.tracks.selectedTrack.frameCount
  let before = ""
  for (let index = 0; index < count; index++) {
    const frame = (await decoder.decode({frameIndex: index})).image
    const means = fields(frame, found.width, found.height), now = JSON.stringify(means)
    if (index === Math.floor(count / 2)) [found.fields, found.at] = [means, frame.timestamp / 1e6]
    found.duration += frame.duration / 1e6
    found.presented += now !== before
    before = now
    frame.close()
  }
  found.ended = true
  return found
}

(name.endsWith(".gif") ? animation() : film()).catch(error => ({error: String(error)}))
  .then(found => fetch("found", {method: "POST", body: JSON.stringify(found)}))
</script>"""


class Site(BaseHTTPRequestHandler):
    """The page, the files of a folder by ranges, and what the page has found."""

    protocol_version = "HTTP/1.1"

    def __init__(self, folder: Path, found: "queue.Queue[dict[str, Any]]", *rest: Any) -> None:
        self.folder, self.found = folder, found
        super().__init__(*rest)

    def handle(self) -> None:
        with suppress(ConnectionError):  # the browser has enough, or was ended
            super().handle()

    def do_GET(self) -> None:
        path = self.folder / self.path.strip("/")
        if self.path.startswith("/?"):
            self.answer(PAGE.encode(), {"Content-Type": "text/html"})
        elif not path.is_file():
            self.send_error(404)
        else:
            self.send_part(path)

    def send_part(self, path: Path) -> None:
        """The file, or what the request wants of it."""
        data, kind = path.read_bytes(), "image/gif" if path.suffix == ".gif" else f"video/{path.suffix[1:]}"
        headers = {"Content-Type": kind, "Accept-Ranges": "bytes"}
        wanted = self.headers.get("Range", "").removeprefix("bytes=")
        if not wanted:
            self.answer(data, headers)
            return
        first, _, last = wanted.partition("-")
        part = data[int(first) : int(last or len(data)) + 1]
        content = f"bytes {first}-{int(first) + len(part) - 1}/{len(data)}"
        self.answer(part, headers | {"Content-Range": content}, 206)

    def do_POST(self) -> None:
        self.found.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.answer(b"", {})

    def answer(self, data: bytes, headers: dict[str, str], status: int = 200) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@contextmanager
def browser(address: str) -> Iterator[None]:
    """A Chromium with a profile of its own at an address, until the end of the block."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = [CHROMIUM, *FLAGS, f"--user-data-dir={profile}", address]
        quiet = subprocess.DEVNULL
        process = subprocess.Popen(command, stdout=quiet, stderr=quiet, start_new_session=True)
        try:
            yield
        finally:
            os.killpg(process.pid, signal.SIGTERM)  # the group that was started above, and no other
            process.wait()


def played(folder: Path, names: list[str], rate: float) -> Iterator[dict[str, Any]]:
    """What the browser finds of each file."""
    found: queue.Queue[dict[str, Any]] = queue.Queue()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Site, folder, found)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        for name in names:
            with browser(f"http://127.0.0.1:{server.server_port}/?name={name}&rate={rate}"):
                try:
                    yield found.get(timeout=PATIENCE_SECONDS)
                except queue.Empty:
                    yield {"error": f"nothing was heard in {PATIENCE_SECONDS} s"}
        server.shutdown()


def explained(clips: list[Path], folder: Path) -> list[str]:
    """Write the clips with maps over them; the files' names."""
    torch.manual_seed(0)
    config = named_config("micro/4-32")
    preprocessing = Preprocessing((32, 32), "squash", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), 4)
    classifier = ImageClassifier(ViT(config), preprocessing, tuple(f"class {i}" for i in range(config.num_classes)))
    names = []
    for clip in clips:
        for suffix in (".mp4", ".webm", ".gif")[: 3 if clip.name in EVERY_FORMAT else 1]:
            names.append(clip.stem + suffix)
            if not (folder / names[-1]).exists():
                output = OutputOptions(height=240 if suffix == ".gif" else None)
                run_request(classifier, clip, folder / names[-1], VideoRequest(output=output))
                print(names[-1], "is written", file=sys.stderr)
    return names


def unchanged(frames: list[Frame]) -> list[np.ndarray]:
    return [frame.image_u8 for frame in frames]


def decoded(path: Path, seconds: float) -> tuple[int, np.ndarray]:
    """How many frames a clip has, and the mean colors of 4 × 4 fields of the one nearest to a time, by PyAV."""
    count, nearest, best = 0, None, float("inf")
    with av.open(path) as container:
        for frame in container.decode(video=0):
            count += 1
            distance = abs(float(frame.time or 0) - seconds)
            if distance < best:
                nearest, best = frame, distance
        assert nearest is not None
        matrix = "DEFAULT" if path.suffix == ".gif" else "ITU709"
        image = nearest.to_ndarray(format="rgb24", src_colorspace=matrix, dst_colorspace=matrix)
    rows = np.arange(image.shape[0]) * 4 // image.shape[0]
    columns = np.arange(image.shape[1]) * 4 // image.shape[1]
    return count, np.array([[image[rows == y][:, columns == x].mean((0, 1)) for x in range(4)] for y in range(4)])


def row(name: str, reference: Path, found: dict[str, Any]) -> list[str]:
    """One line of the table."""
    if "error" in found:
        return [name, *"-------", found["error"]]
    frames, fields = decoded(reference, found["at"])
    off = np.reshape(found["fields"], (4, 4, 3)) - fields
    shape, ended = f"{found['width']} × {found['height']}", "yes" if found["ended"] else "no"
    mean, field = np.abs(off.mean((0, 1))).max(), np.abs(off).max()
    return [name, shape, f"{found['duration']:.3f}", ended, str(frames), str(found["presented"]),
            f"{mean:.1f}", f"{field:.1f}", "none"]  # fmt: skip


def section(rows: list[list[str]], rate: float) -> str:
    """The report's section."""
    version = subprocess.run([CHROMIUM, "--version"], capture_output=True, text=True, check=True).stdout.split()[1]
    introduction = INTRODUCTION.format(version=version, rate=f"{rate:g}", cores=os.cpu_count())
    lines = [COLUMNS, ["---"] * len(COLUMNS), *rows]
    return f"{HEADING}{introduction}\n" + "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def main() -> None:
    """Write the clips, have them played, and put the table into the report's section."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, help="for the clips; a temporary one by default")
    parser.add_argument("--report", type=Path, default=REPORT)
    parser.add_argument("--rate", type=float, default=2, help="speed at which the clips are played")
    parser.add_argument("clips", nargs="*", type=Path, help=f"all of {CLIPS} by default")
    given = parser.parse_args()
    clips = given.clips or sorted(CLIPS.iterdir())
    with tempfile.TemporaryDirectory() as place:
        folder = given.folder or Path(place)
        folder.mkdir(exist_ok=True)
        references = {name: folder / name for name in explained(clips, folder)}
        if any(clip.name == FULL_RANGE for clip in clips):
            transform_video(CLIPS / FULL_RANGE, folder / f"plain-{FULL_RANGE}", unchanged)
            shutil.copyfile(CLIPS / FULL_RANGE, folder / f"source-{FULL_RANGE}")
            references |= {f"{kind}-{FULL_RANGE}": CLIPS / FULL_RANGE for kind in ("plain", "source")}
        rows = []
        findings = played(folder, list(references), given.rate)
        for (name, reference), found in zip(references.items(), findings, strict=True):
            rows.append(row(name, reference, found))
            print(*rows[-1], sep=" | ", flush=True)
    before = given.report.read_text(encoding="utf-8").partition("\n" + HEADING)[0] if given.report.exists() else ""
    given.report.write_text(f"{before}\n{section(rows, given.rate)}", encoding="utf-8")


if __name__ == "__main__":
    main()
