"""Train a model by a recipe, in a run folder, from the start or from where it stopped."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from vitreous.data.available_memory import budget_bytes
from vitreous.data.image_set import ImageSet
from vitreous.data.loader import Normalize, TrainingBatches
from vitreous.data.read_options import ReadOptions
from vitreous.data.sources import absolute_source, load_train_validation
from vitreous.data.statistics import channel_statistics
from vitreous.errors import InputError
from vitreous.files import read_json
from vitreous.imaging.preprocessing import Preprocessing
from vitreous.model.classifier import ImageClassifier
from vitreous.model.serialization import CONFIG, save_config
from vitreous.model.vit import PatchEmbed, ViT
from vitreous.recipes import find_recipe
from vitreous.records import override
from vitreous.render.plots.curves import curves
from vitreous.runs.metrics_log import MetricsLog, summary_writer
from vitreous.runs.run_folder import (
    RunFolder,
    check_free,
    forget_metrics_after,
    open_run,
    read_metrics,
    start_run,
    write_header,
)
from vitreous.runtime import choose_precision, describe_device, find_device, seed_for
from vitreous.training import loop
from vitreous.training.accumulation import check_micro_batches
from vitreous.training.checkpoint import TrainingState, initial_state, restore
from vitreous.training.distributed import DistributedContext, init_distributed
from vitreous.training.loop import TrainingRun, TrainProgress
from vitreous.training.provenance import (
    ResumePlan,
    check_data_folder,
    created_by_launch,
    data_changed,
    describe_data,
    resumed_recipe,
    run_metadata,
    with_moved_data,
)
from vitreous.training.recipe import Recipe
from vitreous.training.reference_comparison import band, comparison_callback, find_reference
from vitreous.training.reference_curve import ReferenceCurve
from vitreous.training.whitening import whitening_weights

LEARNED_BEFORE = (
    "where validation images are held out of the training images, others are now: some may have been learned, and "
    "the validation accuracy flatters from here on"
)

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
    """Between 0 and 1; None without validation images."""


@dataclass(frozen=True)
class Listener:
    """Whom a training run tells what it does; by default nobody."""

    note: Callable[[str], None] = lambda text: None
    progress: Callable[[TrainProgress], None] = lambda progress: None
    stoppable: Callable[[], AbstractContextManager[Callable[[], bool]]] = lambda: nullcontext(lambda: False)
    """Entered while steps are taken; what it gives is asked between them: True has the run saved and stopped."""


@dataclass(frozen=True)
class Session:
    """Where and with whom a run is worked on this time."""

    path: Path
    device: torch.device
    processes: DistributedContext
    listener: Listener
    """Nobody, but for the first process."""

    @property
    def place(self) -> str:
        """What the run's bits depend on besides its seed."""
        count = self.processes.world_size
        return describe_device(self.device) + (f", {count} processes" if count > 1 else "")


def train(
    recipe: str | Recipe,
    out: str | Path | None = None,
    *,
    data: str | None = None,
    settings: Mapping[str, str] | None = None,
    resume: bool = False,
    accept_changed_data: bool = False,
    device: str = "auto",
    listener: Listener | None = None,
) -> TrainingResult:
    """Train a model; the run folder then holds weights, recipe, metrics, curves and a checkpoint.

    Under torchrun all processes call this and train one model together; the first one writes and tells.

    Args:
        recipe: a recipe's name, or a whole `Recipe`.
        out: the run folder; "runs/" and the recipe's name by default.
        data: another source than the recipe's: cifar10, mnist, shapes, folder:DIR, parquet:DIR, hf:OWNER/NAME; with
            `resume`, where the same images are now.
        settings: changes to the recipe: {"epochs": "20", "optimizer.learning_rate": "1e-3"}.
        resume: go on with the run in `out`; its own recipe counts, to the same bits as if it had never stopped. Only
            accumulate, checkpoint_activations, shard_weights, checkpoint_seconds and tensorboard may then be changed.
        accept_changed_data: resume although the images are others than at the start.
        device: "auto", "cpu" or "cuda".
        listener: whom to tell.

    Raises:
        InputError: an unknown recipe or setting, data that can't be read, a folder that can't be used.
    """
    listener = listener or Listener()
    found = find_device(device)
    with init_distributed(found) as processes:
        chosen = find_recipe(recipe) if isinstance(recipe, str) else recipe
        path = Path(out) if out is not None else Path("runs") / chosen.name
        session = Session(
            path, found, processes, listener if processes.is_rank0 else Listener(stoppable=listener.stoppable)
        )
        begun = processes.broadcast_from_rank0(lambda: created_by_launch(processes.launch_id, RunFolder(path)))
        if begun and not resume:  # by this very command, which torchrun repeats with the same --set
            settings = None
        if begun or resume:
            return _resume(session, chosen, data, settings, accept_changed_data=accept_changed_data)
        return _start(session, _changed(replace(chosen, data=data) if data else chosen, settings or {}))


