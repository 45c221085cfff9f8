"""A measurement of corruptions or shifts stops between any two passes over the images, and is saved anywhere."""

import json

import pytest
import torch

from vitreous.callbacks import Callback
from vitreous.data.image_set import ImageSet
from vitreous.diagnostics.robustness.filters import DIRECTIONS
from vitreous.diagnostics.robustness.run import ANGLES, measure_corruptions, measure_shifts
from vitreous.imaging.preprocessing import Preprocessing
from vitreous.model.classifier import ImageClassifier
from vitreous.model.config import ViTConfig
from vitreous.model.vit import ViT

CLASSES = ("cat", "dog")


class StopAfter(Callback):
    """Asks to stop once so many passes are done."""

    def __init__(self, passes: int):
        self.passes, self.done = passes, 0

    def on_progress(self, progress):
        self.done = progress.done

    def should_stop(self):
        return self.done >= self.passes


@pytest.fixture
def model(monkeypatch) -> ImageClassifier:
    """A tiny model; its test images are random."""
    pixels = torch.randint(0, 256, (12, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    images = ImageSet(pixels, torch.arange(12) % 2, CLASSES)
    monkeypatch.setattr("vitreous.diagnostics.evaluation_set.load_images", lambda *arguments: images)
    torch.manual_seed(0)
    vit = ViT(ViTConfig((16, 16), 4, embed_dim=16, depth=1, num_heads=2, num_classes=2))
    return ImageClassifier(vit, Preprocessing((16, 16), "squash", (0.5,) * 3, (0.25,) * 3, 4), CLASSES)


@pytest.mark.parametrize(
    ("passes", "angles", "shifts"),
    [
        (1, (0,), (0,)),
        (2, (-5, 0), (0,)),
        (3, (-5, 0, 5), (0,)),
        (len(ANGLES), ANGLES, (0,)),
        (len(ANGLES) + len(DIRECTIONS) + 2, ANGLES, (0, 1)),
        (1000, ANGLES, tuple(range(9))),
    ],
)
def test_shifts_stop_after_any_pass(passes, angles, shifts, model):
    callback = StopAfter(passes)
    scores = measure_shifts(model, "cifar10", precision="fp32", callback=callback).scores
    assert tuple(one.amount for one in scores.rotations) == angles
    assert tuple(one.amount for one in scores.shifts) == shifts
    assert callback.done == min(passes, len(ANGLES) + 8 * len(DIRECTIONS))
    assert scores.shifts[0] == next(one for one in scores.rotations if one.amount == 0)


def test_corruptions_stop_after_any_pass_once_one_is_complete(model):
    callback = StopAfter(8)
    result = measure_corruptions(model, "cifar10", precision="fp32", callback=callback)
    assert [one.corruption for one in result.scores.by_corruption] == ["gaussian_noise"] and callback.done == 8


def test_results_are_saved_in_any_folder(model, tmp_path):
    for result in (
        measure_shifts(model, "cifar10", precision="fp32", callback=StopAfter(3)),
        measure_corruptions(model, "cifar10", precision="fp32", callback=StopAfter(1)),
    ):
        path, figure = result.save(tmp_path)
        assert json.loads(path.read_text()) == json.loads(json.dumps(result.to_json()))
        assert path.parent == tmp_path and figure.parent == tmp_path / "figures" and figure.stat().st_size > 1000
