"""`vitreous faithfulness` on a small run: what it writes, continuing a stopped measurement, and bad input."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_run import make_folder
from torch import nn

from vitreous.cli import run
from vitreous.diagnostics.faithfulness import run as faithfulness_module
from vitreous.diagnostics.faithfulness.run import faithfulness
from vitreous.diagnostics.faithfulness.values_file import FaithfulnessSettings, open_values
from vitreous.errors import InputError
from vitreous.imaging.preprocessing import Preprocessing
from vitreous.model.classifier import ImageClassifier
from vitreous.model.config import ViTConfig
from vitreous.model.vit import ViT
from vitreous.pretrained.wrap import wrap
from vitreous.runs.run_folder import results_folder

FILES = ["faithfulness-values.jsonl", "faithfulness.json", "faithfulness.png"]
CHEAP = ["--methods", "attention,input-x-gradient", "--count", "7"]


@pytest.fixture(scope="module")
def measured(trained_run, tmp_path_factory) -> Path:
    """The folder of a finished measurement of two methods on seven images."""
    folder = tmp_path_factory.mktemp("measured")
    assert run(["faithfulness", str(trained_run), "-o", str(folder), *CHEAP]) == 0
    return folder


def complaint(capsys, *arguments: object) -> str:
    assert run([str(argument) for argument in arguments]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("vitreous: ")]
    assert len(lines) == 1
    return lines[0]


def test_table_json_and_figure(trained_run, tmp_path, capsys):
    assert run(["faithfulness", str(trained_run), "-o", str(tmp_path / "new"), *CHEAP]) == 0
    said = capsys.readouterr()
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == FILES
    for words in ("random map", "center bias", "attention", "input-x-gradient", "tivity ↑", "7 test images"):
        assert words in said.out
    assert "2 methods, 7 images: about" in said.err and "faithfulness.png written" in said.err
    with Image.open(tmp_path / "new" / FILES[2]) as image:
        assert image.width == 1600
    result = json.loads((tmp_path / "new" / FILES[1]).read_text())
    assert [method["name"] for method in result["methods"]] == [
        "random map", "center bias", "attention", "input-x-gradient",
    ]  # fmt: skip
    assert result["unit"] == "probability" and result["settings"]["count"] == 7
    for method in result["methods"]:
        for score in method["scores"].values():
            assert score["low"] <= score["value"] <= score["high"] and score["n"] == 7
    assert len(result["agreement"]) == 6


def test_a_second_call_reports_the_same_without_measuring(measured, trained_run, tmp_path, capsys, monkeypatch):
    folder = shutil.copytree(measured, tmp_path / "copy")
    monkeypatch.setattr(faithfulness_module, "score_maps", None)
    assert run(["faithfulness", str(trained_run), "-o", str(folder), *CHEAP, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said == json.loads((measured / FILES[1]).read_text())
    for name in FILES:
        assert (folder / name).read_bytes() == (measured / name).read_bytes()


def test_a_stopped_measurement_continues_to_the_same_numbers(measured, trained_run, tmp_path, capsys, monkeypatch):
    folder, score_maps = tmp_path / "stopped", faithfulness_module.score_maps

    def interrupted(examined, method, *more):
        if method == "input-x-gradient":
            raise KeyboardInterrupt
        return score_maps(examined, method, *more)

    monkeypatch.setattr(faithfulness_module, "score_maps", interrupted)
    assert run(["faithfulness", str(trained_run), "-o", str(folder), *CHEAP]) == 130
    assert "the same command continues" in capsys.readouterr().err
    assert [path.name for path in folder.iterdir()] == FILES[:1]
    done = []

    def recorded(batch, method, *more):
        done.append(method)
        return score_maps(batch, method, *more)

    monkeypatch.setattr(faithfulness_module, "score_maps", recorded)
    assert run(["faithfulness", str(trained_run), "-o", str(folder), *CHEAP]) == 0
    assert "random map" not in done and "input-x-gradient" in done
    assert json.loads((folder / FILES[1]).read_text()) == json.loads((measured / FILES[1]).read_text())


def stop(*arguments: object) -> None:
    raise KeyboardInterrupt


def test_stopping_before_a_method_is_complete_says_that_nothing_is_saved(
    measured, trained_run, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(faithfulness_module, "score_maps", stop)
    assert run(["faithfulness", str(trained_run), "-o", str(tmp_path / "new"), *CHEAP]) == 130
    said = capsys.readouterr().err
    assert "so nothing was saved" in said and "continues" not in said and not (tmp_path / "new").exists()
    folder = shutil.copytree(measured, tmp_path / "old")
    assert run(["faithfulness", str(trained_run), "-o", str(folder), *CHEAP, "--restart"]) == 130
    assert f"{folder / FILES[0]} still holds the earlier values" in "".join(capsys.readouterr().err.splitlines())
    assert (folder / FILES[0]).read_bytes() == (measured / FILES[0]).read_bytes()


def test_a_restarted_measurement_that_is_stopped_continues_without_restart(
    measured, trained_run, tmp_path, capsys, monkeypatch
):
    folder, score_maps = shutil.copytree(measured, tmp_path / "old"), faithfulness_module.score_maps
    monkeypatch.setattr(
        faithfulness_module,
        "score_maps",
        lambda batch, method, *more: (stop if method == "attention" else score_maps)(batch, method, *more),
    )
    assert run(["faithfulness", str(trained_run), "-o", str(folder), *CHEAP, "--restart"]) == 130
    assert "the same command without --restart continues" in capsys.readouterr().err


def test_baselines_are_measured_first_however_long_they_took_in_the_trial(trained_run, tmp_path, monkeypatch):
    order, score_maps = [], faithfulness_module.score_maps
    seconds = iter(range(100, 0, -1))  # the baselines, timed first, seem to be the slowest
    monkeypatch.setattr(faithfulness_module, "time_once", lambda step: (step(), next(seconds))[1])

    def recorded(batch, method, *more):
        order.append(method)
        return score_maps(batch, method, *more)

    monkeypatch.setattr(faithfulness_module, "score_maps", recorded)
    faithfulness(trained_run, methods=["attention", "rollout"], count=2, output=tmp_path)
    assert order == ["center bias", "random map", "rollout", "attention"]


def test_json_keys_are_terms_in_snake_case(measured):
    def keys(value: object) -> list[str]:
        if isinstance(value, dict):
            return [*value, *(key for one in value.values() for key in keys(one))]
        return [key for one in value for key in keys(one)] if isinstance(value, list) else []

    lines = [json.loads(line) for line in (measured / FILES[0]).read_text().splitlines()]
    found = keys([json.loads((measured / FILES[1]).read_text()), *lines])
    assert {"road_most_same", "randomized_all_absolute"} <= set(found)
    assert [key for key in found if not re.fullmatch("[a-z][a-z0-9_]*", key)] == []


def test_more_methods_are_added_to_the_saved_ones(measured, trained_run, tmp_path, capsys):
    folder = shutil.copytree(measured, tmp_path / "more")
    flags = ["--count", "7", "--methods", "rollout", "--json"]
    assert run(["faithfulness", str(trained_run), "-o", str(folder), *flags]) == 0
    assert [one["name"] for one in json.loads(capsys.readouterr().out)["methods"]] == [
        "random map", "center bias", "rollout",
    ]  # fmt: skip
    kept = [json.loads(line).get("method") for line in (folder / FILES[0]).read_text().splitlines()]
    assert {"attention", "rollout"} <= set(kept)


def test_other_settings_are_errors_and_restart_ignores_the_saved_values(measured, trained_run, tmp_path, capsys):
    folder = shutil.copytree(measured, tmp_path / "other")
    for flags in (["--count", "6"], ["--count", "7", "--target", "true"], ["--count", "7", "--seed", "1"]):
        said = complaint(capsys, "faithfulness", trained_run, "-o", folder, *flags)
        assert "measured with other settings" in said and "--restart" in said
    flags = ["--count", "6", "--methods", "attention", "--target", "true", "--restart"]
    assert run(["faithfulness", str(trained_run), "-o", str(folder), *flags]) == 0
    assert json.loads((folder / FILES[0]).read_text().splitlines()[0])["count"] == 6


DAMAGE = {
    "cut": lambda text: text[: len(text) // 2],
    "empty": lambda text: "",
    "words": lambda text: "these are words",
    "list": lambda text: "[1, 2]\n" + text,
    "shorter": lambda text: text.replace('"map": [[', '"map": [1, [', 1),
    "not a number": lambda text: text.replace('"sensitivity_2": [', '"sensitivity_2": [NaN, ', 1),
    "no values": lambda text: text.replace('"values"', '"valuables"', 1),
    "null": lambda text: text.splitlines()[0] + "\nnull\n",
}


def changed(change: Callable[[dict[str, Any]], object]) -> Callable[[str], str]:
    """A file whose second method's values are still JSON, but not what is measured."""

    def damage(text: str) -> str:
        lines = [json.loads(line) for line in text.splitlines()]
        change(lines[2]["values"])
        return "".join(json.dumps(line) + "\n" for line in lines)

    return damage


