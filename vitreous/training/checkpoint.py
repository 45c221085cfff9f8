"""Everything that changes while a model is trained, and its one file on disk."""

import json
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from vitreous.errors import InputError
from vitreous.model.serialization import write_tensors
from vitreous.model.vit import ViT
from vitreous.runtime import seed_for
from vitreous.training.distillation import Teacher
from vitreous.training.distributed import DistributedContext
from vitreous.training.ema import ModelEma
from vitreous.training.optimizer import build_optimizers
from vitreous.training.recipe import Recipe
from vitreous.training.sharding import distribute_like, full_tensor, load_full_weights, shard_model, to_local


@dataclass
class TrainingState:
    """Weights, their average, the optimizers' memory and the number of steps done.

    Schedule, order of the images and random numbers are functions of the recipe's seed and of `step`: they need
    no state of their own.
    """

    model: ViT
    ema: ModelEma | None
    optimizers: dict[str, torch.optim.Optimizer]
    """By kind; those of the teacher's weights begin with "teacher-"."""
    step: int = 0
    teacher: Teacher | None = None

    @property
    def best_model(self) -> ViT:
        """The model to evaluate and to keep: the average, where there is one."""
        return self.ema.model if self.ema else self.model


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint holds: whole tensors by name, and the number of steps done."""

    tensors: dict[str, Tensor]
    step: int

    @property
    def weights(self) -> dict[str, Tensor]:
        """The weights of the best model."""
        return _strip_prefix("average/", self.tensors) or _strip_prefix("model/", self.tensors)


def initial_state(model: ViT, recipe: Recipe, processes: int = 1) -> TrainingState:
    """The state before the first step, spread over so many processes if the recipe says so."""
    average = ModelEma(model, recipe.ema_decay) if recipe.ema_decay else None
    if recipe.fsdp and processes > 1:
        for each in [model, average.model] if average else [model]:
            shard_model(each, processes)
    state = TrainingState(model, average, build_optimizers(model, recipe.optimizer))
    if recipe.distillation.weight:
        with torch.random.fork_rng():
            torch.manual_seed(seed_for(recipe.seed, "teacher"))
            state.teacher = Teacher(recipe.distillation, model.config).to(next(model.parameters()).device)
        theirs = build_optimizers(state.teacher, recipe.distillation.teacher_optimizer())
        state.optimizers |= {f"teacher-{kind}": optimizer for kind, optimizer in theirs.items()}
    return state


def make_checkpoint(state: TrainingState, *, kept: bool = True) -> Checkpoint:
    """What to write, on the processor, or nothing where it isn't to be kept.

    Where weights are spread, all processes have to ask at once; each has one whole tensor at a time on its device.
    """
    tensors = {}
    for name, tensor in _tensors(state).items():
        gathered = full_tensor(tensor).detach()
        if kept:
            tensors[name] = gathered.cpu()
        del gathered  # before the next one is gathered
    return Checkpoint(tensors, state.step)


def is_finite(state: TrainingState) -> bool:
    """Whether all that this process holds of the state are numbers."""
    tensors = (to_local(tensor) for tensor in _tensors(state).values() if tensor.is_floating_point())
    finite: dict[torch.device, list[Tensor]] = {}
    for tensor in tensors:
        finite.setdefault(tensor.device, []).append(tensor.isfinite().all())
    return all(bool(torch.stack(flags).all()) for flags in finite.values())


def write_checkpoint(saved: Checkpoint, path: Path) -> None:
    """Write the state as one safetensors file, whole or not at all."""
    write_tensors(saved.tensors, path, {"state": json.dumps({"step": saved.step})})


class CheckpointReader:
    """A checkpoint on the disk, of which a tensor is read at a time.

    Raises:
        InputError: the file is cut short or damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with self._report_damage():
            self.file = safe_open(path, "pt")
            self.step: int = json.loads(self.file.metadata()["state"])["step"]
            names = self.file.keys()
            self.shapes = {name: torch.Size(self.file.get_slice(name).get_shape()) for name in names}

    def tensor(self, name: str) -> Tensor:
        """One of the tensors, by its name, in memory of its own: the file's would hold on to its room on the disk."""
        with self._report_damage():
            return self.file.get_tensor(name).clone()

    @contextmanager
    def _report_damage(self) -> Generator[None]:
        try:
            yield
        except (SafetensorError, KeyError, TypeError, RuntimeError) as error:
            detail = str(error).splitlines()[0]
            raise InputError(
                f"the checkpoint {self.path} is cut short or damaged ({detail}): start again in a new --out"
            ) from None


