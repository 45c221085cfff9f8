"""Early stopping: the weights of the best validation are kept, and a run ends when no later one is better.

Which steps validate, and which of them ends the run, follows from the recipe, the number of images and the best
validation so far. So a resumed run ends at the same step as an uninterrupted one.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from vitreous.arguments import show
from vitreous.tasks.task import TaskMetric
from vitreous.training.recipe import Recipe, count_steps


@dataclass(frozen=True)
class BestValidation:
    """The best validation so far.

    Attributes:
        step: after which it was.
        score: of the task's first metric.
        loss: its loss, which decides between equal scores.
    """

    step: int
    score: float
    loss: float

    def is_better_than(self, other: "BestValidation | None", metric: TaskMetric) -> bool:
        """Whether this one has a better score by this metric, or the same and a lower loss."""
        return other is None or (metric.rank(self.score), -self.loss) > (metric.rank(other.score), -other.loss)


def validation_is_due(step: int, recipe: Recipe, images: int) -> bool:
    """Whether to validate after a step: whenever a multiple of validate_every_epochs is full, and at the end.

    Where that would be more often than every min_steps_between_validations, it is after each multiple of these.

    Args:
        step: the number of steps taken.
        recipe: of the run.
        images: number of training images.
    """
    if (least := recipe.min_steps_between_validations) * recipe.batch_size > recipe.validate_every_epochs * images:
        return step == recipe.steps(images) or step % least == 0
    before, after = (taken * recipe.batch_size / images / recipe.validate_every_epochs for taken in (step - 1, step))
    return step == recipe.steps(images) or int(after) > int(before)


def stops_early(step: int, best: BestValidation | None, recipe: Recipe, images: int) -> bool:
    """Whether a run ends after a step, because the best validation was early_stopping_epochs before, or earlier.

    These are epochs of the recipe: where min_steps makes a run longer than `epochs`, they are longer by the same
    factor. The warm-up of the learning rate doesn't count.

    >>> from vitreous.model.config import ViTConfig
    >>> recipe = Recipe("mine", "cifar10", ViTConfig(), epochs=9, batch_size=10, early_stopping_epochs=2)
    >>> [stops_early(step, BestValidation(10, 0.5, 1.0), recipe, 100) for step in (20, 29, 30)]
    [False, False, True]
    """
    if not recipe.early_stopping_epochs or best is None:
        return False
    steps = recipe.steps(images)
    longer = steps / count_steps(recipe.epochs, images, recipe.batch_size)
    patience = recipe.early_stopping_epochs * images / recipe.batch_size * longer
    since = max(best.step, math.ceil(recipe.schedule.warmup_fraction * steps))
    return step - since >= max(1, int(patience)) and validation_is_due(step, recipe, images)


def parse_best(value: object) -> BestValidation | None:
    """Return the best validation that a checkpoint records, if it does.

    Raises:
        ValueError: it is damaged.
    """
    if value is None:
        return None
    numbers = value if isinstance(value, Mapping) else {}
    step, score, loss = numbers.get("step"), numbers.get("score", numbers.get("top1")), numbers.get("loss")
    if type(step) is not int or type(score) is not float or type(loss) is not float:
        raise ValueError(f"its best validation is {show(value)}")
    return BestValidation(step, score, loss)


def copy_weights(model: torch.nn.Module) -> dict[str, Tensor]:
    """Copy the weights and buffers of a model."""
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