def _changed(recipe: Recipe, settings: Mapping[str, str]) -> Recipe:
    """The recipe with other settings, none of which the data decide."""
    for name in settings:
        if name in ("model.num_classes", "model.in_chans"):
            raise InputError(f"{name} is taken from the images: leave it out")
    return override(recipe, settings)


def _start(session: Session, recipe: Recipe) -> TrainingResult:
    session.processes.broadcast_from_rank0(lambda: check_free(session.path))
    _check_settings(recipe, session)
    training, validation, facts = _images(recipe, session)
    _check_classes(training, validation, recipe, session)
    classes, channels = len(training.class_names), training.images_u8.shape[1]
    recipe = replace(recipe, model=replace(recipe.model, num_classes=classes, in_chans=channels))
    recipe = replace(recipe, batch_size=min(recipe.batch_size, len(training)))
    recipe = replace(
        recipe, precision=choose_precision(recipe.precision, session.device), data=absolute_source(recipe.data)
    )
    check_micro_batches(recipe, session.processes.world_size)  # again: fewer images make smaller batches
    header = run_metadata(recipe, facts, session.place, session.processes.launch_id)
    folder = session.processes.broadcast_from_rank0(lambda: start_run(session.path, header))
    return _train(folder, recipe, (training, validation), session)


def _resume(
    session: Session, asked: Recipe, data: str | None, settings: Mapping[str, str] | None, *, accept_changed_data: bool
) -> TrainingResult:
    from_first = session.processes.broadcast_from_rank0
    folder, header = from_first(lambda: open_run(session.path))
    recipe = resumed_recipe(header, asked.name, data, settings or {}, folder)
    _check_settings(recipe, session)
    if data is None:
        check_data_folder(recipe.data, folder)
    training, validation, facts = _images(recipe, session)
    place = from_first(lambda: recipe.data)  # in which each host may have them elsewhere
    recipe, notes = replace(recipe, data=place), []
    if data_changed(facts, header):
        if not accept_changed_data:
            raise InputError(
                f"the images of '{recipe.data}' aren't those that {folder.path} was started with: start a new run, "
                "or go on with them by --accept-changed-data"
            )
        from_first(lambda: _check_fits(training, recipe, folder))
        notes += [f"the images of '{recipe.data}' have changed: going on with what they are now", LEARNED_BEFORE]
    elif recipe.data != header["recipe"]["data"]:
        header = with_moved_data(header, recipe.data)
        from_first(lambda: write_header(folder, header))
        session.listener.note(f"the images are in {recipe.data} now: {folder.recipe} says so too")
    if header.get("device") != session.place:
        notes.append(f"begun on {header.get('device')}: what follows may differ from an uninterrupted run in rounding")
    elif recipe.grad_accum_steps != header["recipe"].get("accumulate"):
        notes.append("another accumulate: what follows may differ from an uninterrupted run in rounding")
    return _train(folder, recipe, (training, validation), session, ResumePlan(header, recipe, facts, notes))


def _check_settings(recipe: Recipe, session: Session) -> None:
    """Refuse what can't be done by so many processes, or without a package, before anything is read or written."""
    check_micro_batches(recipe, session.processes.world_size)
    if recipe.tensorboard:
        session.processes.broadcast_from_rank0(lambda: bool(summary_writer()))


