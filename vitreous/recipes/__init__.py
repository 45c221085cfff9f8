"""The recipes by name: one function a run, each returns the whole of it."""

from collections.abc import Callable

from vitreous.errors import unknown
from vitreous.recipes.cifar10_20 import cifar10_20
from vitreous.recipes.cifar10_20_stem import cifar10_20_stem
from vitreous.recipes.cifar10_70 import cifar10_70
from vitreous.recipes.cifar10_quick import cifar10_quick
from vitreous.recipes.mnist import mnist
from vitreous.recipes.shapes import shapes
from vitreous.recipes.tutorial import tutorial
from vitreous.training.recipe import Recipe

RECIPES: dict[str, Callable[[], Recipe]] = {
    "cifar10-20": cifar10_20,
    "cifar10-20-stem": cifar10_20_stem,
    "cifar10-70": cifar10_70,
    "cifar10-quick": cifar10_quick,
    "mnist": mnist,
    "shapes": shapes,
    "tutorial": tutorial,
}


def find_recipe(name: str) -> Recipe:
    """The recipe called `name`.

    Raises:
        InputError: there is none; names the nearest.
    """
    if name not in RECIPES:
        raise unknown("recipe", name, RECIPES)
    return RECIPES[name]()
