"""Settings changed by name: what is taken, and what is said of those that aren't."""

import pytest

from vitreous.errors import InputError
from vitreous.recipes import find_recipe
from vitreous.records import override

RECIPE = find_recipe("cifar10-quick")


def test_what_is_given_is_set_and_the_rest_stays():
    changed = override(RECIPE, {"model.image_size": "48x64", "optimizer.betas": "0.8,0.9", "average_decay": "none"})
    assert changed.model.image_size == (48, 64) and changed.optimizer.betas == (0.8, 0.9)
    assert changed.ema_decay is None and changed.model.embed_dim == RECIPE.model.embed_dim


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("model.image_size", "48", "setting model.image_size=48: give 2 values, such as 48,48$"),
        ("optimizer.betas", "0.9,0.9,0.9", "give 2 values, such as 0.9,0.9$"),
        ("learning_rate", "1e-3", "'learning_rate': did you mean optimizer.learning_rate or teacher.learning_rate[?]$"),
        ("optimizer.lr", "1", r"no setting of optimizer 'lr': choose one of \(kind, learning_rate, "),
        ("optimizr.lr", "1", r"no setting 'optimizr.lr': .*optimizer"),
        ("lr", "1", r"no setting 'lr': choose one of \(data, epochs, batch_size"),
        ("epoch", "1", "did you mean 'epochs'"),
        ("model.widht", "1", "no setting of model 'widht': did you mean 'width'"),
        ("schedule.warmup", "1", "^schedule.warmup is 1.0: "),
        ("seed", "-1", "seed is -1"),
        ("augment.cutout", "32", "augment.cutout is 32: it must be less than"),
        ("model.init_values", "-1", "layer_scale is -1.0: it must be above 0"),
    ],
)
def test_what_cannot_be_set(name, value, words):
    with pytest.raises(InputError, match=words):
        override(RECIPE, {name: value})
