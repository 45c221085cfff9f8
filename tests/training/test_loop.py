"""A training run: what it learns, which files it writes, and which folders and data it refuses."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tiny_run import RecordingCallback, tiny_recipe

from vitreous.data.sources import load_train_validation
from vitreous.errors import InputError
from vitreous.pretrained.load import load
from vitreous.records import from_dict
from vitreous.runs.run_folder import RunFolder, read_metrics
from vitreous.training import training_data
from vitreous.training.ema import ModelEma
from vitreous.training.recipe import Recipe
from vitreous.workflows.evaluate import evaluate
from vitreous.workflows.train import train


def test_a_run_learns_and_writes_all_its_files(trained_run):
    assert evaluate(trained_run).top1 == 1.0
    metadata = json.loads((trained_run / "recipe.json").read_text())
    assert from_dict(Recipe, metadata["recipe"]).model.num_classes == 3
    assert metadata["data"]["training"] + metadata["data"]["validation"] == 120
    assert metadata["torch"] == torch.__version__
    for name in ("config.json", "model.safetensors", "checkpoint/state.safetensors", "figures/curves.png"):
        assert (trained_run / name).stat().st_size > 0
    assert json.loads((trained_run / "evaluation.json").read_text())["top1"] == 1.0


def test_metrics_have_the_documented_keys(trained_run):
    lines = read_metrics(RunFolder(trained_run))
    training = [line for line in lines if line["split"] == "train"]
    assert {"step", "epoch", "loss", "top1", "learning_rate", "images_per_second"} <= set(training[0])
    assert training[-1]["loss"] < training[0]["loss"]
    assert training[-1]["learning_rate"] < training[len(training) // 2]["learning_rate"]
    validation = [line for line in lines if line["split"] == "validation"]
    assert len(validation) == 20 and validation[-1]["top1"] == 1.0


def test_the_saved_model_is_the_average(trained_run):
    model = load_file(trained_run / "model.safetensors")
    checkpoint = load_file(trained_run / "checkpoint" / "state.safetensors")
    assert all(torch.equal(value, checkpoint[f"ema/{name}"]) for name, value in model.items())
    assert any(not torch.equal(value, checkpoint[f"model/{name}"]) for name, value in model.items())


def test_a_loaded_model_classifies_images_of_any_size(trained_run):
    model = load(trained_run)
    red = model.predict(np.full((300, 500, 3), (220, 50, 40), np.uint8))
    assert red.label == "red" and red.score > 0.5
    assert sum(probability for _, probability in red.scores) == pytest.approx(1, abs=1e-5)


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(colored_folder, tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        train(tiny_recipe(colored_folder, epochs=1, seed=seed), tmp_path / name)
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in "abc"]
    assert weights[0] == weights[1] != weights[2]


def test_the_global_random_state_is_left_alone(colored_folder, tmp_path):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    train(tiny_recipe(colored_folder, epochs=1), tmp_path / "run")
    assert torch.equal(torch.rand(3), expected)


def test_a_single_class_is_refused_and_an_empty_one_reported(colored_folder, tmp_path, monkeypatch):
    def with_names(*names):
        def load(source, *options):
            training, validation = load_train_validation(source, *options)
            kept = training.select((training.labels == 0).nonzero().flatten())
            return replace(kept, class_names=names), replace(validation.select([]), class_names=names)

        return load

    monkeypatch.setattr(training_data, "load_train_validation", with_names("blue"))
    with pytest.raises(InputError, match=r"has 1 class\(es\): classification needs two or more"):
        train(tiny_recipe(colored_folder), tmp_path / "run")
    assert not (tmp_path / "run").exists()
    callback = RecordingCallback()
    monkeypatch.setattr(training_data, "load_train_validation", with_names("blue", "green"))
    train(tiny_recipe(colored_folder, epochs=1, batch_size=50), tmp_path / "run", callback=callback)
    assert "1 class(es) have no image to train on: green" in callback.notes
    assert any(note.startswith("the batch size is 3") for note in callback.notes)


def test_a_folder_in_use_is_refused(colored_folder, tmp_path):
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "to-mother.txt").write_text("dear")
    with pytest.raises(InputError, match="exists and is not a run"):
        train(tiny_recipe(colored_folder), tmp_path / "letters")
    with pytest.raises(InputError, match="is a file"):
        train(tiny_recipe(colored_folder), tmp_path / "letters" / "to-mother.txt")
    assert [path.name for path in (tmp_path / "letters").iterdir()] == ["to-mother.txt"]


def test_the_ema_follows_the_weights():
    model = torch.nn.Linear(2, 2)
    ema = ModelEma(model, 0.5)
    with torch.no_grad():
        model.weight.fill_(4)
        ema.module.weight.fill_(2)
    ema.set_step(1000)
    ema.update_parameters(model)
    assert torch.equal(ema.module.weight, torch.full((2, 2), 3.0))


def test_the_callback_gets_notes_and_progress(colored_folder, tmp_path):
    callback = RecordingCallback()
    train(tiny_recipe(colored_folder, epochs=3), tmp_path / "run", callback=callback)
    assert any("to train on" in note for note in callback.notes)
    last = callback.progress[-1]
    assert last.done == last.total and last.seconds_left == 0 and last.images_per_second > 0
