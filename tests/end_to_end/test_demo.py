"""The demo as `make demo` runs it; the maps of its model fall on the object."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from vitreous.data.sources import load_images
from vitreous.evaluation.classification import ClassificationMetrics
from vitreous.explanation.explain import explain_batch
from vitreous.explanation.registry import METHODS
from vitreous.pretrained.load import load
from vitreous.workflows.evaluate import evaluate

IMAGES = 128
SLOW = "VITREOUS_SLOW" in os.environ


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """Run the demo in a folder that holds a short run already; five epochs take minutes."""
    path = tmp_path_factory.mktemp("demo")
    vitreous("train", "shapes", "--output", str(path / "shapes" / "run"), "--epochs", "5" if SLOW else "0.2")
    printed = vitreous("demo", "--output", str(path))
    listed = [line.split("  ")[1] for line in printed.splitlines() if line.startswith(f"  {path}")]
    assert len(listed) == 8
    assert all(Path(name).stat().st_size > 10_000 for name in listed)
    return path / "shapes"


def vitreous(*arguments: str) -> str:
    """Run the command and return what it prints."""
    environment = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE"}
    command = [sys.executable, "-m", "vitreous", *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def energy_over_area(heatmap: np.ndarray, mask: np.ndarray) -> float:
    """Return the fraction of a map on the object, over the fraction of the image that it covers: 1 for a random map."""
    return float(heatmap[mask].sum() / max(heatmap.sum(), 1e-9) / mask.mean())


def test_it_leaves_a_model_that_loads(demo):
    assert load(demo / "run").class_names == load_images("shapes", "test").class_names


@pytest.mark.timeout(600)
@pytest.mark.skipif(not SLOW, reason="slow: set VITREOUS_SLOW=1")
def test_the_maps_of_the_demos_model_fall_on_the_shapes(demo):
    metrics: ClassificationMetrics = evaluate(demo / "run")
    assert metrics.top1 > 0.7
    model, test_set = load(demo / "run"), load_images("shapes", "test")
    assert test_set.masks is not None
    images = list(test_set.images_u8[:IMAGES].permute(0, 2, 3, 1).numpy())
    masks = test_set.masks[:IMAGES].numpy()
    random = np.random.default_rng(0)
    chance = np.mean([energy_over_area(random.random(mask.shape), mask) for mask in masks])
    assert chance == pytest.approx(1, abs=0.1)
    for method in (name for name in METHODS if METHODS[name].scale_kind != "signed"):
        maps = [one.heatmap for one in explain_batch(model, images, method)]
        on_the_object = [energy_over_area(heatmap, mask) for heatmap, mask in zip(maps, masks, strict=True)]
        elsewhere = [energy_over_area(heatmap, mask) for heatmap, mask in zip(maps, np.roll(masks, 1, 0), strict=True)]
        least, factor = (1.15, 1.1) if method == "legrad" else (2, 1.5)  # its maps spread over all useful patches
        assert np.mean(on_the_object) > max(least, factor * np.mean(elsewhere)), method
