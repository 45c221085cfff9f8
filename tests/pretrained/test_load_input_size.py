"""The size of images that a model is given: refused before it fills the memory."""

import numpy as np
import pytest
import torch

from vitreous.callbacks import Callback
from vitreous.cli import run
from vitreous.diagnostics.doctor.run import doctor
from vitreous.errors import InputError
from vitreous.explanation.explain import explain_batch
from vitreous.explanation.regions import patch_at, upsample_nearest
from vitreous.imaging.preprocessing import RESIZE_MODES, Preprocessing
from vitreous.model.classifier import ImageClassifier
from vitreous.model.config import ViTConfig
from vitreous.model.vit import ViT
from vitreous.pretrained.load import load, with_input_size
from vitreous.workflows.explain import explain


@pytest.fixture
def model() -> ImageClassifier:
    torch.manual_seed(0)
    vit = ViT(ViTConfig((24, 32), 8, embed_dim=16, depth=1, num_heads=2, num_classes=2))
    return ImageClassifier(vit, Preprocessing((24, 32), "crop", (0.5,) * 3, (0.5,) * 3, 8), ("cat", "dog"))


@pytest.mark.parametrize("size", [1_000_000, (8, 8 * 65_537), 2056])
def test_an_input_size_with_too_many_patches_names_the_limit(model, size):
    with pytest.raises(InputError, match=r"more than 65536, which is the limit: choose 2048 × 2048 or less"):
        with_input_size(model, size, callback=Callback())


@pytest.mark.parametrize("size", [2048, (8, 8 * 65_536)])
def test_the_limit_itself_is_allowed(model, size):
    assert with_input_size(model, size, callback=Callback()).preprocessing.input_size[1] in (2048, 8 * 65_536)


@pytest.mark.parametrize(
    "command", [["video", "MODEL", "clip.mp4", "--input-size"], ["explain", "MODEL", "--input-size"]]
)
def test_the_verbs_refuse_it_in_one_line(trained_run, capsys, command, shared):
    words = [str(trained_run) if word == "MODEL" else word for word in command]
    if words[0] == "explain":
        words[2:2] = [str(next((shared / "photos").glob("*.jpg")))]
    assert run([*words, "1000000"]) == 2
    assert "the limit" in capsys.readouterr().err


@pytest.mark.parametrize("fit", RESIZE_MODES)
def test_the_resize_mode_can_be_chosen(model, fit):
    given = load(model, resize_mode=fit).preprocessing
    assert (given.resize_mode, given.input_size, model.preprocessing.resize_mode) == (fit, (24, 32), "crop")
    image = np.random.default_rng(0).integers(0, 256, (40, 90, 3), np.uint8)
    explained = explain_batch(load(model, input_size=64, resize_mode=fit), [image], "attention")[0]
    assert explained.heatmap.shape == (40, 90) and np.isfinite(explained.heatmap).all()


def test_an_unknown_resize_mode_is_refused(model):
    with pytest.raises(InputError, match="letterbox"):
        load(model, resize_mode="letterbocks")


@pytest.mark.parametrize("point", [(0.5, 0.5), (89, 39), (45, 20)])
def test_a_point_is_found_between_the_bars(model, point):
    """The patch under a point of the image is the one whose value the upsampled map has there."""
    boxed = load(model, input_size=64, resize_mode="letterbox")
    _, geometry = boxed.preprocess(np.zeros((40, 90, 3), np.uint8))
    row, column = patch_at(point, geometry, 8)
    grid = np.zeros((8, 8), np.float32)
    grid[row, column] = 1
    squares = upsample_nearest(grid, geometry)
    assert squares[int(point[1]), int(point[0])] == 1 and squares.shape == (40, 90)
    with pytest.raises(InputError, match="x 0 to 90, y 0 to 40"):
        patch_at((3, -1), geometry, 8)


def test_a_module_is_not_a_path():
    with pytest.raises(InputError, match=r"an object of type Linear: wrap it: vitreous.wrap\(model\)"):
        load(torch.nn.Linear(2, 2))  # ty: ignore[invalid-argument-type]
    with pytest.raises(InputError, match="an object of type int: give a name or a path"):
        load(3)  # ty: ignore[invalid-argument-type]


def test_a_vit_is_wrapped_with_a_note(model, notes):
    loaded = load(model.vit, input_size=(24, 40), callback=notes)
    assert loaded.model is model.vit and loaded.preprocessing.input_size == (24, 40)
    assert notes.lines[0].startswith("this ViT does not state its preprocessing")
    image = np.zeros((40, 50, 3), np.uint8)
    assert explain(model.vit, image, callback=notes).heatmap.shape == (40, 50)
    assert doctor(model.vit, image, callback=notes).model == "the model"
