"""Train a model by a recipe, in a run folder, from the start or from where it stopped."""

import platform
import subprocess
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

import vitreous
from vitreous.data.loader import Normalise, TrainingBatches
from vitreous.data.pictures import Pictures
from vitreous.data.preprocessing import Preprocessing
from vitreous.data.sources import absolute, load_training
from vitreous.data.statistics import channel_statistics
from vitreous.errors import InputError
from vitreous.model.vit import ViT
from vitreous.recipes import find_recipe
from vitreous.records import from_dict, override, to_dict
from vitreous.render.figure import curves
from vitreous.runtime import choose_precision, describe_device, find_device, seed_for
from vitreous.tasks.classification import Classifier
from vitreous.tasks.saved import save_config
from vitreous.training import loop
from vitreous.training.loop import Progress, Run
from vitreous.training.recipe import Recipe
from vitreous.training.run_folder import (
    RunFolder,
    check_free,
    forget_metrics_after,
    open_run,
    read_metrics,
    start_run,
)
from vitreous.training.state import load_state, new_state

FEW_STEPS = 50
"""Of shorter runs the user is told, who may have a small folder and a recipe meant for a large one."""


@dataclass(frozen=True)
class TrainingResult:
    """Where a run stands when `train` returns."""

    path: Path
    finished: bool
    """False if it was stopped; everything is saved then, and `resume=True` goes on."""
    step: int
    steps: int
    validation_top1: float | None
    """Between 0 and 1; None without validation pictures."""


@dataclass(frozen=True)
class Listener:
    """Whom a training run tells what it does; by default nobody."""

    note: Callable[[str], None] = lambda text: None
    progress: Callable[[Progress], None] = lambda progress: None
    stoppable: Callable[[], AbstractContextManager[Callable[[], bool]]] = lambda: nullcontext(lambda: False)
    """Entered while steps are taken; what it gives is asked between them: True has the run saved and stopped."""


def train(
    recipe: str | Recipe,
    out: str | Path | None = None,
    *,
    data: str | None = None,
    settings: Mapping[str, str] | None = None,
    resume: bool = False,
    device: str = "auto",
    listener: Listener | None = None,
) -> TrainingResult:
    """Train a model; the run folder then holds weights, recipe, metrics, curves and a checkpoint.

    Args:
        recipe: a recipe's name, or a whole `Recipe`.
        out: the run folder; "runs/" and the recipe's name by default.
        data: another source than the recipe's: cifar10, mnist, shapes, folder:DIR, parquet:DIR ... .
        settings: changes to the recipe: {"epochs": "20", "optimizer.learning_rate": "1e-3"}.
        resume: go on with the run in `out`; its own recipe counts, to the same bits as if it had never stopped.
        device: "auto", "cpu" or "cuda".
        listener: whom to tell.

    Raises:
        InputError: an unknown recipe or setting, data that can't be read, a folder that can't be used.
    """
    listener = listener or Listener()
    chosen = find_recipe(recipe) if isinstance(recipe, str) else recipe
    path = Path(out) if out is not None else Path("runs") / chosen.name
    if resume:
        return _resume(path, chosen, data, settings, device, listener)
    chosen = override(replace(chosen, data=data) if data else chosen, settings or {})
    return _start(path, chosen, find_device(device), listener)


def _start(path: Path, recipe: Recipe, device: torch.device, listener: Listener) -> TrainingResult:
    check_free(path)
    training, validation = _pictures(recipe, device, listener)
    classes, channels = len(training.class_names), training.images_u8.shape[1]
    recipe = replace(recipe, model=replace(recipe.model, classes=classes, channels=channels))
    recipe = replace(recipe, batch_size=min(recipe.batch_size, len(training)))
    recipe = replace(recipe, precision=choose_precision(recipe.precision, device), data=absolute(recipe.data))
    folder = start_run(path, _header(recipe, training, validation, device))
    return _train(folder, recipe, (training, validation), device, listener)