def _check_fits(images: ImageSet, recipe: Recipe, folder: RunFolder) -> None:
    """Refuse other images that the model of a run can't learn from."""
    names = tuple(read_json(folder.path / CONFIG).get("class_names", ())) if (folder.path / CONFIG).exists() else None
    if names not in (None, images.class_names) or len(images.class_names) != recipe.model.num_classes:
        raise InputError(f"the classes of '{recipe.data}' aren't those of {folder.path}: start a new run")
    if len(images) < recipe.batch_size:
        raise InputError(
            f"'{recipe.data}' has only {len(images)} images left for batches of {recipe.batch_size}: start a new run"
        )


def _train(
    folder: RunFolder,
    recipe: Recipe,
    data: tuple[ImageSet, ImageSet],
    session: Session,
    renewal: ResumePlan | None = None,
) -> TrainingResult:
    training, _ = data
    processes, listener = session.processes, session.listener
    with torch.random.fork_rng():
        torch.manual_seed(seed_for(recipe.seed, "weights"))
        model = ViT(recipe.model).to(session.device)
    preprocessing = _preprocessing(recipe, training)
    normalize = Normalize(preprocessing.mean, preprocessing.std)
    patch_embed = model.patch_embed
    new = processes.broadcast_from_rank0(
        lambda: not folder.checkpoint.exists()
    )  # on other hosts there may be no such folder
    if new and recipe.whiten_patch_embed and isinstance(patch_embed, PatchEmbed):
        weight, bias = processes.broadcast_from_rank0(lambda: whitening_weights(stem, training, normalize, recipe.seed))
        with torch.no_grad():
            patch_embed.proj.weight.copy_(weight)
            patch_embed.proj.bias.copy_(bias)
    classifier = ImageClassifier(model, preprocessing, training.class_names)
    sentence = _sentence(model, recipe, data, session)
    state = initial_state(model, recipe, processes.world_size)
    _go_back(state, folder, session)
    steps = recipe.steps(len(training))
    if renewal.is_complete(state.step, steps) if renewal is not None else state.step >= steps:
        listener.note("the run is finished: nothing to do")
        top1 = processes.broadcast_from_rank0(lambda: _last_validation(folder))
        return TrainingResult(folder.path, finished=True, step=state.step, steps=state.step, validation_top1=top1)
    _renew(renewal, state.step, folder, session)
    processes.broadcast_from_rank0(lambda: save_config(classifier, folder.path))
    batches = TrainingBatches(
        training, recipe.batch_size, recipe.augment, recipe.seed, normalize=normalize, device=session.device
    )
    listener.note(sentence)
    finished, steps = _steps(state, (recipe, batches, data[1]), folder, session)
    top1 = processes.broadcast_from_rank0(lambda: _last_validation(folder))
    return TrainingResult(folder.path, finished, state.step, steps, top1)


def _renew(renewal: ResumePlan | None, step: int, folder: RunFolder, session: Session) -> None:
    """Say and record what is other about a run from here on: only now is it known that it does go on."""
    if renewal is None:
        return
    for note in renewal.notes:
        session.listener.note(note)
    if renewal.changes_metadata:
        session.processes.broadcast_from_rank0(lambda: write_header(folder, renewal.metadata_after(step)))


def _go_back(state: TrainingState, folder: RunFolder, session: Session) -> None:
    """Bring a new state to where the checkpoint is, if there is one, and the metrics too."""
    from_first = session.processes.broadcast_from_rank0
    if from_first(folder.checkpoint.exists):
        restore(state, folder.checkpoint, session.processes)
        session.listener.note(f"going on after step {state.step}")
    from_first(lambda: forget_metrics_after(folder, state.step))