def restore(state: TrainingState, path: Path, processes: DistributedContext) -> None:
    """Bring a new state to where the one saved at `path` was, on any number of processes.

    The first process reads, a tensor at a time.

    Raises:
        InputError: the file is damaged, of another model, of other optimizers, or with another average.
    """
    opened: list[CheckpointReader] = []

    def outline() -> tuple[int, dict[str, torch.Size]]:
        opened.append(CheckpointReader(path))
        return opened[0].step, opened[0].shapes

    def read(name: str) -> Tensor:
        return processes.broadcast_from_rank0(lambda: opened[0].tensor(name))

    step, shapes = processes.broadcast_from_rank0(outline)
    complaint = _first_mismatch(_expected_shapes(state, step), shapes)
    if complaint:
        raise InputError(
            f"the checkpoint {path} is of another model or recipe ({complaint}): start again in a new --out"
        )
    averaged = state.ema.model if state.ema else None
    for kind, model in {"model": state.model, "average": averaged, "teacher": state.teacher}.items():
        if model is not None:
            load_full_weights(model, lambda name, kind=kind: read(f"{kind}/{name}"))
    for kind, optimizer, name, weight in _optimized(state) if step else []:
        optimizer.state[weight] = {
            key: distribute_like(read(f"optimizer/{kind}/{name}/{key}"), weight) for key in _state_keys(kind)
        }
    state.step = step


def _tensors(state: TrainingState) -> dict[str, Tensor]:
    tensors = _weights(state)
    for kind, optimizer, name, weight in _optimized(state):
        memory = optimizer.state.get(weight, {})
        tensors |= {f"optimizer/{kind}/{name}/{key}": value for key, value in memory.items()}
    return tensors


def _weights(state: TrainingState) -> dict[str, Tensor]:
    tensors = {f"model/{name}": tensor for name, tensor in state.model.state_dict().items()}
    if state.ema:
        tensors |= {f"average/{name}": tensor for name, tensor in state.ema.model.state_dict().items()}
    if state.teacher:
        tensors |= {f"teacher/{name}": tensor for name, tensor in state.teacher.state_dict().items()}
    return tensors


def _optimized(state: TrainingState) -> list[tuple[str, torch.optim.Optimizer, str, Tensor]]:
    """Each optimizer's kind, itself, and each weight that it moves, with its name."""
    models = (state.model, state.teacher) if state.teacher else (state.model,)
    names = {id(weight): name for model in models for name, weight in model.named_parameters()}
    return [
        (kind, optimizer, names[id(weight)], weight)
        for kind, optimizer in state.optimizers.items()
        for group in optimizer.param_groups
        for weight in group["params"]
    ]


OPTIMIZER_STATE_KEYS = {"muon": ("momentum",), "adamw": ("exp_avg", "exp_avg_sq", "step")}


def _state_keys(kind: str) -> tuple[str, ...]:
    """What an optimizer remembers of each weight, after a step or more."""
    return OPTIMIZER_STATE_KEYS[kind.removeprefix("teacher-")]


def _expected_shapes(state: TrainingState, step: int) -> dict[str, torch.Size]:
    """The names and shapes that a checkpoint of this state has after `step` steps."""
    shapes = {name: tensor.shape for name, tensor in _weights(state).items()}
    for kind, _, name, weight in _optimized(state) if step else []:
        memories = {key: torch.Size() if key == "step" else weight.shape for key in _state_keys(kind)}
        shapes |= {f"optimizer/{kind}/{name}/{key}": shape for key, shape in memories.items()}
    return shapes


def _first_mismatch(own: Mapping[str, torch.Size], found: Mapping[str, torch.Size]) -> str | None:
    """The first thing in which a checkpoint is other than expected."""
    for name in sorted(own.keys() | found.keys()):
        if name not in found:
            return f"{name} is missing"
        if name not in own:
            return f"{name} is not known here"
        if own[name] != found[name]:
            return f"{name} is {tuple(found[name])} there and {tuple(own[name])} here"
    return None


def _strip_prefix(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
