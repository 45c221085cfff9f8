"""A model that has forgotten: the same with weights drawn by lot (Adebayo et al. 2018, section 3)."""

import copy

import torch
from torch import nn

from vitreous.runtime import generator

STAGES = ("head", "all")
"""What is randomized: the classification head alone, or every weight."""


def randomized(model: nn.Module, stage: str, classes: int, seed: int) -> nn.Module | None:
    """A copy of the model whose weights are drawn by lot; None for the head of a model in which none is found.

    Each weight tensor keeps its mean and its standard deviation, so that the layers still work in the range that they
    were made for; what they had learned is gone. The model itself isn't touched.
    """
    assert stage in STAGES, stage
    forgetful = copy.deepcopy(model)
    part = forgetful if stage == "all" else head(forgetful, classes)
    if part is None:
        return None
    forget(part, generator(seed, "randomized weights", stage))
    return forgetful


def head(model: nn.Module, classes: int) -> nn.Linear | None:
    """The last linear map of a model that answers with so many numbers: its classification head, whatever its name."""
    found = [part for part in model.modules() if isinstance(part, nn.Linear) and part.out_features == classes]
    return found[-1] if found else None


@torch.no_grad()
def forget(part: nn.Module, random: torch.Generator) -> None:
    """Draw the parameters anew, in place, each from the normal distribution of its own mean and deviation."""
    for weight in part.parameters():
        drawn = torch.randn(weight.shape, generator=random).to(weight)
        weight.copy_(weight.mean() + weight.std(correction=0) * drawn)
