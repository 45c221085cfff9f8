"""The models that come with the package."""

import os
import re
from dataclasses import replace

import pytest

from vitreous.data.sources import load_images
from vitreous.diagnostics.predictions import predict_all
from vitreous.errors import InputError
from vitreous.pretrained.load import load
from vitreous.pretrained.registry import PACKAGED
from vitreous.workflows.evaluate import evaluate


@pytest.mark.parametrize("name", PACKAGED)
def test_packaged_models_are_small_and_have_a_card(name):
    files = {path.name for path in PACKAGED[name].iterdir()}
    assert files == {"README.md", "config.json", "model.safetensors"}
    assert (PACKAGED[name] / "model.safetensors").stat().st_size <= 6_000_000
    assert f"vitreous:{name}" in (PACKAGED[name] / "README.md").read_text()


def test_the_card_states_about_the_accuracy_of_the_model(shared, monkeypatch):
    monkeypatch.setenv("VITREOUS_DATA", str(shared))
    images = load_images("cifar10", "test")
    some = replace(images, images_u8=images.images_u8[:2000], labels=images.labels[:2000])
    right = predict_all(load("vitreous:cifar10"), some).correct
    said = re.search(r"top-1 .* \| ([0-9.]+)%", (PACKAGED["cifar10"] / "README.md").read_text())
    assert said and right.mean() == pytest.approx(float(said[1]) / 100, abs=0.02)


@pytest.mark.skipif("VITREOUS_SLOW" not in os.environ, reason="slow: set VITREOUS_SLOW=1")
def test_the_card_states_the_exact_accuracy_of_the_model(shared, monkeypatch):
    monkeypatch.setenv("VITREOUS_DATA", str(shared))
    reached = evaluate("vitreous:cifar10", "cifar10").top1
    assert f"{reached:.2%}" in (PACKAGED["cifar10"] / "README.md").read_text()
    assert reached > 0.77


def test_it_predicts_class_names():
    model = load("vitreous:cifar10")
    assert model.class_names[:3] == ("airplane", "automobile", "bird")
    assert {str(weight.dtype) for weight in model.model.parameters()} == {"torch.float32"}
    with pytest.raises(InputError, match="no vitreous model 'cifar'"):
        load("vitreous:cifar")