DAMAGE |= {
    "no insertion": changed(lambda values: values.pop("insertion")),
    "no map": changed(lambda values: values.pop("map")),
    "short maps": changed(lambda values: values.update(map=[row[:-1] for row in values["map"]])),
    "no patches": changed(lambda values: values.update(map=[[] for _ in values["map"]])),
    "short curves": changed(lambda values: values.update(deletion=[row[:3] for row in values["deletion"]])),
    "short shares": changed(lambda values: values.update({"road_most": [row[:2] for row in values["road_most"]]})),
    "a number, no curve": changed(lambda values: values.update(insertion=[0.5] * 7)),
    "no random weights": changed(lambda values: values.pop("randomized_all")),
    "unknown": changed(lambda values: values.update(more=[[1, 2]] * 7)),
    "huge": changed(lambda values: values.update({"randomized_all": [10**400] * 7})),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_file_of_values(damage, measured, trained_run, tmp_path, capsys):
    text = (measured / FILES[0]).read_text()
    damaged = DAMAGE[damage](text)
    assert damaged != text
    (tmp_path / FILES[0]).write_text(damaged)
    said = complaint(capsys, "faithfulness", trained_run, "-o", tmp_path, *CHEAP)
    assert FILES[0] in said and "is damaged" in said and "--restart" in said
    assert (tmp_path / FILES[0]).read_text() == damaged


BAD = {
    "--methods rolout": "did you mean 'rollout'",
    "--methods ,": "no method is named",
    "--methods features": "none of the methods can explain this model",
    "--count 0": "count is 0",
    "--count 5000": "lower --count 5000",
    "--data shapes": "shapes are square",
    "--data folder:OTHERS": "has other classes",
    "--data nothing": "no source 'nothing'",
    "--split tset": "did you mean 'test'",
    "--target left": "left",
    "-o FILE": "is a file",
    "--device toaster": "no device 'toaster'",
}


@pytest.mark.parametrize("flags", BAD)
def test_bad_input_of_faithfulness(flags, trained_run, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("FILE").touch()
    others = make_folder(tmp_path.parent / f"{tmp_path.name}-others", 4)
    (others / "train" / "red").rename(others / "train" / "rouge")
    (others / "test" / "red").rename(others / "test" / "rouge")
    flags, said = flags.replace("OTHERS", str(others)), BAD[flags]
    output = [] if "-o" in flags else ["-o", "out"]
    assert said in complaint(capsys, "faithfulness", trained_run, *flags.split(), *output)
    assert [path.name for path in Path().rglob("*")] == ["FILE"]


def test_values_of_another_model_are_detected_when_a_method_is_added(measured, tmp_path):
    text = (measured / FILES[0]).read_text()
    (tmp_path / FILES[0]).write_text(text)
    settings = FaithfulnessSettings(**json.loads(text.splitlines()[0]))
    file = open_values(tmp_path / FILES[0], settings)
    one = file.methods["attention"]
    with pytest.raises(InputError, match=r"is damaged \(another has another map than .*--restart"):
        file.add("another", {**one, "map": np.pad(one["map"], ((0, 0), (0, 1)))})
    file.add("another", one)
    assert "another" in open_values(tmp_path / FILES[0], settings).methods


def test_results_of_a_weights_file_go_to_the_current_folder(trained_run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lone = tmp_path / "shared" / "model.safetensors"
    lone.parent.mkdir()
    lone.touch()
    assert (
        results_folder(lone, None, "faithfulness")
        == results_folder("hf:owner/name", None, "faithfulness")
        == Path("faithfulness")
    )
    assert results_folder(trained_run, None, "faithfulness") == trained_run and results_folder(
        lone, "out", "faithfulness"
    ) == Path("out")
    Path("faithfulness").touch()
    with pytest.raises(InputError, match="faithfulness is a file: choose another output folder"):
        results_folder(lone, None, "faithfulness")


def test_a_missing_model_is_an_error(tmp_path, capsys):
    assert "nowhere" in complaint(capsys, "faithfulness", tmp_path / "nowhere")


def tiny(size_hw: tuple[int, int], names: list[str]) -> ImageClassifier:
    torch.manual_seed(0)
    vit = ViT(ViTConfig(size_hw, 4, embed_dim=16, depth=1, num_heads=2, num_classes=len(names)))
    return ImageClassifier(vit, Preprocessing(size_hw, "squash", (0.5,) * 3, (0.25,) * 3, 4), names)


def test_a_model_without_classes_and_one_in_memory(colored_folder, tmp_path):
    source, methods = f"folder:{colored_folder}", ["attention", "grad-cam"]
    model = tiny((12, 20), [])
    with pytest.raises(InputError, match="name an output folder for the results"):
        faithfulness(model, source, methods=methods, count=6)
    result = faithfulness(model, source, methods=methods, count=6, output=tmp_path)
    assert result.unit == "score"
    assert "randomized_head" not in result.methods[2].scores and "road_most_same" not in result.methods[2].road
    assert all(np.isfinite(score.value) for method in result.methods for score in method.scores.values())
    with pytest.raises(InputError, match="no classes"):
        faithfulness(model, source, target="true", output=tmp_path)


def test_methods_that_cannot_explain_the_model_are_skipped_with_the_reason(colored_folder, tmp_path):
    """A model without attention: the perturbation methods remain, on squares of pixels."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)]
    model = wrap(
        nn.Sequential(*layers), Preprocessing((12, 20), "squash", (0.5,) * 3, (0.25,) * 3, 1), ["blue", "green", "red"]
    )
    methods = ["attention", "occlusion", "features"]
    result = faithfulness(model, f"folder:{colored_folder}", methods=methods, count=2, output=tmp_path)
    assert [method.name for method in result.methods] == ["random map", "center bias", "occlusion"]
    assert set(result.skipped) == {"attention", "features"} and "attention" in result.skipped["attention"]
    assert "randomized_head" in result.methods[2].scores


def test_too_few_patches(colored_folder, tmp_path):
    with pytest.raises(InputError, match="has 2 patches"):
        faithfulness(tiny((4, 8), ["blue", "green", "red"]), f"folder:{colored_folder}", output=tmp_path)
    assert not list(tmp_path.iterdir())
