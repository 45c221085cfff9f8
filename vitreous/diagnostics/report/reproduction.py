"""The command that trains a run again, from what recipe.json records about it."""

import re
import shlex
from collections.abc import Mapping
from typing import Any

from vitreous.data.sources import absolute_source
from vitreous.errors import InputError
from vitreous.records import setting_names
from vitreous.training.from_weights import FREE_MODEL_SETTINGS
from vitreous.training.provenance import RESUMABLE_SETTINGS
from vitreous.training.recipe import Recipe
from vitreous.training_recipes import RECIPES, find_recipe

FROM_IMAGES = ("model.num_classes", "model.in_chans")
"""Settings that the images decide."""
ROUNDING_SETTINGS = ("grad_accum_steps", "fsdp")
"""Settings that may change on resume, but change the bits of the result."""
FROM_INIT = (
    *FREE_MODEL_SETTINGS, "resize_mode", "interpolation", "crop_pct", "optimizer.learning_rate", "optimizer.layer_decay"
)  # fmt: skip
"""Settings that are otherwise those of the model to start from, or those that suit `tune`, not the recipe's."""


def reproduction_command(recipe: Recipe, processes: int = 1) -> str | None:
    """Return the command that trains a run again; None for a recipe that isn't one of the table.

    >>> from dataclasses import replace
    >>> reproduction_command(replace(find_recipe("cifar10-quick"), seed=3, epochs=0.5, precision="fp32"))
    'vitreous train cifar10-quick --output RUN --epochs 0.5 --seed 3 --set precision=fp32'
    """
    if recipe.name not in RECIPES:
        return None
    base = find_recipe(recipe.name)
    start = ["torchrun", f"--nproc-per-node={processes}", "-m"] if processes > 1 else []
    words, settings = [*start, "vitreous", "train", recipe.name, "--output", "RUN"], []
    for name in setting_names(recipe):
        value = setting_of(recipe, name)
        if not _is_named(name, value, setting_of(base, name), starts_from_weights=bool(recipe.init)):
            continue
        flag = {"optimizer.learning_rate": "--learning-rate"}.get(name, f"--{name.replace('_', '-')}")
        if name in ("data", "init", "epochs", "batch_size", "seed", "optimizer.learning_rate"):
            words += [flag, format_setting_text(value)]
        else:
            settings += ["--set", f"{name}={format_setting_text(value)}"]
    return shlex.join([*words, *settings])


def _is_named(name: str, value: object, usual: object, *, starts_from_weights: bool) -> bool:
    """Whether the command has to name a setting, which the recipe has with the value `usual`."""
    if name in FROM_IMAGES or (name in RESUMABLE_SETTINGS and name not in ROUNDING_SETTINGS):
        return False
    if name == "precision":
        return value != "auto"  # what a device of today would choose needn't be what the run had
    if starts_from_weights and name in FROM_INIT:
        return True
    if starts_from_weights and name.startswith("model."):
        return False
    return value != usual and not (name == "data" and _is_same_source(usual, value))


def count_processes(metadata: Mapping[str, Any]) -> int:
    """Return how many processes trained a run, by the hardware in recipe.json.

    >>> count_processes({"device": "2 x H200, 2 processes"}), count_processes({})
    (2, 1)
    """
    found = re.search(r", (\d+) processes$", str(metadata.get("device", "")))
    return int(found[1]) if found else 1


def _is_same_source(usual: object, value: object) -> bool:
    try:
        return absolute_source(str(usual)) == value
    except InputError:
        return False


def setting_of(recipe: Recipe, name: str) -> object:
    """Return the value of a setting by its name with dots."""
    value: object = recipe
    for part in name.split("."):
        value = getattr(value, part)
    return value


def format_setting_text(value: object) -> str:
    """Return a value as --set takes it.

    >>> format_setting_text((12, 20)), format_setting_text(None), format_setting_text(0.001)
    ('12,20', 'none', '0.001')
    """
    if isinstance(value, tuple):
        return ",".join(map(format_setting_text, value))
    if value is None or isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) and float(f"{value:g}") == value else str(value)
