"""What a training run does, leaves behind, and refuses."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from runs import tiny_recipe
from safetensors.torch import load_file

from vitreous.data.sources import load_train_validation
from vitreous.errors import InputError
from vitreous.model.vit import ViT
from vitreous.pretrained.load import load
from vitreous.records import from_dict, override, setting_names, to_dict
from vitreous.runs.run_folder import RunFolder, read_metrics
from vitreous.training.ema import ModelEma
from vitreous.training.optimizer import (
    Muon,
    MuonParam,
    OptimizerSettings,
    ScheduleSettings,
    build_optimizers,
    lr_multiplier,
    orthogonalize,
)
from vitreous.training.recipe import Recipe
from vitreous.workflows import train as workflow
from vitreous.workflows.evaluate import evaluate
from vitreous.workflows.train import Listener, train


def test_it_learns_and_leaves_all_that_a_run_is(trained_run):
    assert evaluate(trained_run).top1 == 1.0
    header = json.loads((trained_run / "recipe.json").read_text())
    assert from_dict(Recipe, header["recipe"]).model.num_classes == 3
    assert header["data"]["training"] + header["data"]["validation"] == 120
    assert header["torch"] == torch.__version__
    for name in ("config.json", "model.safetensors", "checkpoint/state.safetensors", "figures/curves.png"):
        assert (trained_run / name).stat().st_size > 0
    assert json.loads((trained_run / "evaluation.json").read_text())["top1"] == 1.0


def test_metrics_have_plain_keys(trained_run):
    lines = read_metrics(RunFolder(trained_run))
    training = [line for line in lines if line["split"] == "train"]
    assert {"step", "epoch", "loss", "top1", "learning_rate", "images_per_second"} <= set(training[0])
    assert training[-1]["loss"] < training[0]["loss"]
    assert training[-1]["learning_rate"] < training[len(training) // 2]["learning_rate"]
    validation = [line for line in lines if line["split"] == "validation"]
    assert len(validation) == 20 and validation[-1]["top1"] == 1.0


def test_the_average_is_what_is_kept(trained_run):
    model = load_file(trained_run / "model.safetensors")
    checkpoint = load_file(trained_run / "checkpoint" / "state.safetensors")
    assert all(torch.equal(value, checkpoint[f"average/{name}"]) for name, value in model.items())
    assert any(not torch.equal(value, checkpoint[f"model/{name}"]) for name, value in model.items())


def test_a_loaded_model_tells_real_images(trained_run):
    model = load(trained_run)
    red = model.predict(np.full((300, 500, 3), (220, 50, 40), np.uint8))
    assert red.label == "red" and red.score > 0.5
    assert sum(probability for _, probability in red.scores) == pytest.approx(1, abs=1e-5)


def test_same_seed_same_bytes_other_seed_others(colored_folder, tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        train(tiny_recipe(colored_folder, epochs=1, seed=seed), tmp_path / name)
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in "abc"]
    assert weights[0] == weights[1] != weights[2]


def test_random_numbers_of_the_process_are_left_alone(colored_folder, tmp_path):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    train(tiny_recipe(colored_folder, epochs=1), tmp_path / "run")
    assert torch.equal(torch.rand(3), expected)


def test_a_single_class_is_refused_and_an_empty_one_told(colored_folder, tmp_path, monkeypatch):
    def with_names(*names):
        def load(source, *options):
            training, validation = load_train_validation(source, *options)
            kept = training.select((training.labels == 0).nonzero().flatten())
            return replace(kept, class_names=names), replace(validation.select([]), class_names=names)

        return load

    monkeypatch.setattr(workflow, "load_train_validation", with_names("blue"))
    with pytest.raises(InputError, match=r"has 1 class\(es\): there is nothing to tell apart"):
        train(tiny_recipe(colored_folder), tmp_path / "run")
    assert not (tmp_path / "run").exists()
    notes = []
    monkeypatch.setattr(workflow, "load_train_validation", with_names("blue", "green"))
    train(tiny_recipe(colored_folder, epochs=1, batch_size=50), tmp_path / "run", listener=Listener(notes.append))
    assert "no images to learn from of 1 class(es): green" in notes
    assert any(note.startswith("batches of 3") for note in notes)


def test_folders_that_are_not_free(colored_folder, tmp_path):
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "to-mother.txt").write_text("dear")
    with pytest.raises(InputError, match="exists and is no run"):
        train(tiny_recipe(colored_folder), tmp_path / "letters")
    with pytest.raises(InputError, match="is a file"):
        train(tiny_recipe(colored_folder), tmp_path / "letters" / "to-mother.txt")
    assert [path.name for path in (tmp_path / "letters").iterdir()] == ["to-mother.txt"]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"epoch": "3"}, "did you mean 'epochs'"),
        ({"optimizer.learning_rat": "3"}, "did you mean 'learning_rate'"),
        ({"epochs.more": "3"}, "no setting 'epochs.more'"),
        ({"epochs": "many"}, "setting epochs=many: .*number"),
        ({"epochs": "-1"}, "must be above 0"),
        ({"model.num_heads": "5"}, "can't be shared by 5 heads"),
        ({"optimizer.kind": "sgd"}, "setting optimizer.kind=sgd: .*'muon' or 'adamw'"),
        ({"schedule.warmup": "1.5"}, "below 1"),
        ({"name": "other"}, "no setting 'name'"),
        ({"epochs": "inf"}, "epochs is inf"),
        ({"optimizer.adamw_learning_rate": "-1"}, "at least 0"),
        ({"optimizer.learning_rate": "nan"}, "learning_rate is nan"),
        ({"optimizer.betas": "1,2"}, "betas is 1.0: it must be at least 0 and below 1"),
        ({"optimizer.clip_norm": "-1"}, "clip_norm is -1.0"),
        ({"augment.shift": "-1"}, "shift is -1"),
        ({"augment.shift": "40"}, "less than the image's sides"),
        ({"model.mlp_ratio": "0.001"}, "leaves no hidden numbers"),
        ({"accumulate": "0"}, "accumulate is 0: it must be above 0"),
        ({"accumulate": "1.5"}, "setting accumulate=1.5: .*integer"),
        ({"checkpoint_seconds": "-1"}, "checkpoint_seconds is -1.0: it must be at least 0"),
        ({"checkpoint_activations": "perhaps"}, "setting checkpoint_activations=perhaps: .*boolean"),
    ],
)
def test_settings_that_do_not_fit(settings, words, colored_folder):
    with pytest.raises(InputError, match=words):
        override(tiny_recipe(colored_folder), settings)


def test_what_the_images_decide_cannot_be_set(colored_folder, tmp_path):
    with pytest.raises(InputError, match=r"model\.classes is taken from the images: leave it out"):
        train(tiny_recipe(colored_folder), tmp_path / "run", settings={"model.num_classes": "7"})
    assert not (tmp_path / "run").exists()


def test_settings_are_checked_together(colored_folder):
    recipe = tiny_recipe(colored_folder)
    for settings in (
        {"model.image_size": "30x30", "model.patch_size": "5"},
        {"model.num_heads": "3", "model.embed_dim": "96"},
    ):
        for order in (settings, dict(reversed(settings.items()))):
            changed = override(recipe, order)
            assert changed.model.patch_size == 5 or changed.model.num_heads == 3


def test_settings_reach_their_place(colored_folder):
    settings = {
        "epochs": "2.5", "average_decay": "none", "augment.flip": "true", "optimizer.betas": "0.8,0.9",
        "model.image_size": "32x48", "optimizer.clip_norm": "1",
    }  # fmt: skip
    recipe = override(tiny_recipe(colored_folder), settings)
    assert recipe.epochs == 2.5 and recipe.ema_decay is None and recipe.augment.flip is True
    assert recipe.optimizer.betas == (0.8, 0.9) and recipe.model.image_size == (32, 48)
    assert from_dict(Recipe, json.loads(json.dumps(to_dict(recipe)))) == recipe
    assert "optimizer.learning_rate" in setting_names(recipe)


def test_every_weight_has_one_optimizer(colored_folder):
    model = ViT(tiny_recipe(colored_folder).model)
    for kind in ("muon", "adamw"):
        optimizers = build_optimizers(model, OptimizerSettings(kind))
        owned = [id(weight) for o in optimizers.values() for group in o.param_groups for weight in group["params"]]
        assert sorted(owned) == sorted(id(weight) for weight in model.parameters())


def test_newton_schulz_brings_singular_values_near_one():
    torch.manual_seed(0)
    for shape in ((5, 16, 48), (5, 48, 16)):
        values = torch.linalg.svdvals(orthogonalize(torch.randn(shape)))
        assert values.min() > 0.6 and values.max() < 1.3


def test_muon_is_torchs_muon_on_single_matrices():
    """torch's own, told to scale alike and given one matrix; it computes in bfloat16, hence the tolerance."""
    torch.manual_seed(0)
    start, gradients = torch.randn(12, 20), [torch.randn(12, 20) for _ in range(4)]
    ours, theirs = start.clone().requires_grad_(), start.clone().requires_grad_()
    options = {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.1}
    reference = torch.optim.Muon([theirs], **options, adjust_lr_fn="match_rms_adamw")
    mine = Muon([MuonParam(ours)], 0.1, 0.9, 0.1)
    for gradient in gradients:
        for weight, optimizer in ((ours, mine), (theirs, reference)):
            weight.grad = gradient.clone()
            optimizer.step()
    moved = (theirs - start).norm()
    assert (ours - theirs).norm() < 0.03 * moved


