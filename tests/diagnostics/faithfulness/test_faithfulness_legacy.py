"""A measurement that an earlier version wrote continues, and gives the same numbers."""

import json
import shutil
from pathlib import Path

import pytest

from vitreous.diagnostics.faithfulness import run as faithfulness_module
from vitreous.diagnostics.faithfulness.run import VALUES_FILE, faithfulness
from vitreous.diagnostics.faithfulness.values_file import FaithfulnessSettings, open_values
from vitreous.errors import InputError
from vitreous.runs.migration import migrate_metric_name

LEGACY = Path(__file__).parents[2] / "legacy"


@pytest.fixture
def finished(tmp_path) -> Path:
    """The old run, with the images where they are now."""
    folder = shutil.copytree(LEGACY / "finished", tmp_path / "finished")
    for name in (VALUES_FILE, "recipe.json"):
        path = folder / name
        path.write_text(path.read_text().replace("/tmp/vitreous-legacy", str(LEGACY)))
    return folder


def test_old_values_are_used_and_give_the_old_scores(finished, monkeypatch):
    monkeypatch.setattr(faithfulness_module, "score_maps", None)
    result = faithfulness(finished, methods=["rollout", "occlusion"], count=2)
    old = json.loads((LEGACY / "finished" / "faithfulness.json").read_text())
    assert [method.name for method in result.methods] == ["random map", "center bias", "rollout"]
    assert list(result.skipped) == list(old["skipped"]) == ["occlusion"]
    for method, before in zip(result.methods, old["methods"], strict=True):
        for name, score in method.scores.items():
            expected = {migrate_metric_name(key): one for key, one in before["scores"].items()}[name]
            assert (score.value, score.low, score.high) == (expected["value"], expected["low"], expected["high"])
    assert [pair.value for pair in result.agreement] == [pair["value"] for pair in old["agreement"]]


def test_values_with_names_of_hyphens_are_read_under_names_in_snake_case(tmp_path):
    """The file was written by commit dd35239: `faithfulness("vitreous:cifar10", ..., count=2)`, its path shortened."""
    path = Path(shutil.copy(Path(__file__).with_name("values-dd35239.jsonl"), tmp_path))
    first, *lines = [json.loads(line) for line in path.read_text().splitlines()]
    found = open_values(path, FaithfulnessSettings(**first))
    assert list(found.methods) == [line["method"] for line in lines] == ["random map", "gradient-rollout"]
    for line in lines:
        old = line["values"]
        assert {"road-most-same", "sensitivity-8", "randomized-all"} <= set(old)
        new = found.methods[line["method"]]
        assert list(new) == [name.replace("-", "_") for name in old]
        for name, values in old.items():
            assert new[name.replace("-", "_")].tolist() == values
    found.add("attention", found.methods["random map"])
    assert "road-most" not in path.read_text() and "road_most" in path.read_text()


def test_old_values_of_other_weights_are_an_error(finished):
    path = finished / VALUES_FILE
    path.write_text(path.read_text().replace('"model": "d4', '"model": "00'))
    with pytest.raises(InputError, match=r"measured with other settings \(weights: 008d25433e9be7fd, now"):
        faithfulness(finished, methods=["rollout"], count=2)
