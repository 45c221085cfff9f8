"""Recipes: settings are changed by name, checked together, and written to JSON and back."""

import json

import pytest
from tiny_run import tiny_recipe

from vitreous.errors import InputError
from vitreous.records import from_dict, override, setting_names, to_dict
from vitreous.training.recipe import Recipe, with_settings
from vitreous.workflows.train import train


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"epoch": "3"}, "did you mean 'epochs'"),
        ({"optimizer.learning_rat": "3"}, "did you mean 'learning_rate'"),
        ({"epochs.more": "3"}, "no setting 'epochs.more'"),
        ({"epochs": "many"}, "setting epochs=many: .*number"),
        ({"epochs": "-1"}, "must be above 0"),
        ({"model.num_heads": "5"}, "embed_dim 16 can't be divided among 5 heads"),
        ({"optimizer.kind": "sgd"}, "setting optimizer.kind=sgd: .*'muon' or 'adamw'"),
        ({"schedule.warmup_fraction": "1.5"}, "below 1"),
        ({"name": "other"}, "no setting 'name'"),
        ({"epochs": "inf"}, "epochs is inf"),
        ({"optimizer.adamw_learning_rate": "-1"}, "at least 0"),
        ({"optimizer.learning_rate": "nan"}, "learning_rate is nan"),
        ({"optimizer.betas": "1,2"}, "betas is 1.0: it must be at least 0 and below 1"),
        ({"optimizer.clip_grad_norm": "-1"}, "clip_grad_norm is -1.0"),
        ({"augment.shift": "-1"}, "shift is -1"),
        ({"augment.shift": "40"}, "less than the image's sides"),
        ({"model.mlp_ratio": "0.001"}, "leaves no hidden units"),
        ({"grad_accum_steps": "0"}, "grad_accum_steps is 0: it must be above 0"),
        ({"grad_accum_steps": "1.5"}, "setting grad_accum_steps=1.5: .*integer"),
        ({"checkpoint_seconds": "-1"}, "checkpoint_seconds is -1.0: it must be at least 0"),
        ({"grad_checkpointing": "perhaps"}, "setting grad_checkpointing=perhaps: .*boolean"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings, words, colored_folder):
    with pytest.raises(InputError, match=words):
        override(tiny_recipe(colored_folder), settings)


def test_settings_that_the_images_decide_are_refused(colored_folder, tmp_path):
    with pytest.raises(InputError, match=r"model\.num_classes is taken from the images: leave it out"):
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


def test_settings_change_the_recipe(colored_folder):
    settings = {
        "epochs": "2.5", "ema_decay": "none", "augment.flip": "true", "optimizer.betas": "0.8,0.9",
        "model.image_size": "32x48", "optimizer.clip_grad_norm": "1",
    }  # fmt: skip
    recipe = override(tiny_recipe(colored_folder), settings)
    assert recipe.epochs == 2.5 and recipe.ema_decay is None and recipe.augment.flip is True
    assert recipe.optimizer.betas == (0.8, 0.9) and recipe.model.image_size == (32, 48)
    assert from_dict(Recipe, json.loads(json.dumps(to_dict(recipe)))) == recipe
    assert "optimizer.learning_rate" in setting_names(recipe)


def test_settings_may_be_texts_or_values(colored_folder):
    recipe = tiny_recipe(colored_folder)
    texts = {"epochs": "8", "optimizer.betas": "0.8,0.9", "model.image_size": "32x48", "ema_decay": "none"}
    values = {"epochs": 8, "optimizer.betas": (0.8, 0.9), "model.image_size": (32, 48), "ema_decay": None}
    assert with_settings(recipe, texts) == with_settings(recipe, values)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("average_decay", "ema_decay"),
        ("resolution.share", "progressive_resizing.fraction"),
        ("teacher.width", "distillation.teacher_width"),
        ("optimizer.stem_pace", "optimizer.stem_lr_scale"),
        ("model.width", "model.embed_dim"),
    ],
)
def test_the_error_for_an_old_name_says_the_new_one(old, new, colored_folder):
    with pytest.raises(InputError, match=f"the setting '{old}' is now called '{new}'"):
        with_settings(tiny_recipe(colored_folder), {old: "1"})


def test_common_settings_are_arguments_of_train(colored_folder, tmp_path):
    recipe = tiny_recipe(colored_folder)
    result = train(recipe, tmp_path / "run", epochs=0.5, batch_size=8, learning_rate=1e-3, seed=3)
    assert result.steps == round(0.5 * 114 / 8) and result.finished
    stored = json.loads((tmp_path / "run" / "recipe.json").read_text())["recipe"]
    assert (stored["epochs"], stored["batch_size"], stored["seed"]) == (0.5, 8, 3)
    assert stored["optimizer"]["learning_rate"] == 1e-3
    assert result.model.class_names == ("blue", "green", "red") and result.model is result.model
    assert repr(result).startswith(f"TrainResult({tmp_path / 'run'}: finished, validation accuracy ")
    with pytest.raises(InputError, match="epochs is given twice"):
        train(recipe, tmp_path / "other", epochs=1, settings={"epochs": 2})
