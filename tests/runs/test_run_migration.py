"""Run folders of an earlier version (tests/legacy) are read, resumed and compared as those of today."""

import json
import math
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file
from tiny_run import RecordingCallback

from vitreous.model.config import ViTConfig
from vitreous.model.migration import stored_tensors
from vitreous.records import from_dict
from vitreous.runs.run_folder import RunFolder, read_metadata, read_metrics
from vitreous.training import reference_curve
from vitreous.training.provenance import ResumePlan, read_data
from vitreous.training.recipe import Recipe
from vitreous.training.reference_curve import find_curve
from vitreous.workflows.compare import compare
from vitreous.workflows.train import train

LEGACY = Path(__file__).parents[1] / "legacy"
EXPECTED = json.loads((LEGACY / "expected.json").read_text())
DATA = f"folder:{LEGACY / 'pictures'}"
ZERO_BUT_FOR_ROUNDING = "key_norm.bias"


@pytest.fixture
def legacy_run(tmp_path):
    """Copy a run of the earlier version."""
    return lambda name: shutil.copytree(LEGACY / name, tmp_path / name)


ADDED_SINCE = {
    "min_steps_between_validations",
    "report",
    "keep_maps",
    "task",
    "init",
    "tune",
    "lora",
    "crop_pct",
    "early_stopping_epochs",
    "min_steps",
    "frozen_layers",
}
"""Settings of recipes that those runs didn't know; they take their defaults."""


@pytest.mark.parametrize("name", ["finished", "stopped", "changed-data"])
def test_recipe_and_metrics_are_read_under_the_names_of_today(name):
    folder = RunFolder(LEGACY / name)
    metadata = read_metadata(folder)
    recipe = from_dict(Recipe, metadata["recipe"])
    assert set(metadata["recipe"]) == set(Recipe.__dataclass_fields__) - ADDED_SINCE
    assert set(metadata["recipe"]["model"]) == set(ViTConfig.__dataclass_fields__)
    assert not ResumePlan(metadata, recipe, read_data(metadata), ()).changes_metadata
    training = [line for line in read_metrics(folder) if line["split"] == "train"]
    assert training and all(line["images_per_second"] > 0 for line in training)


def test_values_reach_the_settings_of_today():
    recipe = from_dict(Recipe, read_metadata(RunFolder(LEGACY / "stopped"))["recipe"])
    assert recipe.resize_mode == "squash" and recipe.ema_decay == 0.9 and recipe.grad_accum_steps == 1
    assert (recipe.distillation.weight, recipe.distillation.teacher_width) == (0.6, 2)
    assert (recipe.progressive_resizing.fraction, recipe.progressive_resizing.initial_scale) == (0.4, 0.75)
    assert recipe.optimizer.stem_lr_scale == 4.0 and recipe.schedule.warmup_fraction == 0.1
    assert recipe.model.embed_dim == 8 and recipe.model.global_pool == "token"


def test_a_stopped_run_resumes_to_the_weights_of_the_earlier_version(legacy_run):
    path, expected = legacy_run("stopped"), EXPECTED["resume of stopped"]
    shapes = {name: tensor.shape for name, tensor in load_file(path / "model.safetensors").items()}
    result = train("shapes", path, data=DATA, resume=True)
    assert result.finished and result.step == expected["steps"]
    lines = read_metrics(RunFolder(path))
    assert [(line["step"], line["split"]) for line in lines] == [
        (line["step"], line["split"]) for line in expected["metrics"]
    ]
    for line, want in zip(lines, expected["metrics"], strict=True):
        numbers = {key: value for key, value in want.items() if key != "split"}
        assert {key: line[key] for key in numbers} == pytest.approx(numbers, rel=1e-4)
    squares = dict.fromkeys(shapes, 0.0)
    weights, config = load_file(path / "model.safetensors"), result.model.vit.config
    stored = stored_tensors(shapes, config)
    assert stored.keys() == weights.keys()
    for name, tensor in weights.items():
        squares[stored[name].name] += tensor.double().square().sum().item()
    for name, square in squares.items():
        if not name.endswith(ZERO_BUT_FOR_ROUNDING):
            assert math.sqrt(square) == pytest.approx(expected["weights norm"][name], rel=1e-5), name


def test_a_finished_run_stays_finished_and_a_changed_one_resumes(legacy_run):
    callback = RecordingCallback()
    result = train("shapes", legacy_run("finished"), data=DATA, resume=True, callback=callback)
    assert result.finished and callback.notes[-1] == "the run is finished: nothing to do"
    path = legacy_run("changed-data")
    earlier = read_metadata(RunFolder(path))["earlier_data"]
    assert train("shapes", path, data=DATA, resume=True).finished
    metadata = json.loads((path / "recipe.json").read_text())
    assert metadata["earlier_data"] == earlier and metadata["recipe"]["data"] == DATA


def test_runs_of_the_earlier_version_are_compared():
    result = compare(LEGACY / "finished", LEGACY / "changed-data", DATA)
    assert result.comparison.count == 12 and len(result.unfinished) == 1


def test_a_reference_curve_of_the_earlier_version_is_read(tmp_path, monkeypatch):
    name = json.loads((LEGACY / "curve.json").read_text())["recipe"]["name"]
    shutil.copy(LEGACY / "curve.json", tmp_path / f"{name}.json")
    today = find_curve(name)
    monkeypatch.setattr(reference_curve, "CURVES", tmp_path)
    assert find_curve(name) == today
