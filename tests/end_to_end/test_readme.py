"""What the README says, done in a subprocess as a user would."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
SMALL = ["--set", "epochs=0.3", "--set", "model.depth=2", "--set", "model.embed_dim=48"]


def vitreous(*arguments: object, cwd: Path, code: int = 0) -> str:
    """Run the command line and return what it printed on standard output."""
    command = [sys.executable, "-m", "vitreous", *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "2", "OMP_WAIT_POLICY": "PASSIVE"}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout


def pixels(path: Path) -> np.ndarray:
    """An image file as uint8 (height, width, 3)."""
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


@pytest.fixture(scope="module")
def here(tmp_path_factory) -> Path:
    """A folder with a run made by the command line, an image and a clip."""
    from vitreous.data.shapes import draw_shapes, draw_video
    from vitreous.video.encode import write_video

    path = tmp_path_factory.mktemp("user")
    vitreous("train", "shapes", "--output", "runs/shapes", *SMALL, cwd=path)
    Image.fromarray(draw_shapes(1, 9, 96).images_u8[0].permute(1, 2, 0).numpy()[:, :70]).save(path / "image.png")
    from fractions import Fraction

    write_video(path / "clip.mp4", draw_video(1, 24, (90, 122), 1), Fraction(24))
    return path


def test_evaluate_prints_and_writes_the_same_scores(here):
    scores = json.loads(vitreous("evaluate", "runs/shapes", "--json", cwd=here))
    assert 0 < scores["top1"] <= scores["top5"] <= 1 and scores["loss"] > 0 and scores["count"] == 2000
    written = json.loads((here / "runs/shapes/evaluation.json").read_text())
    assert {key: written[key] for key in scores} == scores
    assert f"top-1 {scores['top1']:.2%}" in vitreous("evaluate", "runs/shapes", cwd=here)
    assert pixels(here / "runs/shapes/figures/confusion.png").shape[1] > 1000


@pytest.mark.parametrize(
    ("flags", "name"),
    [
        (["image.png"], "image-attention.png"),
        (["image.png", "--layer", "1", "--head", "0", "-o", "one.jpg"], "one.jpg"),
        (["image.png", "--layout", "sheet"], "image-layers.png"),
        (["image.png", "copy.png"], "explanations-attention.png"),
        (["--count", "4", "-o", "grid.png"], "grid.png"),
        (["image.png", "-o", "folder"], "folder/image-attention.png"),
        (["image.png", "--target", "star", "--truth", "heart", "-o", "target.png"], "target.png"),
    ],
)
def test_explain_writes_an_image_and_names_it(flags, name, here):
    shutil.copy(here / "image.png", here / "copy.png")
    assert vitreous("explain", "runs/shapes", *flags, cwd=here).startswith(f"{name}: ")
    written = pixels(here / name)
    assert min(written.shape[:2]) > 100 and written.std() > 10


def test_video_keeps_frames_times_and_size(here):
    assert "24 frames, 1.00 s, 122 × 90 pixels" in vitreous(
        "video", "runs/shapes", "clip.mp4", "-o", "out.mp4", cwd=here
    )
    with av.open(here / "clip.mp4") as before, av.open(here / "out.mp4") as after:
        times = [[frame.time for frame in clip.decode(video=0)] for clip in (before, after)]
        stream = after.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
    assert times[0] == pytest.approx(times[1])


def test_patches(here):
    vitreous("patches", "image.png", "--model", "runs/shapes", "-o", "cut.png", cwd=here)
    assert min(pixels(here / "cut.png").shape[:2]) > 100


def test_the_python_of_the_readme_runs(here):
    first, second, *_ = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    for name in ("cat.jpg", "a.jpg", "b.jpg"):
        Image.open(here / "image.png").save(here / name)
    assert "epochs=8" in second
    for code in (first, second.replace("epochs=8", "epochs=0.1").replace("runs/shapes", "runs/python")):
        done = subprocess.run([sys.executable, "-c", code], cwd=here, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    assert pixels(here / "cat-explained.png").std() > 10 and (here / "clip-attention.mp4").exists()
    assert (here / "runs/python/model.safetensors").exists()


def test_the_verbs_of_the_readme_exist():
    from vitreous.cli import VERBS

    named = set(re.findall(r"(?:^|`)vitreous (\w+)", README, re.MULTILINE))
    assert named <= set(VERBS) and set(VERBS) - named <= {"demo", "patches"}


def test_interrupted_run_is_saved_says_how_to_go_on_and_has_curves(here):
    import signal
    import time

    command = [sys.executable, "-m", "vitreous", "train", "shapes", "--output", "runs/cut", *SMALL, "--set", "epochs=5"]
    process = subprocess.Popen(command, cwd=here, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    metrics, deadline = here / "runs/cut/metrics.jsonl", time.monotonic() + 60
    while not (metrics.exists() and metrics.read_text()) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "vitreous train shapes --output runs/cut --resume" in said
    assert (here / "runs/cut/figures/curves.png").exists() and (here / "runs/cut/checkpoint/state.safetensors").exists()


def test_help_needs_no_torch():
    code = (
        "import sys; from vitreous.cli import run; run(['--help']); run(['train', '--help']); "
        "sys.exit(sum(name in sys.modules for name in ('torch', 'av', 'matplotlib')))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