def test_muon_takes_query_key_and_value_apart():
    torch.manual_seed(0)
    joint, gradient = torch.zeros(24, 8, requires_grad=True), torch.randn(24, 8)
    parts = [torch.zeros(8, 8, requires_grad=True) for _ in range(3)]
    joint.grad = gradient.clone()
    for part, its in zip(parts, gradient.chunk(3), strict=True):
        part.grad = its.clone()
    Muon([MuonParam(joint, 3)], 0.1, 0.9, 0.0).step()
    Muon([MuonParam(part) for part in parts], 0.1, 0.9, 0.0).step()
    assert torch.allclose(joint, torch.cat(parts), atol=1e-6)


def test_schedule_ends_at_zero_and_never_leaves_its_range():
    for shape in ("linear", "cosine"):
        for warmup in (0.0, 0.1, 0.5):
            settings = ScheduleSettings(warmup, shape)
            values = [lr_multiplier(step, 40, settings) for step in range(41)]
            assert max(values) == pytest.approx(1, abs=0.03) and values[-1] == 0 and min(values[:-1]) > 0
            peak = values.index(max(values))
            assert values[peak:] == sorted(values[peak:], reverse=True)


def test_a_constant_schedule_stays_at_its_peak():
    assert [lr_multiplier(step, 10, ScheduleSettings(0.2, "constant")) for step in (0, 1, 2, 9)] == [0.5, 1, 1, 1]


def test_average_follows_the_weights():
    model = torch.nn.Linear(2, 2)
    average = ModelEma(model, 0.5)
    with torch.no_grad():
        model.weight.fill_(4)
        average.model.weight.fill_(2)
    average.update(model, 1000)
    assert torch.equal(average.model.weight, torch.full((2, 2), 3.0))


def test_listener_hears_notes_and_progress(colored_folder, tmp_path):
    notes, seen = [], []
    train(tiny_recipe(colored_folder, epochs=3), tmp_path / "run", listener=Listener(notes.append, seen.append))
    assert any("learn from" in text for text in notes)
    assert seen[-1].step == seen[-1].steps and seen[-1].seconds_left == 0 and seen[-1].images_per_second > 0
