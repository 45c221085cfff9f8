"""The command that reproduces a run: it gives back the recipe that the run had, whatever it started from."""

import itertools
import json
import shlex
from dataclasses import replace

import pytest
from test_report_page import QUICK, Page
from tiny_run import make_base

import vitreous
from vitreous.diagnostics.report.reproduction import reproduction_command
from vitreous.records import to_dict
from vitreous.training.from_weights import recipe_from_weights
from vitreous.training.recipe import Recipe, with_settings
from vitreous.training_recipes import RECIPES, find_recipe
from vitreous.training_recipes.finetune import suited_settings

FLAGS = {
    "--epochs": "epochs", "--seed": "seed", "--learning-rate": "optimizer.learning_rate", "--init": "init",
    "--data": "data", "--batch-size": "batch_size",
}  # fmt: skip


def settings_of(command: str) -> dict[str, str]:
    """The settings that a command names, as `vitreous train` takes them."""
    words = shlex.split(command)
    given = dict(word.split("=", 1) for before, word in itertools.pairwise(words) if before == "--set")
    return given | {FLAGS[word]: value for word, value in itertools.pairwise(words) if word in FLAGS}


@pytest.mark.parametrize("name", [name for name in RECIPES if name != "finetune"])
def test_the_command_gives_the_recipe_back(name):
    base = find_recipe(name)
    changes = {"epochs": 0.5, "seed": 7, "optimizer.weight_decay": 0.125, "model.depth": 3, "ema_decay": 0.5}
    changes |= {"optimizer.betas": (0.8, 0.9), "optimizer.learning_rate": 0.0012, "augment.flip": not base.augment.flip}
    changes |= {"precision": "bf16", "grad_accum_steps": 2, "fsdp": not base.distillation.weight}
    recipe = with_settings(base, changes)
    command = reproduction_command(recipe)
    assert command.split()[:5] == ["vitreous", "train", name, "--output", "RUN"]
    assert with_settings(base, settings_of(command)) == recipe
    assert settings_of(reproduction_command(base)).keys() <= {"precision"}
    assert reproduction_command(base, 2).startswith(f"torchrun --nproc-per-node=2 -m vitreous train {name} ")


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"model.image_size": (16, 24), "model.drop_path_rate": 0.2, "model.patch_drop_rate": 0.1},
        {"crop_pct": 1.0},
        {"resize_mode": "squash", "interpolation": "bicubic", "crop_pct": 0.9},
        {"tune": "lora"},
        {"tune": "lora", "optimizer.learning_rate": 5e-4, "optimizer.layer_decay": 0.6},
        {"tune": "head", "precision": "bf16", "optimizer.layer_decay": 1.0, "grad_accum_steps": 2},
    ],
)
def test_the_command_gives_a_fine_tuned_run_back(tmp_path, changes):
    init = vitreous.load(make_base(tmp_path / "base"))
    start = {"init": str(tmp_path / "base"), "data": f"folder:{tmp_path}"}
    recipe = started({**start, **changes}, init)
    given = settings_of(reproduction_command(recipe))
    assert started(given, init) == recipe and given["init"] == start["init"]


def started(settings, init) -> Recipe:
    """The recipe of a run that `train` starts with these settings."""
    base = find_recipe("finetune")
    return recipe_from_weights(base, init, suited_settings(base, settings), lambda _: None)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({}, "give the same bits"),
        ({"device": "2 x GPU, 2 processes"}, "torchrun --nproc-per-node=2 -m vitreous train mnist"),
        ({"earlier_data": [{"until_step": 3}]}, "The images changed during the run"),
    ],
)
def test_equal_bits_are_promised_to_one_process_on_unchanged_images_alone(trained_run, tmp_path, changes, text):
    metadata = json.loads((trained_run / "recipe.json").read_text())
    recipe = replace(find_recipe("mnist"), precision="fp32")
    (tmp_path / "recipe.json").write_text(
        json.dumps({**metadata, "recipe": {**to_dict(recipe), "data": "folder:/gone"}, **changes})
    )
    page = Page(vitreous.report(tmp_path, **QUICK).html)
    assert text in page.text and "precision=fp32" in page.text
    assert ("give the same bits" in page.text) == (not changes)
