"""Settings changed by name: which values are accepted, and the messages for those that are not."""

import json

import pytest

from vitreous.errors import InputError
from vitreous.records import from_dict, from_json, override, to_dict
from vitreous.training.recipe import Recipe
from vitreous.training_recipes import find_recipe

RECIPE = find_recipe("cifar10-quick")


def test_given_settings_change_and_the_others_stay():
    changed = override(RECIPE, {"model.image_size": "48x64", "optimizer.betas": "0.8,0.9", "ema_decay": "none"})
    assert changed.model.image_size == (48, 64) and changed.optimizer.betas == (0.8, 0.9)
    assert changed.ema_decay is None and changed.model.embed_dim == RECIPE.model.embed_dim


@pytest.mark.parametrize("size", [48, "48", (48, 48), [48, 48], "48x48", "(48, 48)"])
def test_one_number_is_a_square_image(size):
    assert override(RECIPE, {"model.image_size": size}).model.image_size == (48, 48)


def test_settings_take_values_of_their_own_type():
    settings = {"epochs": 8, "optimizer.learning_rate": 1e-3, "optimizer.betas": (0.8, 0.9), "model.qk_norm": True,
                "ema_decay": None, "seed": 3, "model.global_pool": "avg"}  # fmt: skip
    text = {"epochs": "8", "optimizer.learning_rate": "1e-3", "optimizer.betas": "0.8,0.9", "model.qk_norm": "true",
            "ema_decay": "none", "seed": "3", "model.global_pool": "avg"}  # fmt: skip
    assert override(RECIPE, settings) == override(RECIPE, text)
    assert from_dict(Recipe, to_dict(override(RECIPE, settings))) == override(RECIPE, settings)


def test_what_json_holds_is_not_converted():
    stored = json.loads(json.dumps(to_dict(RECIPE)))
    assert from_json(Recipe, stored) == RECIPE
    for values in ({"epochs": "8"}, {"batch_size": 8.0}, {"tensorboard": "yes"}, {"tensorboard": 1}, {"seed": True}):
        with pytest.raises(InputError, match=f"^recipe.json: {next(iter(values))}: input should be a valid"):
            from_json(Recipe, stored | values, "recipe.json")


def nested(depth: int) -> list:
    values: list = []
    for _ in range(depth):
        values = [values]
    return values


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "ab\ud83d"}, r"name: the text 'ab\\ud83d' is not valid Unicode$"),
        ({"model": {"stem": "\udc00"}}, r"model.stem: the text '\\udc00' is not valid Unicode$"),
        ({"augment": {"x\ud800": 1}}, r"augment: the text 'x\\ud800' is not valid Unicode$"),
        ({"name": nested(300)}, "its lists or objects are nested too deeply$"),
        ({"name": nested(900)}, "its lists or objects are nested too deeply$"),
        ({"name": nested(100_000)}, "its lists or objects are nested too deeply$"),
    ],
    ids=["surrogate", "surrogate-inside", "surrogate-in-a-name", "deep", "deeper", "deepest"],
)
def test_the_fault_of_a_file_is_named_not_that_of_a_copy(changes, message):
    with pytest.raises(InputError, match=f"^recipe.json: {message}"):
        from_json(Recipe, to_dict(RECIPE) | changes, "recipe.json")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("model.image_size", "48x48x48", "setting model.image_size=48x48x48: give 2 values, such as 48,48$"),
        ("optimizer.betas", "0.9,0.9,0.9", "give 2 values, such as 0.9,0.9$"),
        ("optimizer.betas", "0.9", "give 2 values, such as 0.9,0.9$"),
        ("optimizer.betas", (0.9, 0.9, 0.9), "give 2 values, such as 0.9,0.9$"),
        ("learning_rate", "1e-3", "'learning_rate': did you mean optimizer.learning_rate"),
        ("optimizer.lr", "1", r"no setting of optimizer 'lr': choose one of \(kind, learning_rate, "),
        ("optimizr.lr", "1", r"no setting 'optimizr.lr': .*optimizer"),
        ("lr", "1", r"no setting 'lr': choose one of \(data, epochs, "),
        ("epoch", "1", "did you mean 'epochs'"),
        ("model.embed_dmi", "1", "no setting of model 'embed_dmi': did you mean 'embed_dim'"),
        ("schedule.warmup_fraction", "1", "^schedule.warmup_fraction is 1.0: "),
        ("seed", "-1", "seed is -1"),
        ("seed", 1.5, "setting seed=1.5: "),
        ("lora.targets", "q,w", "^setting lora.targets=q,w: input should be 'q', "),
        ("augment.cutout", "32", "augment.cutout is 32: it must be less than"),
        ("model.init_values", "-1", "init_values is -1.0: it must be above 0"),
    ],
)
def test_invalid_settings(name, value, message):
    with pytest.raises(InputError, match=message):
        override(RECIPE, {name: value})
