"""A measurement that an earlier version wrote continues, and gives the same numbers."""

import json
import shutil
from pathlib import Path

import pytest

from vitreous.diagnostics.faithfulness import run as faithfulness_module
from vitreous.diagnostics.faithfulness.run import VALUES_FILE, faithfulness
from vitreous.errors import InputError

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
            expected = before["scores"].get(name) or before["scores"][name.replace("randomized", "randomised")]
            assert (score.value, score.low, score.high) == (expected["value"], expected["low"], expected["high"])
    assert [pair.value for pair in result.agreement] == [pair["value"] for pair in old["agreement"]]


def test_old_values_of_other_weights_are_an_error(finished):
    path = finished / VALUES_FILE
    path.write_text(path.read_text().replace('"model": "d4', '"model": "00'))
    with pytest.raises(InputError, match=r"measured with other settings \(weights: 008d25433e9be7fd, now"):
        faithfulness(finished, methods=["rollout"], count=2)
