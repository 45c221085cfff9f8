"""The checkpoint: everything that changes while a model is trained, in one file."""

import json
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from vitreous.arguments import show
from vitreous.errors import InputError
from vitreous.model.config import ViTConfig
from vitreous.model.migration import is_earlier, stored_tensors
from vitreous.model.serialization import write_tensors
from vitreous.model.vit import ViT
from vitreous.runs.migration import migrate_checkpoint_name
from vitreous.runtime import OwnGenerator, generator
from vitreous.tasks.registry import find_task
from vitreous.training.distillation import Teacher
from vitreous.training.distributed import DistributedContext
from vitreous.training.early_stopping import BestValidation, copy_weights, parse_best
from vitreous.training.ema import ModelEma
from vitreous.training.from_weights import freeze_weights
from vitreous.training.optimizer import build_optimizers
from vitreous.training.recipe import Recipe
from vitreous.training.sharding import distribute_like, full_tensor, load_full_weights, shard_model, to_local

OPTIMIZER_STATE_KEYS = {"muon": ("momentum",), "adamw": ("exp_avg", "exp_avg_sq", "step")}
"""The tensors that an optimizer keeps for each weight, after a step or more, by the optimizer's kind."""


@dataclass
class TrainingState:
    """The weights, their average, the optimizers' states and the number of steps done.

    The schedule, the order of the images and all random numbers are functions of the recipe's seed and of `step`, so
    they need no state of their own.
    """

    model: ViT
    ema: ModelEma | None
    optimizers: dict[str, torch.optim.Optimizer]
    """By kind; the kinds of the teacher's optimizers begin with "teacher-"."""
    step: int = 0
    teacher: Teacher | None = None
    best: BestValidation | None = None
    """None without early stopping, and before the first validation."""
    best_weights: dict[str, Tensor] = field(default_factory=dict)
    """Those of the evaluated model at the best validation."""

    @property
    def best_model(self) -> torch.nn.Module:
        """The model to evaluate and to save: the average, if there is one."""
        return self.ema.module if self.ema else self.model


@dataclass(frozen=True)
class Checkpoint:
    """The contents of a checkpoint file: full tensors by name, and the number of steps done."""

    tensors: dict[str, Tensor]
    step: int
    best: BestValidation | None = None

    @property
    def weights(self) -> dict[str, Tensor]:
        """The weights of the best model: those of the best validation under early stopping, else the average."""
        kinds = (_strip_prefix(f"{kind}/", self.tensors) for kind in ("best", "ema", "model"))
        return next(weights for weights in kinds if weights)


def initial_state(model: ViT, recipe: Recipe, world_size: int = 1) -> TrainingState:
    """Build the state before the first step, sharded over `world_size` processes if the recipe says so.

    The model is changed: weights that the recipe doesn't tune are frozen.
    """
    freeze_weights(model, recipe)
    ema = ModelEma(model, recipe.ema_decay) if recipe.ema_decay else None
    if recipe.fsdp and world_size > 1:
        for each in [model, ema.module] if ema else [model]:
            shard_model(each, world_size)
    state = TrainingState(model, ema, build_optimizers(model, recipe.optimizer))
    if recipe.distillation.weight:
        with OwnGenerator(generator(recipe.seed, "teacher")):
            state.teacher = Teacher(recipe.distillation, model.config).to(next(model.parameters()).device)
        optimizers = build_optimizers(state.teacher, recipe.distillation.teacher_optimizer())
        state.optimizers |= {f"teacher-{kind}": optimizer for kind, optimizer in optimizers.items()}
    return state


def make_checkpoint(state: TrainingState, *, keep: bool = True) -> Checkpoint:
    """Copy the state to the CPU; without `keep` the result has no tensors.

    If weights are sharded, all processes have to call this at once; each has one full tensor at a time on its device.
    """
    tensors = {}
    for name, tensor in _tensors(state).items():
        gathered = full_tensor(tensor).detach()
        if keep:
            tensors[name] = gathered.cpu()
        del gathered  # before the next one is gathered
    return Checkpoint(tensors, state.step, state.best)


