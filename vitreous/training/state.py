"""Everything that changes while a model is trained, and its one file on disk."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from vitreous.errors import InputError
from vitreous.model.vit import ViT
from vitreous.runtime import seed_for
from vitreous.tasks.saved import write_tensors
from vitreous.training.average import WeightAverage
from vitreous.training.optimizer import build_optimizers
from vitreous.training.recipe import Recipe
from vitreous.training.sharding import fill, own_part, shard, spread_like, whole
from vitreous.training.teacher import Teacher


@dataclass
class TrainingState:
    """Weights, their average, the optimizers' memory and the number of steps done.

    Schedule, order of the pictures and random numbers are functions of the recipe's seed and of `step`: they need
    no state of their own.
    """

    model: ViT
    average: WeightAverage | None
    optimizers: dict[str, torch.optim.Optimizer]
    """By kind; those of the teacher's weights begin with "teacher-"."""
    step: int = 0
    teacher: Teacher | None = None

    @property
    def best_model(self) -> ViT:
        """The model to evaluate and to keep: the average, where there is one."""
        return self.average.model if self.average else self.model


@dataclass(frozen=True)
class Saved:
    """What a checkpoint holds: whole tensors by name, and the number of steps done."""

    tensors: dict[str, Tensor]
    step: int

    @property
    def weights(self) -> dict[str, Tensor]:
        """The weights of the best model."""
        return _below("average/", self.tensors) or _below("model/", self.tensors)


def new_state(model: ViT, recipe: Recipe, processes: int = 1) -> TrainingState:
    """The state before the first step, spread over so many processes if the recipe says so."""
    average = WeightAverage(model, recipe.average_decay) if recipe.average_decay else None
    if recipe.shard_weights and processes > 1:
        for each in [model, average.model] if average else [model]:
            shard(each, processes)
    state = TrainingState(model, average, build_optimizers(model, recipe.optimizer))
    if recipe.teacher.share:
        with torch.random.fork_rng():
            torch.manual_seed(seed_for(recipe.seed, "teacher"))
            state.teacher = Teacher(recipe.teacher, model.config).to(next(model.parameters()).device)
        theirs = build_optimizers(state.teacher, recipe.teacher.optimizer())
        state.optimizers |= {f"teacher-{kind}": optimizer for kind, optimizer in theirs.items()}
    return state


def to_save(state: TrainingState) -> Saved:
    """What to write; where weights are spread, all processes have to ask at once."""
    return Saved({name: whole(tensor) for name, tensor in _tensors(state).items()}, state.step)


def is_finite(state: TrainingState) -> bool:
    """Whether all that this process holds of the state are numbers."""
    tensors = (own_part(tensor) for tensor in _tensors(state).values() if tensor.is_floating_point())
    finite: dict[torch.device, list[Tensor]] = {}
    for tensor in tensors:
        finite.setdefault(tensor.device, []).append(tensor.isfinite().all())
    return all(bool(torch.stack(flags).all()) for flags in finite.values())


def save_state(saved: Saved, path: Path) -> None:
    """Write the state as one safetensors file, whole or not at all."""
    write_tensors(saved.tensors, path, {"state": json.dumps({"step": saved.step})})


def read_state(path: Path) -> Saved:
    """What the checkpoint at `path` holds.

    Raises:
        InputError: the file is cut short or damaged.
    """
    try:
        with safe_open(path, "pt") as file:
            step = json.loads(file.metadata()["state"])["step"]
            return Saved({name: file.get_tensor(name) for name in file.keys()}, step)  # noqa: SIM118
    except (SafetensorError, KeyError, TypeError, RuntimeError) as error:
        detail = str(error).splitlines()[0]
        raise InputError(
            f"the checkpoint {path} is cut short or damaged ({detail}): start again in a new --out"
        ) from None


def restore(state: TrainingState, saved: Saved, path: Path) -> None:
    """Bring a new state to where the one saved at `path` was, on any number of processes.

    Raises:
        InputError: it is of another model, of other optimizers, or with another average.
    """
    complaint = _difference(_shapes(state, saved.step), {name: value.shape for name, value in saved.tensors.items()})
    if complaint:
        raise InputError(
            f"the checkpoint {path} is of another model or recipe ({complaint}): start again in a new --out"
        )
    fill(state.model, _below("model/", saved.tensors))
    if state.average:
        fill(state.average.model, _below("average/", saved.tensors))
    if state.teacher:
        fill(state.teacher, _below("teacher/", saved.tensors))
    for kind, optimizer, name, weight in _owned(state):
        memory = _below(f"optimizer/{kind}/{name}/", saved.tensors)
        if memory:
            optimizer.state[weight] = {key: spread_like(value, weight) for key, value in memory.items()}
    state.step = saved.step


def _tensors(state: TrainingState) -> dict[str, Tensor]:
    tensors = _weights(state)
    for kind, optimizer, name, weight in _owned(state):
        memory = optimizer.state.get(weight, {})
        tensors |= {f"optimizer/{kind}/{name}/{key}": value for key, value in memory.items()}
    return tensors


def _weights(state: TrainingState) -> dict[str, Tensor]:
    tensors = {f"model/{name}": tensor for name, tensor in state.model.state_dict().items()}
    if state.average:
        tensors |= {f"average/{name}": tensor for name, tensor in state.average.model.state_dict().items()}
    if state.teacher:
        tensors |= {f"teacher/{name}": tensor for name, tensor in state.teacher.state_dict().items()}
    return tensors


def _owned(state: TrainingState) -> list[tuple[str, torch.optim.Optimizer, str, Tensor]]:
    """Each optimizer's kind, itself, and each weight that it moves, with its name."""
    models = (state.model, state.teacher) if state.teacher else (state.model,)
    names = {id(weight): name for model in models for name, weight in model.named_parameters()}
    return [
        (kind, optimizer, names[id(weight)], weight)
        for kind, optimizer in state.optimizers.items()
        for group in optimizer.param_groups
        for weight in group["params"]
    ]


MEMORIES = {"muon": ("momentum",), "adamw": ("exp_avg", "exp_avg_sq", "step")}


def _shapes(state: TrainingState, step: int) -> dict[str, torch.Size]:
    """The names and shapes that a checkpoint of this state has after `step` steps."""
    shapes = {name: tensor.shape for name, tensor in _weights(state).items()}
    for kind, _, name, weight in _owned(state) if step else []:
        keys = MEMORIES[kind.removeprefix("teacher-")]
        memories = {key: torch.Size() if key == "step" else weight.shape for key in keys}
        shapes |= {f"optimizer/{kind}/{name}/{key}": shape for key, shape in memories.items()}
    return shapes


def _difference(own: Mapping[str, torch.Size], found: Mapping[str, torch.Size]) -> str | None:
    """The first thing in which a checkpoint is other than expected."""
    for name in sorted(own.keys() | found.keys()):
        if name not in found:
            return f"{name} is missing"
        if name not in own:
            return f"{name} is not known here"
        if own[name] != found[name]:
            return f"{name} is {tuple(found[name])} there and {tuple(own[name])} here"
    return None


def _below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
