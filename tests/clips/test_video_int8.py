"""Videos explained in int8: the maps are close to those in float32, and models without int8 are refused."""

from contextlib import closing
from dataclasses import replace
from fractions import Fraction
from itertools import islice

import numpy as np
import pytest
import torch
from video_clips import moving_square
from video_requests import make_request, make_stage

from vitreous.callbacks import Callback
from vitreous.cli import run
from vitreous.clips.explain import explain_video
from vitreous.errors import InputError
from vitreous.explanation.registry import METHODS
from vitreous.imaging.preprocessing import Preprocessing
from vitreous.model.classifier import ImageClassifier
from vitreous.model.config import named_config
from vitreous.model.vit import ViT
from vitreous.pretrained.load import load
from vitreous.video.decode import read_frames
from vitreous.video.encode import write_video
from vitreous.video.info import read_info
from vitreous.video.options import KEEP_ALL

needs_vnni = pytest.mark.skipif(not torch.cpu._is_vnni_supported(), reason="no AVX-512 VNNI: no 8-bit products")


@pytest.fixture(scope="module")
def model() -> ImageClassifier:
    torch.manual_seed(0)
    vit = ViT(replace(named_config("nano/4-28"), in_chans=3))
    return ImageClassifier(vit, Preprocessing((28, 28), "crop", (0.5,) * 3, (0.5,) * 3, 4), tuple("0123456789"))


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    write_video(path, moving_square(20, (72, 128)), Fraction(10))
    return path


@needs_vnni
@pytest.mark.parametrize("name", ["dog", "people"])
def test_maps_of_dinov2_are_close_to_float32(name, shared):
    dinov2 = load(shared / "weights" / "dinov2-vits14.safetensors", callback=Callback())
    with closing(read_frames(shared / "video" / f"{name}.mp4", KEEP_ALL)) as reader:
        frames = list(islice(reader, 0, 120, 15))
    maps = {}
    for precision in ("fp32", "int8"):
        found = make_stage(dinov2, make_request(precision=precision, batch_size=4)).explain(frames)
        maps[precision] = [one.maps[0].patch_heatmap for one in found]
    correlations = [np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(maps["fp32"], maps["int8"], strict=True)]
    assert min(correlations) > 0.985 and 0.995 < np.mean(correlations) < 1 - 1e-6


@needs_vnni
@pytest.mark.parametrize("layout", ["overlay", "layers"])
def test_explaining_leaves_the_model_unchanged(layout, model, clip, tmp_path):
    before = {name: weight.clone() for name, weight in model.vit.state_dict().items()}
    result = explain_video(model, clip, tmp_path / "out.mp4", layout=layout, precision="int8")
    assert result.video.frames == 20 and read_info(tmp_path / "out.mp4").frame_count == 20
    assert all(torch.equal(weight, before[name]) for name, weight in model.vit.state_dict().items())


@needs_vnni
@pytest.mark.parametrize("method", sorted(name for name, one in METHODS.items() if not one.uses_gradients))
def test_every_method_without_gradients_is_close_to_float32(method, model, clip):
    with closing(read_frames(clip, KEEP_ALL)) as reader:
        frames = list(islice(reader, 4))
    heatmaps = [
        [one.maps[0].patch_heatmap for one in make_stage(model, make_request(method, precision=kind)).explain(frames)]
        for kind in ("fp32", "int8")
    ]
    for exact, coarse in zip(*heatmaps, strict=True):
        assert np.abs(exact - coarse).max() < 0.1 * max(np.abs(exact).max(), 1e-6) + 1e-3


@needs_vnni
def test_maps_do_not_depend_on_the_frames_before(model, clip):
    """Nor do they depend on the batch size, or on a black first frame."""
    with closing(read_frames(clip, KEEP_ALL)) as reader:
        frames = list(islice(reader, 6))
    black = replace(frames[0], image_u8=np.zeros_like(frames[0].image_u8))
    found = [
        [
            one.maps[0].patch_heatmap
            for one in make_stage(model, make_request(precision="int8", batch_size=size)).explain(shown)
        ]
        for size, shown in ((6, frames), (1, frames), (2, [black, *frames]))
    ]
    for one, two, three in zip(found[0], found[1], found[2][1:], strict=True):
        assert np.allclose(one, two, atol=1e-3) and np.allclose(one, three, atol=1e-3)


def test_methods_with_gradients_are_refused_before_anything_is_read():
    with pytest.raises(InputError, match="no gradients, which grad-cam needs: choose fp32 or bf16"):
        make_request(["attention", "grad-cam"], precision="int8")


def test_the_command_refuses_int8_without_vnni(clip, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(torch.cpu, "_is_vnni_supported", lambda: False)
    given = ["video", "vitreous:cifar10", str(clip), "-o", str(tmp_path / "out.mp4"), "--precision", "int8"]
    assert run(given) == 2
    assert "has no 8-bit products" in capsys.readouterr().err and not list(tmp_path.iterdir())