def is_finite(state: TrainingState) -> bool:
    """Whether all numbers of the state in this process are finite."""
    tensors = (to_local(tensor) for tensor in _tensors(state).values() if tensor.is_floating_point())
    finite: dict[torch.device, list[Tensor]] = {}
    for tensor in tensors:
        finite.setdefault(tensor.device, []).append(tensor.isfinite().all())
    return all(bool(torch.stack(flags).all()) for flags in finite.values())


def write_checkpoint(checkpoint: Checkpoint, path: Path) -> None:
    """Write a checkpoint as one safetensors file, whole or not at all."""
    best = {} if checkpoint.best is None else {"best": asdict(checkpoint.best)}
    write_tensors(checkpoint.tensors, path, {"state": json.dumps({"step": checkpoint.step, **best})})


class CheckpointReader:
    """An open checkpoint file, from which one tensor at a time is read.

    Raises:
        InputError: the file is truncated or corrupt.
    """

    def __init__(self, path: Path, config: ViTConfig | None = None) -> None:
        """Open the file.

        Args:
            path: of the file.
            config: of the model; with it, the tensors of an earlier version are found by the names of today.
        """
        self.path = path
        with self._report_damage():
            if not path.is_file():
                raise ValueError("it is no file")
            self.file = safe_open(path, "pt")
            self.step, self.best = _parse_state(self.file.metadata())
            names = self.file.keys()
            shapes = {name: torch.Size(self.file.get_slice(name).get_shape()) for name in names}
        earlier = stored_tensors(shapes, config) if config and is_earlier(shapes) else {}
        self.earlier = {migrate_checkpoint_name(name): stored for name, stored in earlier.items()}
        self.shapes = {name: stored.shape for name, stored in self.earlier.items()} or shapes

    def tensor(self, name: str) -> Tensor:
        """Read one tensor into memory of its own: a view would keep the whole file open, and its space on the disk.

        Raises:
            InputError: the file is damaged, or a number in the tensor isn't finite.
        """
        with self._report_damage():
            if (stored := self.earlier.get(name)) is not None:
                tensor = stored.take(self.file.get_tensor(stored.name)).clone()
            else:
                tensor = self.file.get_tensor(name).clone()
            if not tensor.is_floating_point() or not tensor.isfinite().all():
                raise ValueError(f"{name} has values that are NaN, infinite or no real numbers")
            return tensor

    @contextmanager
    def _report_damage(self) -> Generator[None]:
        try:
            yield
        except (SafetensorError, ValueError, RuntimeError, OSError) as error:
            detail = str(error).splitlines()[0]
            raise InputError(
                f"the checkpoint {self.path} is truncated or corrupt ({detail}): start again in a new output folder"
            ) from None


def _parse_state(metadata: Mapping[str, str] | None) -> tuple[int, BestValidation | None]:
    """Return the number of steps and the best validation in a checkpoint's metadata."""
    try:
        state = json.loads((metadata or {})["state"])
    except (KeyError, ValueError, RecursionError):
        raise ValueError("it has no step") from None
    step = state.get("step") if isinstance(state, dict) else None
    if type(step) is not int or step < 0:
        raise ValueError(f"its step is {show(step)}")
    return step, parse_best(state.get("best"))


def check_checkpoint(path: Path, recipe: Recipe, steps: int | None) -> None:
    """Read the whole checkpoint at `path`, before the images of its run, which may take longer.

    Args:
        path: of the file.
        recipe: of the run.
        steps: in the whole run, if known.

    Raises:
        InputError: the file is damaged, or made with another model, other optimizers, another kind of average or more
            steps.
    """
    reader = CheckpointReader(path, recipe.model)
    if steps is not None and reader.step > steps:
        raise InputError(
            f"the checkpoint {path} is damaged or of another run (it is of step {show(reader.step)}, and this run has "
            f"{steps}): start again in a new output folder"
        )
    with torch.device("meta"):
        expected = initial_state(find_task(recipe.task).model_type.make_model(recipe.model), recipe)
    if reader.best is not None:
        expected.best_weights = copy_weights(expected.best_model)
    mismatch = _first_mismatch(_expected_shapes(expected, reader.step), reader.shapes)
    if mismatch:
        raise InputError(
            f"the checkpoint {path} is of another model or recipe ({mismatch}): start again in a new output folder"
        )
    for name in reader.shapes:
        reader.tensor(name)


