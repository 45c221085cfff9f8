"""What the environment says about the processes of a run, and random numbers of one's own."""

import pytest
import torch

from vitreous import runtime
from vitreous.errors import InputError
from vitreous.runtime import OwnGenerator


@pytest.mark.parametrize("text", ["", " ", "1"])
def test_an_empty_variable_counts_as_not_set(text, monkeypatch):
    for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK", "TORCHELASTIC_RESTART_COUNT"):
        monkeypatch.setenv(name, text if name == "WORLD_SIZE" else "")
    assert (runtime.world_size(), runtime.rank(), runtime.local_rank(), runtime.restart_count()) == (1, 0, 0, 0)


@pytest.mark.parametrize("text", ["two", "-1", "1.5"])
def test_a_variable_that_is_no_number_gives_one_line(text, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", text)
    with pytest.raises(
        InputError, match=f"^the environment variable WORLD_SIZE is '{text}': it must be a whole number"
    ):
        runtime.world_size()
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", text)
    with pytest.raises(InputError, match="RANK is"):
        runtime.rank()


def draw() -> list[torch.Tensor]:
    """Draw in all ways that building and training a model do."""
    weight = torch.nn.init.trunc_normal_(torch.empty(40, 30))
    layer = torch.nn.Linear(20, 10)
    inplace = [torch.empty(33).normal_(), torch.empty(33).uniform_(-1, 2), torch.nn.init.normal_(torch.empty(20))]
    return [weight, *layer.parameters(), *inplace, torch.rand(5, 3), torch.randn(17), torch.randint(9, (4,))]


def draw_in_other_ways() -> list[torch.Tensor]:
    """Draw in ways that torch has besides."""
    ones = torch.ones(9)
    drawn = [getattr(torch.empty(9), name)() for name in ("random_", "exponential_", "cauchy_", "log_normal_")]
    drawn += [torch.normal(0.0, ones), torch.poisson(ones), torch.bernoulli(ones / 2), (ones / 2).bernoulli()]
    return [*drawn, torch.multinomial(ones, 4), ones.multinomial(4), torch.empty(9).geometric_(0.3), torch.randperm(7)]


@pytest.mark.parametrize("draw", [draw, draw_in_other_ways])
def test_own_numbers_are_those_after_a_manual_seed_and_the_global_ones_stay(draw):
    torch.manual_seed(7)
    expected = draw()
    torch.manual_seed(1)
    before = torch.get_rng_state()
    with OwnGenerator(torch.Generator().manual_seed(7)):
        own = draw()
    assert all(torch.equal(one, other) for one, other in zip(own, expected, strict=True))
    assert torch.equal(torch.get_rng_state(), before)
