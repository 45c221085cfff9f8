"""The size of pictures that a model is given: refused before it fills the memory."""

import pytest
import torch

from vitreous.cli import run
from vitreous.data.preprocessing import Preprocessing
from vitreous.errors import InputError
from vitreous.model.config import ViTConfig
from vitreous.model.vit import ViT
from vitreous.tasks.classification import Classifier
from vitreous.workflows.load import at_size


@pytest.fixture
def model() -> Classifier:
    torch.manual_seed(0)
    vit = ViT(ViTConfig((24, 32), 8, width=16, depth=1, heads=2, classes=2))
    return Classifier(vit, Preprocessing((24, 32), "crop", (0.5,) * 3, (0.5,) * 3, 8), ("cat", "dog"))


@pytest.mark.parametrize("size", [1_000_000, (8, 8 * 65_537), 2056])
def test_a_size_of_too_many_patches_names_the_limit(model, size):
    with pytest.raises(InputError, match=r"more than 65536, which is the limit: choose 2048 × 2048 or less"):
        at_size(model, size, lambda note: None)


@pytest.mark.parametrize("size", [2048, (8, 8 * 65_536)])
def test_the_limit_itself_is_taken(model, size):
    assert at_size(model, size, lambda note: None).preprocessing.size_hw[1] in (2048, 8 * 65_536)


@pytest.mark.parametrize("command", [["video", "MODEL", "clip.mp4", "--model-size"], ["explain", "MODEL", "--size"]])
def test_the_commands_refuse_it_in_one_line(trained_run, capsys, command, shared):
    words = [str(trained_run) if word == "MODEL" else word for word in command]
    if words[0] == "explain":
        words[2:2] = [str(next((shared / "photos").glob("*.jpg")))]
    assert run([*words, "1000000"]) == 2
    assert "the limit" in capsys.readouterr().err
