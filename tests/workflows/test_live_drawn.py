"""A live view shows what a written clip shows, and takes the same settings."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from vitreous.cli import run
from vitreous.clips.explain import explain_video
from vitreous.errors import InputError
from vitreous.pretrained.load import load
from vitreous.video.camera import LiveFrame
from vitreous.video.decode import read_frames
from vitreous.web.live import Drawn, live_request


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("attention", {"layout": "side-by-side", "legend": False}),
        (["attention", "rollout"], {}),
        ("attention", {"layout": "heads", "query": (40, 20)}),
        ("attention", {"query": (8, 4, 40, 30), "strip": True, "smooth": 0.5}),
        ("features", {"layout": "spotlight", "view": "norms"}),
    ],
    ids=str,
)
def test_what_is_shown_is_what_a_written_clip_shows(tiny_model, clip, tmp_path, method, options):
    model = load(tiny_model)
    frames = list(read_frames(clip))
    drawn = Drawn(model, live_request(method, options))
    shown = [drawn(LiveFrame(frame.image_u8, 1000 + float(frame.time_seconds))) for frame in frames]
    explain_video(model, clip, tmp_path / "frames", method, format="png", **options)
    written = [np.asarray(Image.open(path)) for path in sorted((tmp_path / "frames").glob("*.png"))]
    assert len(written) == len(shown) == 25
    assert all(one.image_u8.shape == other.shape for one, other in zip(shown, written, strict=True))
    assert all(one.prediction.label in ("red", "green", "blue") for one in shown)
    if options.get("strip"):  # of a live view it tells of the last ten seconds
        shown, written = [replace(one, image_u8=one.image_u8[:36]) for one in shown], [one[:36] for one in written]
    # The color scale of a written clip is taken from frames to come as well, which a live view can't know.
    likeness = [
        np.corrcoef(one.image_u8.ravel(), other.ravel())[0, 1] for one, other in zip(shown, written, strict=True)
    ]
    assert np.median(likeness) > 0.99


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--query", "100,5"], "not on the image, which is 64 × 36"),
        (["--query", "here"], "'here' is no place"),
        (["--track"], "nothing to track"),
        (["--track", "--loop", "--query", "5,5"], "leave out --loop"),
        (["--method", "attention,rollout", "--layout", "overlay"], "takes one method"),
        (["--layer", "7"], "layer"),
        (["--smooth", "-1"], "no smoothing"),
    ],
    ids=str,
)
def test_what_cannot_be_shown_live(options, words, tiny_model, clip, capsys):
    assert run(["live", str(tiny_model), "--source", str(clip), "--port", "0", *options]) == 2
    said = capsys.readouterr().err
    assert words in said and "Traceback" not in said


def test_what_only_a_file_can_have_is_refused():
    with pytest.raises(InputError, match="no setting of a live view 'timeline'"):
        live_request("attention", {"timeline": "t.png"})
    with pytest.raises(InputError, match="no setting of a live view 'look'"):
        live_request("attention", {"look": None})