def _resume(
    path: Path, asked: Recipe, data: str | None, settings: Mapping[str, str] | None, device: str, listener: Listener
) -> TrainingResult:
    folder, header = open_run(path)
    recipe = from_dict(Recipe, header.get("recipe", {}), str(folder.recipe))
    if asked.name != recipe.name:
        raise InputError(f"{path} is a run of '{recipe.name}', not of '{asked.name}': choose another --out")
    if (data is not None and absolute(data) != recipe.data) or settings:
        raise InputError(
            f"the run in {path} keeps its data and settings: leave out --data and --set, or start a new one"
        )
    training, validation = _pictures(recipe, find_device(device), listener)
    if training.fingerprint() != header.get("data", {}).get("fingerprint"):
        raise InputError(f"the pictures of '{recipe.data}' aren't those that {path} was started with: start a new run")
    if header.get("device") != describe_device(find_device(device)):
        listener.note(f"begun on {header.get('device')}: what follows may differ from an uninterrupted run in rounding")
    return _train(folder, recipe, (training, validation), find_device(device), listener)


def _train(
    folder: RunFolder, recipe: Recipe, data: tuple[Pictures, Pictures], device: torch.device, listener: Listener
) -> TrainingResult:
    training, validation = data
    with torch.random.fork_rng():
        torch.manual_seed(seed_for(recipe.seed, "weights"))
        model = ViT(recipe.model).to(device)
    preprocessing = _preprocessing(recipe, training)
    save_config(Classifier(model, preprocessing, training.class_names), folder.path)
    state = new_state(model, recipe)
    if folder.checkpoint.exists():
        load_state(state, folder.checkpoint)
        listener.note(f"going on after step {state.step}")
    forget_metrics_after(folder, state.step)
    normalise = Normalise(preprocessing.mean, preprocessing.std)
    batches = TrainingBatches(training, recipe.batch_size, recipe.augment, recipe.seed, normalise=normalise)
    listener.note(_sentence(model, recipe, data, device))
    with listener.stoppable() as stop_requested:
        run = Run(
            recipe, batches, validation, folder, recipe.precision, listener.progress, lambda: draw_curves(folder),
            stop_requested,
        )  # fmt: skip
        if state.step == run.steps:
            listener.note("the run is finished: nothing to do")
        elif run.steps < FEW_STEPS:
            listener.note(f"{run.steps} steps are few: raise epochs or lower batch_size (--set) to learn more")
        finished = loop.train(state, run)
    return TrainingResult(folder.path, finished, state.step, run.steps, _last_validation(folder))


def _pictures(recipe: Recipe, device: torch.device, listener: Listener) -> tuple[Pictures, Pictures]:
    source = absolute(recipe.data)
    listener.note(f"reading {source}")
    training, validation = load_training(source, recipe.model.image_size_hw, recipe.validation_fraction)
    return training.to(device), validation.to(device)


def _preprocessing(recipe: Recipe, pictures: Pictures) -> Preprocessing:
    mean, std = channel_statistics(pictures)
    return Preprocessing(recipe.model.image_size_hw, "stretch", mean, std, recipe.model.patch_size)


def _header(recipe: Recipe, training: Pictures, validation: Pictures, device: torch.device) -> dict[str, Any]:
    """What recipe.json says: every value, the versions, and which data it was."""
    sizes = {"training": len(training), "validation": len(validation)}
    return {
        "vitreous": vitreous.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "commit": _commit(),
        "device": describe_device(device),
        "data": {"source": recipe.data, "fingerprint": training.fingerprint(), **sizes},
        "recipe": to_dict(recipe),
    }


def _commit() -> str | None:
    """The git commit of the source that runs, where it runs from a checkout."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
    return answer.stdout.strip() or None


def _sentence(model: ViT, recipe: Recipe, data: tuple[Pictures, Pictures], device: torch.device) -> str:
    parameters = sum(weight.numel() for weight in model.parameters()) / 1e6
    counts = f"{len(data[0]):,} pictures to learn from, {len(data[1]):,} to validate"
    return f"{counts} · ViT of {parameters:.2f} M parameters · {recipe.precision} on {device.type}"


def draw_curves(folder: RunFolder) -> None:
    """Draw loss and accuracy so far to figures/curves.png."""
    curves(read_metrics(folder), folder.figures / "curves.png")


def _last_validation(folder: RunFolder) -> float | None:
    scores = [line["top1"] for line in read_metrics(folder) if line["split"] == "validation"]
    return scores[-1] if scores else None
