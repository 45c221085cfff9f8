"""The iterator over explained frames: each is what `explain` gives, and nothing stays open."""

import gc
import os
import threading
from fractions import Fraction

import numpy as np
import pytest
import torch
from video_clips import moving_square

from vitreous.callbacks import Callback
from vitreous.clips.explain import explain_video
from vitreous.clips.frames import explain_frames
from vitreous.clips.request import VideoRequest
from vitreous.errors import InputError
from vitreous.explanation.explain import explain_batch
from vitreous.explanation.options import MethodOptions
from vitreous.imaging.preprocessing import Preprocessing
from vitreous.model.classifier import ImageClassifier
from vitreous.model.config import ViTConfig
from vitreous.model.vit import ViT
from vitreous.video.decode import TruncatedVideoError, read_frames
from vitreous.video.encode import write_video
from vitreous.workflows.explain import explain

HW = (72, 128)
FRAMES = 10


@pytest.fixture(scope="module")
def model() -> ImageClassifier:
    torch.manual_seed(0)
    vit = ViT(ViTConfig(image_size=(24, 32), patch_size=8, embed_dim=16, depth=3, num_heads=2, num_classes=3))
    preprocessing = Preprocessing((24, 32), "crop", (0.5,) * 3, (0.5,) * 3, 8)
    return ImageClassifier(vit, preprocessing, ("dog", "cat", "cow"))


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    write_video(path, moving_square(FRAMES, HW), Fraction(10))
    return path


def open_files(path) -> int:
    """How often this process has a file open."""
    links = [os.path.realpath(f"/proc/self/fd/{number}") for number in os.listdir("/proc/self/fd")]  # noqa: PTH208
    return links.count(str(path.resolve()))


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("attention", {}),
        ("attention", {"layer": 0, "head": 1, "query": (70, 40)}),
        ("rollout", {"head_fusion": "max"}),
        ("grad-cam", {"target": "cat"}),
        ("features", {"view": "norms"}),
    ],
    ids=str,
)
def test_a_frame_has_the_map_that_explain_gives(method, options, model, clip):
    found = list(explain_frames(model, clip, method=method, batch_size=4, **options))
    frames = list(read_frames(clip))
    assert len(found) == len(frames) == FRAMES
    for number, (one, frame) in enumerate(zip(found, frames, strict=True)):
        alone = explain(model, frame.image_u8, method=method, **options)
        assert one.index == number and one.time_seconds == float(frame.time_seconds)
        assert np.array_equal(one.image, frame.image_u8) and one.prediction.label == alone.prediction.label
        assert one.heatmap.shape == HW and one.heatmap.dtype == np.float32
        assert np.allclose(one.heatmap, alone.heatmap, atol=1e-5) and np.allclose(
            one.patch_map, alone.patch_map, atol=1e-5
        )


def test_an_excerpt_and_every_second_frame(model, clip):
    found = list(explain_frames(model, clip, start=0.2, end=0.8, every=2))
    assert [(one.index, one.time_seconds) for one in found] == [(0, 0.0), (1, 0.2), (2, 0.4)]


def test_the_index_is_a_running_number_and_not_that_of_the_source(model, clip):
    frames = list(read_frames(clip))
    found = list(explain_frames(model, clip, every=3))
    assert [one.index for one in found] == [0, 1, 2, 3]
    for one in found:
        assert np.array_equal(one.image, frames[3 * one.index].image_u8)


def test_smoothing_brings_the_maps_of_neighbors_together(model, clip):
    def changes(**options):
        maps = [one.patch_map for one in explain_frames(model, clip, method="rollout", **options)]
        return np.abs(np.diff(maps, axis=0)).sum()

    assert changes(smooth=0.5) < changes(smooth=0) == changes()
    for one in explain_frames(model, clip, method="rollout", smooth=0.5):
        mean = explain_batch(model, [one.image], "rollout", MethodOptions())[0].patch_map.sum()
        assert one.patch_map.dtype == np.float32 and one.patch_map.sum() == pytest.approx(mean, rel=0.2)


def test_frames_are_decoded_as_they_are_needed_and_the_file_is_closed(model, clip):
    threads = threading.active_count()
    iterator = explain_frames(model, clip, batch_size=2)
    assert next(iterator).index == 0 and open_files(clip) == 1
    del iterator
    gc.collect()
    assert open_files(clip) == 0
    for frame in explain_frames(model, clip, batch_size=2):
        if frame.index == 3:
            break
    gc.collect()
    assert open_files(clip) == 0 and threading.active_count() == threads


def test_the_caller_is_not_left_in_autocast_or_without_gradients(model, clip):
    for _ in explain_frames(model, clip, precision="bf16", batch_size=4):
        assert not torch.is_autocast_enabled("cpu") and torch.is_grad_enabled()


def test_the_good_frames_of_a_truncated_video_come_before_the_error(model, tmp_path):
    write_video(tmp_path / "clip.mkv", moving_square(40, HW), Fraction(10))
    broken = tmp_path / "clip.mkv"
    broken.write_bytes(broken.read_bytes()[: broken.stat().st_size * 2 // 3])
    found = []
    with pytest.raises(TruncatedVideoError):
        for frame in explain_frames(model, broken, batch_size=16):
            found += [frame.index]
    assert found and found == list(range(len(found)))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"method": "rolout"}, "did you mean 'rollout'"),
        ({"query": (128, 5)}, "not on the image, which is 128 × 72"),
        ({"smooth": -1}, "0 for no smoothing"),
        ({"target": "dgo"}, "did you mean 'dog'"),
        ({"start": 5, "end": 2}, "not after"),
        ({"batch_size": 0}, "give 1 or more"),
    ],
    ids=str,
)
def test_bad_requests_are_refused_before_the_first_frame(options, words, model, clip):
    with pytest.raises(InputError, match=words):
        explain_frames(model, clip, **options)


def test_a_frame_shows_itself_in_a_notebook(model, clip):
    frame = next(explain_frames(model, clip))
    assert frame._repr_png_().startswith(b"\x89PNG") and frame.overlay().size == (128, 72)
    assert "array" not in repr(frame) and "time_seconds=0.0" in repr(frame)


def test_the_callback_receives_frames_and_can_stop(model, clip):
    class Recorder(Callback):
        def __init__(self, frames):
            self.frames, self.progress = frames, []

        def on_progress(self, progress):
            self.progress.append((progress.done, progress.total))

        def should_stop(self):
            return bool(self.progress) and self.progress[-1][0] >= self.frames

    callback = Recorder(FRAMES)
    assert len(list(explain_frames(model, clip, batch_size=4, callback=callback))) == FRAMES
    assert callback.progress == [(4, FRAMES), (8, FRAMES), (10, FRAMES)]
    assert len(list(explain_frames(model, clip, batch_size=4, callback=Recorder(8)))) == 8


def test_a_query_in_patches_is_refused(model, clip, tmp_path):
    options = MethodOptions(query=(1, 2))
    with pytest.raises(InputError, match="in pixels, next to the options"):
        explain_frames(model, clip, options=options)
    with pytest.raises(InputError, match="in pixels, next to the options"):
        explain_video(model, clip, tmp_path / "out.mp4", options=options)
    with pytest.raises(InputError, match="in pixels, next to the options"):
        VideoRequest(options=options)
