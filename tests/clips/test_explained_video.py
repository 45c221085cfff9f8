"""The result of an explained video: its summary, and how it shows itself in a notebook."""

from fractions import Fraction

import pytest
import torch
from video_clips import moving_square

from vitreous.callbacks import Callback
from vitreous.clips import result as result_module
from vitreous.clips.explain import explain_video
from vitreous.imaging.preprocessing import Preprocessing
from vitreous.model.classifier import ImageClassifier
from vitreous.model.config import ViTConfig
from vitreous.model.vit import ViT
from vitreous.video.encode import write_video
from vitreous.video.info import read_info


@pytest.fixture(scope="module")
def model() -> ImageClassifier:
    torch.manual_seed(0)
    vit = ViT(ViTConfig(image_size=(24, 32), patch_size=8, embed_dim=16, depth=2, num_heads=2, num_classes=2))
    return ImageClassifier(vit, Preprocessing((24, 32), "crop", (0.5,) * 3, (0.5,) * 3, 8), ("dog", "cat"))


@pytest.fixture
def clip(tmp_path):
    write_video(tmp_path / "clip.mp4", moving_square(40, (36, 64)), Fraction(10))
    return tmp_path / "clip.mp4"


def test_it_prints_a_summary(model, clip, tmp_path):
    found = explain_video(model, clip, tmp_path / "out.mp4", save_maps=tmp_path / "maps.npz")
    lines = str(found).splitlines()
    assert lines[0] == f"{tmp_path}/out.mp4: 40 frames, 4.00 s, 64 × 36 pixels, audio: none"
    assert lines[1].startswith("clip prediction: ") and "(mean of logits)" in lines[1]
    assert lines[-3].startswith("flicker (mean change of the map per frame): ")
    assert lines[-2:] == [str(tmp_path / "maps.npz"), str(tmp_path / "maps.csv")]
    assert len(repr(found)) < 200 and "40 frames" in repr(found)


@pytest.mark.parametrize(
    ("name", "tag"), [("out.mp4", "<video"), ("out.webm", "<video"), ("out.gif", "<img"), ("out.mkv", "<a href")]
)
def test_a_notebook_shows_the_video_or_a_link(name, tag, model, clip, tmp_path, monkeypatch):
    found = explain_video(model, clip, tmp_path / name, end=0.3)
    html = found._repr_html_()
    assert html.startswith(tag) and "3 frames" in html
    monkeypatch.setattr(result_module, "MAX_EMBEDDED_BYTES", 10)
    assert found._repr_html_().startswith("<a href")
    (tmp_path / name).unlink()
    assert found._repr_html_().startswith("<pre>")


class StopSoon(Callback):
    """Stops after the first progress."""

    def __init__(self):
        self.done = []

    def on_progress(self, progress):
        self.done.append((progress.done, progress.total))

    def should_stop(self):
        return bool(self.done)


def test_a_callback_sees_the_frames_and_can_stop(model, clip, tmp_path):
    callback = StopSoon()
    found = explain_video(model, clip, tmp_path / "out.mp4", callback=callback)
    assert callback.done[0] == (16, 40) and found.video.is_interrupted
    assert found.video.frames < 40 and read_info(tmp_path / "out.mp4").frame_count == found.video.frames


def test_it_says_that_the_source_is_truncated(model, tmp_path):
    write_video(tmp_path / "clip.mkv", moving_square(40, (72, 128)), Fraction(10))
    broken = tmp_path / "clip.mkv"
    broken.write_bytes(broken.read_bytes()[: broken.stat().st_size * 2 // 3])
    found = explain_video(model, broken, tmp_path / "out.mp4")
    assert found.video.truncation is not None and ", truncated" in repr(found)
    assert f"the source is truncated after {found.video.frames} frames (" in str(found)
    assert all(f"note: {line}" in str(found) for line in found.notes)


def test_it_says_nothing_of_an_end_for_a_whole_video(model, clip, tmp_path):
    found = explain_video(model, clip, tmp_path / "out.mp4", end=0.3)
    assert found.early_end() is None and "truncated" not in str(found) + repr(found)