def restore(state: TrainingState, path: Path, distributed: DistributedContext) -> None:
    """Load a checkpoint that `check_checkpoint` accepts into an initial state, on any number of processes.

    Rank 0 reads the file, one tensor at a time.

    Raises:
        InputError: the file is damaged.
    """
    opened: list[CheckpointReader] = []

    def read_state() -> tuple[int, BestValidation | None]:
        opened.append(CheckpointReader(path, state.model.config))
        return opened[0].step, opened[0].best

    def read(name: str) -> Tensor:
        return distributed.broadcast_from_rank0(lambda: opened[0].tensor(name))

    step, state.best = distributed.broadcast_from_rank0(read_state)
    for kind, model in _modules(state).items():
        load_full_weights(model, lambda name, kind=kind: read(f"{kind}/{name}"))
    for kind, optimizer, name, weight in _optimized(state) if step else []:
        optimizer.state[weight] = {
            key: distribute_like(read(f"optimizer/{kind}/{name}/{key}"), weight) for key in _state_keys(kind)
        }
    if state.best is not None:
        own = state.best_model.state_dict()
        state.best_weights = {name: distribute_like(read(f"best/{name}"), own[name]) for name in own}
    state.step = step
    if state.ema:
        state.ema.set_step(step)


def _tensors(state: TrainingState) -> dict[str, Tensor]:
    tensors = _weights(state)
    for kind, optimizer, name, weight in _optimized(state):
        values = optimizer.state.get(weight, {})
        tensors |= {f"optimizer/{kind}/{name}/{key}": value for key, value in values.items()}
    return tensors


def _weights(state: TrainingState) -> dict[str, Tensor]:
    weights = {kind: model.state_dict() for kind, model in _modules(state).items()}
    weights["best"] = state.best_weights
    return {f"{kind}/{name}": tensor for kind, tensors in weights.items() for name, tensor in tensors.items()}


def _modules(state: TrainingState) -> dict[str, torch.nn.Module]:
    """The modules whose weights a checkpoint holds, by the prefix of the weights' names there."""
    modules = {"model": state.model, "ema": state.ema and state.ema.module, "teacher": state.teacher}
    return {kind: module for kind, module in modules.items() if module is not None}


def _optimized(state: TrainingState) -> list[tuple[str, torch.optim.Optimizer, str, Tensor]]:
    """List each optimizer with its kind, and each weight that it updates with its name."""
    models = (state.model, state.teacher) if state.teacher else (state.model,)
    names = {id(weight): name for model in models for name, weight in model.named_parameters()}
    return [
        (kind, optimizer, names[id(weight)], weight)
        for kind, optimizer in state.optimizers.items()
        for group in optimizer.param_groups
        for weight in group["params"]
    ]


def _state_keys(kind: str) -> tuple[str, ...]:
    return OPTIMIZER_STATE_KEYS[kind.removeprefix("teacher-")]


def _expected_shapes(state: TrainingState, step: int) -> dict[str, torch.Size]:
    """Name the tensors of a checkpoint of this state after `step` steps, with their shapes."""
    shapes = {name: tensor.shape for name, tensor in _weights(state).items()}
    for kind, _, name, weight in _optimized(state) if step else []:
        keys = {key: torch.Size() if key == "step" else weight.shape for key in _state_keys(kind)}
        shapes |= {f"optimizer/{kind}/{name}/{key}": shape for key, shape in keys.items()}
    return shapes


def _first_mismatch(expected: Mapping[str, torch.Size], found: Mapping[str, torch.Size]) -> str | None:
    """Describe the first tensor in which a checkpoint differs from what is expected."""
    for name in sorted(expected.keys() | found.keys()):
        if name not in found:
            return f"{name} is missing"
        if name not in expected:
            return f"{name} is unexpected"
        if expected[name] != found[name]:
            return f"{name} is {tuple(found[name])} there and {tuple(expected[name])} here"
    return None


def _strip_prefix(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
