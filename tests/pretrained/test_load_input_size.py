"""The size of images that a model is given: refused before it fills the memory."""

import numpy as np
import pytest
import torch

from vitreous.cli import run
from vitreous.errors import InputError
from vitreous.explanation.regions import upsample_nearest
from vitreous.explanation.explain import explain_batch, patch_at
from vitreous.imaging.preprocessing import RESIZE_MODES, Preprocessing
from vitreous.model.classifier import ImageClassifier
from vitreous.model.config import ViTConfig
from vitreous.model.vit import ViT
from vitreous.pretrained.load import at_size, load


@pytest.fixture
def model() -> ImageClassifier:
    torch.manual_seed(0)
    vit = ViT(ViTConfig((24, 32), 8, embed_dim=16, depth=1, num_heads=2, num_classes=2))
    return ImageClassifier(vit, Preprocessing((24, 32), "crop", (0.5,) * 3, (0.5,) * 3, 8), ("cat", "dog"))


@pytest.mark.parametrize("size", [1_000_000, (8, 8 * 65_537), 2056])
def test_a_size_of_too_many_patches_names_the_limit(model, size):
    with pytest.raises(InputError, match=r"more than 65536, which is the limit: choose 2048 × 2048 or less"):
        at_size(model, size, lambda note: None)


@pytest.mark.parametrize("size", [2048, (8, 8 * 65_536)])
def test_the_limit_itself_is_taken(model, size):
    assert at_size(model, size, lambda note: None).preprocessing.input_size[1] in (2048, 8 * 65_536)


@pytest.mark.parametrize("command", [["video", "MODEL", "clip.mp4", "--model-size"], ["explain", "MODEL", "--size"]])
def test_the_commands_refuse_it_in_one_line(trained_run, capsys, command, shared):
    words = [str(trained_run) if word == "MODEL" else word for word in command]
    if words[0] == "explain":
        words[2:2] = [str(next((shared / "photos").glob("*.jpg")))]
    assert run([*words, "1000000"]) == 2
    assert "the limit" in capsys.readouterr().err


@pytest.mark.parametrize("fit", RESIZE_MODES)
def test_images_are_brought_to_the_size_as_one_says(model, fit):
    given = load(model, fit=fit).preprocessing
    assert (given.resize_mode, given.input_size, model.preprocessing.resize) == (fit, (24, 32), "crop")
    image = np.random.default_rng(0).integers(0, 256, (40, 90, 3), np.uint8)
    explained = explain_batch(load(model, size=64, fit=fit), [image], "attention")[0]
    assert explained.heatmap.shape == (40, 90) and np.isfinite(explained.heatmap).all()


def test_a_way_that_there_is_not_is_refused(model):
    with pytest.raises(InputError, match="letterbox"):
        load(model, fit="letterbocks")


@pytest.mark.parametrize("place", [(0.5, 0.5), (39, 89), (20, 45)])
def test_a_place_is_found_between_the_bars(model, place):
    """The patch under a place of the image is the one that its map is laid back onto there."""
    boxed = load(model, size=64, fit="letterbox")
    _, geometry = boxed.preprocess(np.zeros((40, 90, 3), np.uint8))
    row, column = patch_at(boxed, place, geometry)
    grid = np.zeros((8, 8), np.float32)
    grid[row, column] = 1
    squares = upsample_nearest(grid, geometry)
    assert squares[int(place[0]), int(place[1])] == 1 and squares.shape == (40, 90)
    with pytest.raises(InputError, match="x 0 to 90, y 0 to 40"):
        patch_at(boxed, (-1, 3), geometry)