def _steps(
    state: TrainingState, learned: tuple[Recipe, TrainingBatches, ImageSet], folder: RunFolder, session: Session
) -> tuple[bool, int]:
    """Take all steps that are left; whether none is, and how many there are in all."""
    recipe, batches, validation = learned
    listener, processes = session.listener, session.processes
    log = MetricsLog(folder, step=state.step, tensorboard=recipe.tensorboard, silent=not processes.is_rank0)
    with listener.stoppable() as stop_requested, closing(log):
        reference = processes.broadcast_from_rank0(lambda: find_reference(folder, recipe, listener.note))
        run = TrainingRun(
            recipe, batches, validation, folder, recipe.precision, listener.progress,
            lambda: draw_curves(folder, reference), stop_requested, log, processes, comparison_callback(reference, listener.note),
        )  # fmt: skip
        if run.steps < FEW_STEPS:
            listener.note(f"{run.steps} steps are few: raise epochs or lower batch_size (--set) to learn more")
        return loop.train(state, run), run.steps


def _images(recipe: Recipe, session: Session) -> tuple[ImageSet, ImageSet, dict[str, Any]]:
    """The images to learn from and those to validate on, and by what they are known again."""
    source, note = absolute_source(recipe.data), session.listener.note
    reading = ReadOptions(recipe.resize_mode, recipe.skip_unreadable, note)
    note(f"reading {source}")
    training, validation = session.processes.local_rank0_first(
        lambda: load_train_validation(source, recipe.model.image_size, recipe.validation_fraction, reading)
    )
    facts = describe_data(source, training, validation)
    mine = (facts["fingerprint"], facts["validation_fingerprint"])
    if any(theirs != mine for theirs in session.processes.all_gather(mine)):
        raise InputError(f"the images of '{source}' aren't the same in all processes: give each host the same data")
    return _placed(training, session), _placed(validation, session), facts


def _placed(images: ImageSet, session: Session) -> ImageSet:
    """The images in the device's memory, or left where they are if that is too small for them."""
    needed, room = images.images_u8.nbytes, budget_bytes(session.device)
    if session.device.type == "cpu" or needed <= room:
        return images.to(session.device)
    session.listener.note(
        f"{needed / 1e9:.1f} GB of images stay in main memory: {session.device} has {room / 1e9:.1f} GB for them"
    )
    return images


def _check_classes(training: ImageSet, validation: ImageSet, recipe: Recipe, session: Session) -> None:
    """Refuse images of a single class, and tell of classes without any to learn from, or to validate on."""
    note = session.listener.note
    if len(training.class_names) < 2:
        raise InputError(f"'{recipe.data}' has {len(training.class_names)} class(es): there is nothing to tell apart")
    for images, purpose in ((training, "learn from"), (validation, "validate on")):
        counts = images.labels.bincount(minlength=len(images.class_names)).tolist()
        empty = [name for name, count in zip(images.class_names, counts, strict=True) if count == 0]
        if empty and len(images) > 0:
            note(f"no images to {purpose} of {len(empty)} class(es): {', '.join(empty[:5])}")
    if len(training) < recipe.batch_size:
        note(f"batches of {len(training)} in place of {recipe.batch_size}: there are no more images")


def _preprocessing(recipe: Recipe, images: ImageSet) -> Preprocessing:
    mean, std = channel_statistics(images)
    return Preprocessing(recipe.model.image_size, recipe.resize_mode, mean, std, recipe.model.patch_size)


def _sentence(model: ViT, recipe: Recipe, data: tuple[ImageSet, ImageSet], session: Session) -> str:
    parameters = sum(weight.numel() for weight in model.parameters()) / 1e6
    counts = f"{len(data[0]):,} images to learn from, {len(data[1]):,} to validate"
    together = f" · {session.processes.world_size} processes" if session.processes.world_size > 1 else ""
    return f"{counts} · ViT of {parameters:.2f} M parameters · {recipe.precision} on {session.device.type}{together}"


def draw_curves(folder: RunFolder, reference: ReferenceCurve | None = None) -> None:
    """Draw loss and accuracy so far to figures/curves.png, with the reference that the run is held against."""
    curves(read_metrics(folder), folder.figures / "curves.png", band(reference))


def _last_validation(folder: RunFolder) -> float | None:
    scores = [line["top1"] for line in read_metrics(folder) if line["split"] == "validation"]
    return scores[-1] if scores else None
