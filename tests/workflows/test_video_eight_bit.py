"""Clips explained with 8-bit products: maps nearly those of float32, and what has none is refused."""

from contextlib import closing
from dataclasses import replace
from fractions import Fraction
from itertools import islice

import numpy as np
import pytest
import torch
from video_clips import moving_square

from vitreous.cli import run
from vitreous.data.preprocessing import Preprocessing
from vitreous.errors import InputError
from vitreous.model.config import size
from vitreous.model.vit import ViT
from vitreous.tasks.classification import Classifier
from vitreous.video.decode import read_frames
from vitreous.video.encode import write_clip
from vitreous.video.info import read_info
from vitreous.video.options import WHOLE
from vitreous.workflows.live import live_request
from vitreous.workflows.load import load
from vitreous.workflows.video import Looking, explain_video
from vitreous.workflows.video_request import VideoRequest

pytestmark = pytest.mark.skipif(not torch.cpu._is_vnni_supported(), reason="no AVX-512 VNNI: no 8-bit products")


@pytest.fixture(scope="module")
def model() -> Classifier:
    torch.manual_seed(0)
    vit = ViT(replace(size("nano/4-28"), channels=3))
    return Classifier(vit, Preprocessing((28, 28), "crop", (0.5,) * 3, (0.5,) * 3, 4), tuple("0123456789"))


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    write_clip(path, moving_square(20, (72, 128)), Fraction(10))
    return path


@pytest.mark.parametrize("name", ["dog", "people"])
def test_maps_of_dinov2_keep_to_those_of_float32(name, shared):
    dinov2 = load(shared / "weights" / "dinov2-vits14.safetensors", on_note=lambda _: None)
    with closing(read_frames(shared / "video" / f"{name}.mp4", WHOLE)) as reader:
        frames = list(islice(reader, 0, 120, 15))
    maps = {}
    for precision in ("fp32", "int8"):
        seen = Looking(dinov2, VideoRequest(precision=precision, batch_size=4), None).look(frames)
        maps[precision] = [one.maps[0].heat for one in seen]
    alike = [np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(maps["fp32"], maps["int8"], strict=True)]
    assert 0.99 < min(alike) < 1 - 1e-6


@pytest.mark.parametrize("layout", ["overlay", "layers"])
def test_a_clip_is_explained_and_the_model_left_as_it_was(layout, model, clip, tmp_path):
    before = {name: weight.clone() for name, weight in model.vit.state_dict().items()}
    result = explain_video(model, clip, tmp_path / "out.mp4", layout=layout, precision="int8")
    assert result.video.frames == 20 and read_info(tmp_path / "out.mp4").frame_count == 20
    assert all(torch.equal(weight, before[name]) for name, weight in model.vit.state_dict().items())


def test_methods_with_gradients_are_refused_and_nothing_is_left(model, clip, tmp_path):
    with pytest.raises(InputError, match="no gradients"):
        explain_video(model, clip, tmp_path / "out.mp4", "grad-cam", precision="int8")
    assert not list(tmp_path.iterdir())


def test_a_live_view_may_ask_for_it():
    assert live_request("attention", {"precision": "int8"}).float_precision == "auto"


def test_the_command_line_says_what_can_not_be(clip, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(torch.cpu, "_is_vnni_supported", lambda: False)
    given = ["video", "vitreous:cifar10", str(clip), "-o", str(tmp_path / "out.mp4"), "--precision", "int8"]
    assert run(given) == 2
    assert "has no 8-bit products" in capsys.readouterr().err and not list(tmp_path.iterdir())
