"""Recipes: settings are changed by name, checked together, and written to JSON and back."""

import json
import logging
from dataclasses import replace

import pytest
from tiny_run import tiny_recipe

from vitreous.callbacks import Callback
from vitreous.data.augment import Augment
from vitreous.errors import InputError
from vitreous.model.config import SIZES, named_config
from vitreous.records import from_dict, from_json, override, setting_names, to_dict
from vitreous.training.recipe import SETTING_ALIASES, Recipe, with_settings
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
        ({"epochs": "1e300"}, r"epochs is 1e\+300: it must be at most 1,000,000"),
        ({"model.image_size": "1000000"}, "patches of 4, more than 65536, which is the limit"),
        ({"model.image_size": 10**400}, "patches of 4, more than 65536, which is the limit"),
        ({"validate_every_epochs": "1e-320"}, "validate_every_epochs is 1e-320: it must be at least 1e-09"),
        ({"distillation.teacher_width": "1000000000000"}, "teacher_width is 1000000000000: it must be 1 to 10,000"),
        ({"model.depth": "1000000"}, "depth is 1000000: it must be at most 10,000"),
        ({"optimizer.learning_rate": "1e300"}, r"learning_rate is 1e\+300: it must be at least 0 and at most 1e\+30"),
        ({"optimizer.stem_lr_scale": "1e300"}, r"stem_lr_scale is 1e\+300: .* at most 1e\+06"),
        ({"distillation.teacher_learning_rate": "1e300"}, r"learning_rate is 1e\+300: .* at most 1e\+30"),
        ({"distillation.temperature": "1e300"}, r"temperature is 1e\+300: it must be above 0 and at most 1e\+06"),
        ({"optimizer.adamw_learning_rate": "-1"}, "at least 0"),
        ({"optimizer.learning_rate": "nan"}, "learning_rate is nan"),
        ({"optimizer.betas": "1,2"}, "betas is 1.0: it must be at least 0 and below 1"),
        ({"optimizer.clip_grad_norm": "-1"}, "clip_grad_norm is -1.0"),
        ({"augment.shift": "-1"}, "shift is -1"),
        ({"augment.shift": "40"}, "less than the image's sides"),
        ({"augment.randaugment_ops": "two"}, "setting augment.randaugment_ops=two: .*integer"),
        ({"augment.randaugment_magnitude": "30"}, "randaugment_magnitude is 30.0: it must be 0 to 10"),
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


def test_recipes_from_before_randaugment_are_those_without_it(colored_folder):
    recipe = tiny_recipe(colored_folder)
    values = to_dict(recipe)
    values["augment"] = {name: value for name, value in values["augment"].items() if "randaugment" not in name}
    assert from_json(Recipe, values) == recipe and recipe.augment.randaugment_ops == 0


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
    assert repr(result).startswith(f"TrainResult({tmp_path / 'run'}: finished, validation top-1 ")
    with pytest.raises(InputError, match="epochs is given twice"):
        train(recipe, tmp_path / "other", epochs=1, settings={"epochs": 2})


@pytest.mark.parametrize("name", [*SIZES, "small/16", "ViT-B/32", "vit_tiny_patch16_224"])
def test_every_size_can_be_trained_by_name(name, colored_folder):
    recipe = tiny_recipe(colored_folder, augment=Augment())
    for settings in ({"model.depth": 3, "model": name}, {"model": name, "model.depth": "3"}):
        changed = with_settings(recipe, settings)
        assert changed.model == replace(named_config(name), depth=3)
    assert replace(changed, model=recipe.model) == recipe


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("lr", "optimizer.learning_rate"),
        ("optimizer.lr", "optimizer.learning_rate"),
        ("weight_decay", "optimizer.weight_decay"),
        ("num_train_epochs", "epochs"),
        ("gradient-accumulation-steps", "grad_accum_steps"),
        ("img_size", "model.image_size"),
        ("auto_augment", "augment.randaugment_ops"),
        ("augment.magnitude", "augment.randaugment_magnitude"),
        ("image_size", "model.image_size"),
        ("size", "model"),
    ],
)
def test_the_names_of_other_libraries_suggest_ours(given, expected, colored_folder):
    with pytest.raises(InputError, match=rf"^there is no setting '{given}': did you mean {expected}\?$"):
        with_settings(tiny_recipe(colored_folder), {given: "1"})


def test_the_aliases_are_of_settings_that_exist_and_shadow_none(colored_folder):
    names = [*setting_names(tiny_recipe(colored_folder)), "model"]
    aliases = [alias for each in SETTING_ALIASES.values() for alias in each.split()]
    assert set(SETTING_ALIASES) <= set(names) and len(aliases) == len(set(aliases))
    assert not set(aliases) & set(names)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"recipe": 3}, "recipe=3 has the wrong type: train takes a string or a vitreous.Recipe"),
        ({"settings": ["epochs=1"]}, "settings=['epochs=1'] has the wrong type: train takes a dictionary such as"),
        ({"settings": {3: 1}}, "settings={3: 1} has the wrong type: train takes a dictionary such as"),
        ({"settings": {"epochs": [1]}}, "setting epochs=[1]: input should be a valid number"),
        ({"settings": {"model": 3}}, "setting model=3: give the name of a size, such as S/16"),
        ({"epochs": "many"}, "epochs='many' has the wrong type: train takes a number or None"),
        ({"callback": print}, "callback=<built-in function print> has the wrong type"),
        ({"data": ""}, "there is no source ''"),
        ({"output": "a\0b"}, "'a\\x00b' can't be an output folder"),
    ],
    ids=str,
)
def test_wrong_arguments_of_train_give_one_line(arguments, message, colored_folder, tmp_path):
    given = {"recipe": tiny_recipe(colored_folder), "output": tmp_path / "run", **arguments}
    with pytest.raises(InputError) as caught:
        train(**given)
    assert str(caught.value).startswith(message) and "\n" not in str(caught.value) and not list(tmp_path.iterdir())


def test_progress_is_reported_by_default_and_an_empty_callback_is_silent(colored_folder, tmp_path, capsys, monkeypatch):
    logger = logging.getLogger("vitreous")
    monkeypatch.setattr(logger, "propagate", False)
    train(tiny_recipe(colored_folder, epochs=0.2), tmp_path / "a")
    lines = capsys.readouterr().err
    assert "at 12 × 20 pixels" in lines and "epoch 0.14 · loss" in lines and "images/s" in lines
    train(tiny_recipe(colored_folder, epochs=0.2), tmp_path / "b", callback=Callback())
    assert capsys.readouterr().err == ""
