"""Videos with pixels that are not square; and that a refused request leaves nothing behind."""

import csv

import pytest
import torch
from video_clips import write_wide_pixels

from vitreous.clips.explain import explain_video
from vitreous.errors import InputError
from vitreous.imaging.preprocessing import Preprocessing
from vitreous.model.classifier import ImageClassifier
from vitreous.model.config import ViTConfig
from vitreous.model.vit import ViT


@pytest.fixture(scope="module")
def model() -> ImageClassifier:
    torch.manual_seed(0)
    vit = ViT(ViTConfig((24, 32), 8, embed_dim=16, depth=2, num_heads=2, num_classes=2))
    return ImageClassifier(vit, Preprocessing((24, 32), "crop", (0.5,) * 3, (0.5,) * 3, 8), ("dog", "cat"))


@pytest.fixture
def wide(tmp_path):
    return write_wide_pixels(tmp_path / "in.mp4")


@pytest.mark.parametrize("target", ["out.mp4", "out.gif"])
def test_a_query_on_wide_pixels_keeps_its_position(model, wide, target, tmp_path):
    found = explain_video(
        model, wide, tmp_path / target, method="attention", query=(80, 20), track=True, save_maps=tmp_path / "data.npz"
    )
    assert found.video.info.size_hw == (72, 171 if target == "out.gif" else 128)
    with (tmp_path / "data.csv").open(newline="") as file:
        row = next(csv.DictReader(file))
    assert float(row["query_x"]) == pytest.approx(80, abs=10), "the middle of the patch there, in the clip's pixels"


@pytest.mark.parametrize(("source", "target"), [("nothing.mp4", "out.mp4"), ("in.mp4", "out.avi")])
@pytest.mark.parametrize(("kind", "name"), [("save_maps", "a.npz"), ("timeline", "a.png")])
def test_a_refused_request_leaves_no_folder(model, wide, source, target, kind, name, tmp_path):
    with pytest.raises(InputError):
        explain_video(model, tmp_path / source, tmp_path / target, **{kind: tmp_path / "new" / name})
    assert list(tmp_path.iterdir()) == [wide]
