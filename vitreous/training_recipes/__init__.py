"""The recipes by name: one function a recipe, which returns the whole of it."""

from collections.abc import Callable, Iterator, Mapping
from html import escape

from vitreous.errors import InputError, unknown
from vitreous.training.recipe import Recipe
from vitreous.training_recipes.cifar10_20 import cifar10_20
from vitreous.training_recipes.cifar10_20_stem import cifar10_20_stem
from vitreous.training_recipes.cifar10_70 import cifar10_70
from vitreous.training_recipes.cifar10_quick import cifar10_quick
from vitreous.training_recipes.finetune import finetune
from vitreous.training_recipes.mnist import mnist
from vitreous.training_recipes.shapes import shapes
from vitreous.training_recipes.tutorial import tutorial

RECIPES: dict[str, Callable[[], Recipe]] = {
    "cifar10-20": cifar10_20,
    "cifar10-20-stem": cifar10_20_stem,
    "cifar10-70": cifar10_70,
    "cifar10-quick": cifar10_quick,
    "finetune": finetune,
    "mnist": mnist,
    "shapes": shapes,
    "tutorial": tutorial,
}
COLUMNS = ("recipe", "data", "epochs", "summary")


class RecipeTable(Mapping[str, Recipe]):
    """The recipes by name, which prints as a table."""

    def __getitem__(self, name: str) -> Recipe:
        return RECIPES[name]()

    def __iter__(self) -> Iterator[str]:
        return iter(RECIPES)

    def __len__(self) -> int:
        return len(RECIPES)

    def rows(self) -> list[tuple[str, ...]]:
        """Return the name, the data, the number of epochs and the summary of each recipe."""
        return [(name, one.data, f"{one.epochs:g}", str(RECIPES[name].__doc__)) for name, one in self.items()]

    def __repr__(self) -> str:
        rows = [COLUMNS, *self.rows()]
        widths = [max(len(row[column]) for row in rows) for column in range(len(COLUMNS) - 1)]
        return "\n".join("  ".join([*map(str.ljust, row, widths), row[-1]]) for row in rows)

    def _repr_html_(self) -> str:
        cells = ("".join(f"<td>{escape(cell)}</td>" for cell in row) for row in self.rows())
        head = "".join(f"<th>{column}</th>" for column in COLUMNS)
        return f"<table><tr>{head}</tr>{''.join(f'<tr>{row}</tr>' for row in cells)}</table>"


def recipes() -> RecipeTable:
    """List the recipes; the result prints as a table.

    >>> recipes()["cifar10-quick"].epochs
    4
    """
    return RecipeTable()


def find_recipe(name: str) -> Recipe:
    """Return the recipe called `name`.

    Raises:
        InputError: there is none; the message names the nearest.
    """
    if name not in RECIPES:
        raise unknown("recipe", name, RECIPES)
    return RECIPES[name]()


def check_named(recipe: Recipe) -> None:
    """Refuse to fine-tune without a model to start from, or without images.

    Raises:
        InputError: one isn't named.
    """
    if recipe.tune != "full" and not recipe.init:
        raise InputError(f"tune is '{recipe.tune}', which needs a model to start from: give init (--init)")
    if recipe.frozen_layers and not recipe.init:
        raise InputError(
            f"frozen_layers is {recipe.frozen_layers}, which needs a model to start from: give init (--init)"
        )
    if recipe.name != "finetune":
        return
    if not recipe.init:
        raise InputError("finetune needs a model to start from: give init (--init), such as vitreous:cifar10 or a path")
    if not recipe.data:
        raise InputError("finetune needs images to train on: give data (--data), such as folder:DIR")
