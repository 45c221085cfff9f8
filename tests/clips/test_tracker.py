"""A patch that is tracked through a video."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from torch.nn import functional

from vitreous.clips import tracker as tracker_module
from vitreous.clips.explain import explain_video
from vitreous.clips.tracker import PatchTracker, search_window
from vitreous.imaging.geometry import Geometry
from vitreous.imaging.preprocessing import Preprocessing
from vitreous.model.classifier import ImageClassifier
from vitreous.model.config import ViTConfig
from vitreous.model.trace import Trace
from vitreous.model.vit import ViT
from vitreous.video.encode import write_video
from vitreous.video.info import Frame

HW, CELL = (64, 96), 8


@pytest.fixture
def color_tokens(monkeypatch):
    """A stand-in for the model's tokens: each patch's mean color."""

    def patch_tokens(classifier, images):
        found = []
        for image in images:
            cells = image.reshape(HW[0] // CELL, CELL, HW[1] // CELL, CELL, 3).mean(axis=(1, 3))
            found.append(functional.normalize(torch.from_numpy(cells).float() - 64, dim=-1))
        return found, [Geometry(HW, HW, (0.0, 0.0, *map(float, HW)))] * len(images)

    monkeypatch.setattr(tracker_module, "patch_tokens", patch_tokens)


def model(**options) -> ImageClassifier:
    torch.manual_seed(0)
    vit = ViT(ViTConfig(HW, CELL, embed_dim=16, depth=2, num_heads=2, num_classes=2, stem="linear", **options))
    return ImageClassifier(vit, Preprocessing(HW, "squash", (0.5,) * 3, (0.5,) * 3, CELL), ("a", "b"))


def scene(row: int, column: int | None, ground: tuple[int, int, int] = (40, 90, 40)) -> np.ndarray:
    """A red cell on a ground that is not even."""
    image = np.empty((*HW, 3), np.uint8)
    image[:] = ground
    image[:, ::16] += 20
    if column is not None:
        image[row * CELL : (row + 1) * CELL, column * CELL : (column + 1) * CELL] = (250, 20, 20)
    return image


def frames_of(images) -> list[Frame]:
    return [Frame(image, Fraction(number, 10)) for number, image in enumerate(images)]


def patches_of(points):
    return [None if point is None else (int(point[1]) // CELL, int(point[0]) // CELL) for point in points]


def test_the_patch_is_followed_from_batch_to_batch(color_tokens):
    route = [(2, column) for column in range(1, 9)] + [(row, 8) for row in range(3, 6)]
    tracker, frames = PatchTracker(model(), (12.0, 20.0)), frames_of([scene(*at) for at in route])
    points = tracker.update(frames[:4]) + tracker.update(frames[4:])
    assert patches_of(points) == route and tracker.lost_seconds is None
    assert points[0] == (12.0, 20.0)


def test_the_patch_is_lost_and_found_again(color_tokens):
    images = [scene(2, 3), scene(2, 4), scene(2, None), scene(2, None), scene(2, 5)]
    tracker = PatchTracker(model(), (28.0, 20.0))
    assert patches_of(tracker.update(frames_of(images))) == [(2, 3), (2, 4), None, None, (2, 5)]
    assert tracker.lost_seconds == 0.2 and tracker.ended_seconds is None


def test_a_cut_ends_the_tracking(color_tokens):
    other = scene(2, 3, (20, 40, 200))[:, ::-1].copy()
    other[:30] = (230, 220, 40)
    tracker = PatchTracker(model(), (28.0, 20.0))
    assert patches_of(tracker.update(frames_of([scene(2, 3), scene(2, 3), other, scene(2, 3)])))[2:] == [None, None]
    assert tracker.ended_seconds == 0.2


def test_the_search_window_reaches_at_least_two_patches():
    near = search_window((0, 5), (6, 30))
    assert near.sum(0).max() == 3 and near.any(0).nonzero().flatten().tolist() == list(range(11))


def test_a_lost_patch_gives_empty_maps_and_a_note(color_tokens, tmp_path):
    write_video(tmp_path / "c.mp4", [scene(2, 3)] * 3 + [scene(2, None)] * 2 + [scene(2, 4)], Fraction(10))
    result = explain_video(
        model(), tmp_path / "c.mp4", tmp_path / "o.mp4", query=(28, 20), track=True,
        save_maps=tmp_path / "o.npz", batch_size=2,
    )  # fmt: skip
    assert result.video.frames == 6 and "first lost at 0.30 s" in result.notes[-1]
    with np.load(tmp_path / "o.npz") as data:
        assert (data["peaks"][:, 0] > 0).tolist() == [True, True, True, False, False, True]
    rows = (tmp_path / "o.csv").read_text().splitlines()
    assert rows[0].endswith("query_x,query_y") and rows[1].endswith("28.0,20.0") and rows[4].endswith(",,")


def test_the_models_own_tokens_find_the_same_patch(tmp_path):
    image = np.random.default_rng(0).integers(0, 255, (*HW, 3), np.uint8)
    points = PatchTracker(model(), (28.0, 20.0)).update(frames_of([image] * 3))
    assert points == [(28.0, 20.0)] * 3


def test_tokens_of_a_model_with_fc_norm_are_normalized_before_they_are_compared():
    classifier, trace = model(global_pool="avg", fc_norm=True), Trace()
    image = np.random.default_rng(0).integers(0, 255, (*HW, 3), np.uint8)
    with torch.no_grad():
        torch.nn.init.normal_(classifier.vit.fc_norm.weight)
        classifier.vit(classifier.preprocess(image)[0][None], trace)
        expected = functional.normalize(classifier.vit.fc_norm(trace.tokens[-1]), dim=-1)[0]
    (found,), _ = tracker_module.patch_tokens(classifier, [image])
    assert torch.equal(found.flatten(0, 1), expected[trace.layout.num_prefix_tokens :])
    points = PatchTracker(classifier, (28.0, 20.0)).update(frames_of([image] * 3))
    assert points == [(28.0, 20.0)] * 3
