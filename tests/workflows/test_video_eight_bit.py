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
from vitreous.clips.explain import Looking, explain_video
from vitreous.clips.request import VideoRequest, request_from
from vitreous.errors import InputError
from vitreous.explanation.registry import METHODS
from vitreous.imaging.preprocessing import Preprocessing
from vitreous.model.classifier import ImageClassifier
from vitreous.model.config import named_config
from vitreous.model.vit import ViT
from vitreous.pretrained.load import load
from vitreous.video.camera import LiveFrame
from vitreous.video.decode import read_frames
from vitreous.video.encode import write_clip
from vitreous.video.info import read_info
from vitreous.video.options import WHOLE
from vitreous.web.live import Drawn, live_request

needs_vnni = pytest.mark.skipif(not torch.cpu._is_vnni_supported(), reason="no AVX-512 VNNI: no 8-bit products")


@pytest.fixture(scope="module")
def model() -> ImageClassifier:
    torch.manual_seed(0)
    vit = ViT(replace(named_config("nano/4-28"), in_chans=3))
    return ImageClassifier(vit, Preprocessing((28, 28), "crop", (0.5,) * 3, (0.5,) * 3, 4), tuple("0123456789"))


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    write_clip(path, moving_square(20, (72, 128)), Fraction(10))
    return path


@needs_vnni
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
    assert min(alike) > 0.985 and 0.995 < np.mean(alike) < 1 - 1e-6


@needs_vnni
@pytest.mark.parametrize("layout", ["overlay", "layers"])
def test_a_clip_is_explained_and_the_model_left_as_it_was(layout, model, clip, tmp_path):
    before = {name: weight.clone() for name, weight in model.vit.state_dict().items()}
    result = explain_video(model, clip, tmp_path / "out.mp4", layout=layout, precision="int8")
    assert result.video.frames == 20 and read_info(tmp_path / "out.mp4").frame_count == 20
    assert all(torch.equal(weight, before[name]) for name, weight in model.vit.state_dict().items())


@needs_vnni
@pytest.mark.parametrize("method", sorted(name for name, one in METHODS.items() if not one.uses_gradients))
def test_every_method_without_gradients_sees_what_it_sees_in_float32(method, model, clip):
    with closing(read_frames(clip, WHOLE)) as reader:
        frames = list(islice(reader, 4))
    heats = [
        [one.maps[0].heat for one in Looking(model, VideoRequest((method,), precision=kind), None).look(frames)]
        for kind in ("fp32", "int8")
    ]
    for exact, coarse in zip(*heats, strict=True):
        assert np.abs(exact - coarse).max() < 0.1 * max(np.abs(exact).max(), 1e-6) + 1e-3


@needs_vnni
def test_what_is_seen_does_not_depend_on_the_frames_before(model, clip):
    """Nor on how many go through the model together, nor on a black beginning."""
    with closing(read_frames(clip, WHOLE)) as reader:
        frames = list(islice(reader, 6))
    black = replace(frames[0], image_u8=np.zeros_like(frames[0].image_u8))
    found = [
        [one.maps[0].heat for one in Looking(model, VideoRequest(precision="int8", batch_size=size), None).look(shown)]
        for size, shown in ((6, frames), (1, frames), (2, [black, *frames]))
    ]
    for one, two, three in zip(found[0], found[1], found[2][1:], strict=True):
        assert np.allclose(one, two, atol=1e-3) and np.allclose(one, three, atol=1e-3)


@pytest.mark.parametrize("ask", [request_from, live_request])
def test_methods_with_gradients_are_refused_before_anything_is_read(ask):
    with pytest.raises(InputError, match="no gradients, which grad-cam takes: choose fp32 or bf16"):
        ask(["attention", "grad-cam"], {"precision": "int8"})


@needs_vnni
def test_a_live_view_is_drawn_in_eight_bits(model, clip):
    with closing(read_frames(clip, WHOLE)) as reader:
        taken = [LiveFrame(frame.image_u8, i / 10) for i, frame in enumerate(islice(reader, 3))]
    draw = Drawn(model, live_request("attention", {"precision": "int8"}))
    assert all(draw(one).image_u8.shape == one.image_u8.shape for one in taken)


def test_the_command_line_says_what_can_not_be(clip, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(torch.cpu, "_is_vnni_supported", lambda: False)
    given = ["video", "vitreous:cifar10", str(clip), "-o", str(tmp_path / "out.mp4"), "--precision", "int8"]
    assert run(given) == 2
    assert "has no 8-bit products" in capsys.readouterr().err and not list(tmp_path.iterdir())
