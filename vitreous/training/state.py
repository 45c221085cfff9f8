"""Everything that changes while a model is trained, and its one file on disk."""

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from vitreous.errors import InputError
from vitreous.model.vit import ViT
from vitreous.tasks.saved import write_tensors
from vitreous.training.average import WeightAverage
from vitreous.training.optimizer import build_optimizers
from vitreous.training.recipe import Recipe


@dataclass
class TrainingState:
    """Weights, their average, the optimizers' memory and the number of steps done.

    Schedule, order of the pictures and random numbers are functions of the recipe's seed and of `step`: they need
    no state of their own.
    """

    model: ViT
    average: WeightAverage | None
    optimizers: dict[str, torch.optim.Optimizer]
    step: int = 0

    @property
    def best_model(self) -> ViT:
        """The model to evaluate and to keep: the average, where there is one."""
        return self.average.model if self.average else self.model


def new_state(model: ViT, recipe: Recipe) -> TrainingState:
    """The state before the first step."""
    average = WeightAverage(model, recipe.average_decay) if recipe.average_decay else None
    return TrainingState(model, average, build_optimizers(model, recipe.optimizer))


def save_state(state: TrainingState, path: Path) -> None:
    """Write the state as one safetensors file, whole or not at all."""
    write_tensors(_tensors(state), path, {"state": json.dumps({"step": state.step})})


def load_state(state: TrainingState, path: Path) -> None:
    """Bring a new state to where the one at `path` was.

    Raises:
        InputError: the file is cut short, damaged, or of another model.
    """
    try:
        with safe_open(path, "pt") as file:
            step = json.loads(file.metadata()["state"])["step"]
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        _fill(state, tensors, step)
    except (SafetensorError, KeyError, TypeError, RuntimeError) as error:
        detail = str(error).splitlines()[0]
        raise InputError(
            f"the checkpoint {path} is cut short or damaged ({detail}): start again in a new --out"
        ) from None
    state.step = step


def _tensors(state: TrainingState) -> dict[str, Tensor]:
    tensors = {f"model/{name}": tensor for name, tensor in state.model.state_dict().items()}
    if state.average:
        tensors |= {f"average/{name}": tensor for name, tensor in state.average.model.state_dict().items()}
    for kind, optimizer in state.optimizers.items():
        for name, weight in state.model.named_parameters():
            memory = optimizer.state.get(weight, {})
            tensors |= {f"optimizer/{kind}/{name}/{key}": value for key, value in memory.items()}
    return tensors


def _fill(state: TrainingState, tensors: dict[str, Tensor], step: int) -> None:
    state.model.load_state_dict(_below("model/", tensors))
    if state.average:
        state.average.model.load_state_dict(_below("average/", tensors))
    for kind, optimizer in state.optimizers.items():
        for name, weight in state.model.named_parameters():
            memory = _below(f"optimizer/{kind}/{name}/", tensors)
            if (
                step
                and not memory
                and any(weight is own for group in optimizer.param_groups for own in group["params"])
            ):
                raise KeyError(f"nothing of {kind}'s memory of {name}")
            if memory:
                optimizer.state[weight] = {key: value.to(weight.device) for key, value in memory.items()}


def _below(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
