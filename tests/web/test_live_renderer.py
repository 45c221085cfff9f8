"""A live view shows what a written video shows, and takes the same options."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from video_requests import make_request

from vitreous.cli import run
from vitreous.clips.explain import explain_video
from vitreous.pretrained.load import load
from vitreous.video.camera import LiveFrame
from vitreous.video.decode import read_frames
from vitreous.web.live import LiveRenderer


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("attention", {"layout": "side-by-side", "legend": False}),
        (["attention", "rollout"], {}),
        ("attention", {"layout": "heads", "query": (40, 20)}),
        ("attention", {"query": (8, 4, 40, 30), "class_strip": True, "smooth": 0.5}),
        ("features", {"layout": "spotlight", "view": "norms"}),
    ],
    ids=str,
)
def test_a_live_view_shows_what_a_written_video_shows(tiny_model, clip, tmp_path, method, options):
    model = load(tiny_model)
    frames = list(read_frames(clip))
    render = LiveRenderer(model, make_request(method, **options))
    shown = [render(LiveFrame(frame.image_u8, 1000 + float(frame.time_seconds))) for frame in frames]
    explain_video(model, clip, tmp_path / "frames", method=method, format="png", **options)
    written = [np.asarray(Image.open(path)) for path in sorted((tmp_path / "frames").glob("*.png"))]
    assert len(written) == len(shown) == 25
    assert all(one.image_u8.shape == other.shape for one, other in zip(shown, written, strict=True))
    assert all(one.prediction.label in ("red", "green", "blue") for one in shown)
    if options.get("class_strip"):  # a live view shows the last ten seconds
        shown, written = [replace(one, image_u8=one.image_u8[:36]) for one in shown], [one[:36] for one in written]
    # The color scale of a written video also depends on later frames, which a live view can't know.
    correlations = [
        np.corrcoef(one.image_u8.ravel(), other.ravel())[0, 1] for one, other in zip(shown, written, strict=True)
    ]
    assert np.median(correlations) > 0.99


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--query", "100,5"], "not on the image, which is 64 × 36"),
        (["--query", "here"], "'here' is not a point"),
        (["--track"], "nothing to track"),
        (["--track", "--loop", "--query", "5,5"], "leave out --loop"),
        (["--method", "attention,rollout", "--layout", "overlay"], "takes one method"),
        (["--layer", "7"], "layer"),
        (["--smooth", "-1"], "no smoothing"),
    ],
    ids=str,
)
def test_bad_requests_for_a_live_view(options, words, tiny_model, clip, capsys):
    assert run(["live", str(tiny_model), "--source", str(clip), "--port", "0", *options]) == 2
    stderr = capsys.readouterr().err
    assert words in stderr and "Traceback" not in stderr


@pytest.mark.parametrize("option", ["--timeline", "--save-maps", "--start", "--every", "--height", "--batch-size"])
def test_options_of_written_files_do_not_exist(option, tiny_model, clip, capsys):
    assert run(["live", str(tiny_model), "--source", str(clip), option, "3"]) == 2
    assert f"Unknown option: {option}" in capsys.readouterr().err
