"""A folder with train and val, the layout of ImageNet and of PyTorch's tutorials, trains and evaluates."""

import json

import numpy as np
import pytest
from PIL import Image

from vitreous import compare, doctor, evaluate, faithfulness, train
from vitreous.diagnostics.evaluation_set import first_test_images, training_run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hymenoptera")
    random = np.random.default_rng(0)
    for split, count in (("train", 12), ("val", 5)):
        for channel, name in enumerate(("ants", "bees")):
            (folder / split / name).mkdir(parents=True)
            for number in range(count):
                pixels = random.integers(0, 80, (32, 32, 3), dtype=np.uint8)
                pixels[..., channel] += 150
                Image.fromarray(pixels).save(folder / split / name / f"{number}.png")
    settings = {"model.image_size": (32, 32), "model.embed_dim": 16, "model.depth": 2, "model.num_heads": 2}
    output = folder / "run"
    return train("shapes", output, data=f"folder:{folder}", epochs=2, batch_size=8, settings=settings, device="cpu")


def test_it_is_evaluated_on_its_validation_images_which_is_said(run, capsys):
    result = evaluate(run.path)
    assert result.split == "validation" and result.count == 10
    assert "has no test images: it is evaluated on its validation images" in capsys.readouterr().err
    assert json.loads((run.path / "evaluation.json").read_text())["split"] == "validation"
    assert compare(run.path, run.model).split == "validation"


def test_the_other_measurements_take_the_same_images(run):
    assert faithfulness(run.path, methods="attention", count=2).settings.split == "validation"
    assert doctor(run.path, count=2).findings is not None
    images, labels = first_test_images(run.model, training_run(run.path), f"folder:{run.path.parent}", 6)
    assert len(images) == 6 and labels == ["ants"] * 5 + ["bees"]
