"""Train a model by a recipe, in a run folder, from the start or from the last checkpoint.

A run goes through these steps: find the recipe, read the data, build the model, restore the checkpoint, train, report.
"""

from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, fields, replace
from pathlib import Path

import torch

from vitreous.arguments import check_arguments, show
from vitreous.callbacks import Callback, LogCallback
from vitreous.data.loader import Normalize, TrainingBatches
from vitreous.data.mixing import check_truth
from vitreous.data.sources import absolute_source
from vitreous.diagnostics.report.end_of_training import write_final_report, write_interim_report
from vitreous.errors import InputError
from vitreous.imaging.preprocessing import Preprocessing
from vitreous.model.classifier import ImageClassifier
from vitreous.model.lora_file import LoRADescription
from vitreous.model.serialization import check_sizes, save_config
from vitreous.records import Setting
from vitreous.runs.metrics_log import MetricsLog, summary_writer
from vitreous.runs.run_folder import (
    RunFolder,
    RunLock,
    check_unused,
    create_run,
    drop_metrics_after,
    open_run,
    read_metrics,
    write_metadata,
)
from vitreous.runtime import choose_precision, select_device
from vitreous.tasks.registry import find_task
from vitreous.tasks.task import LossSettings, TaskMetric
from vitreous.training import loop
from vitreous.training.accumulation import check_micro_batches
from vitreous.training.checkpoint import TrainingState, check_checkpoint, initial_state, restore
from vitreous.training.context import StopOnly, TrainContext
from vitreous.training.distributed import init_distributed
from vitreous.training.early_stopping import stops_early
from vitreous.training.from_weights import (
    InitDescription,
    check_channels,
    describe_tuning,
    read_init,
    recipe_from_weights,
)
from vitreous.training.progressive_resizing import low_resolution
from vitreous.training.provenance import (
    ResumePlan,
    check_data_folder,
    created_by_launch,
    data_changed,
    recorded_images,
    resumed_recipe,
    run_metadata,
    with_moved_data,
)
from vitreous.training.recipe import Recipe, with_settings
from vitreous.training.reference_comparison import find_reference
from vitreous.training.training_data import TrainingData, check_changed_data, check_training_images, load_training_data
from vitreous.training_film.filmstrip import write_filmstrip
from vitreous.training_film.kept_maps import last_kept_step
from vitreous.training_recipes import check_named, find_recipe
from vitreous.training_recipes.finetune import suited_settings
from vitreous.workflows.train_model import absolute_init, build_run_classifier, load_init, reload_init
from vitreous.workflows.train_result import TrainResult

LEAK_WARNING = (
    "if the validation images are held out of the training images, they are others now: the model may have been "
    "trained on some of them, and validation accuracy may be optimistic from here on"
)
FEW_STEPS = 50
"""A run with fewer steps gets a note: perhaps the folder is small and the recipe is for a large one."""


@check_arguments
def train(
    recipe: str | Recipe,
    output: str | Path | None = None,
    *,
    data: str | None = None,
    init: str | None = None,
    epochs: float | None = None,
    batch_size: int | None = None,
    learning_rate: float | None = None,
    seed: int | None = None,
    settings: Mapping[str, Setting] | None = None,
    resume: bool = False,
    accept_changed_data: bool = False,
    device: str = "auto",
    callback: Callback | None = None,
) -> TrainResult:
    """Train a model; the run folder then holds its weights, recipe, metrics, curves and a checkpoint.

    Under torchrun all processes call this and train one model together; rank 0 writes and reports.

    Args:
        recipe: a recipe's name, or a whole `Recipe`.
        output: the run folder; by default "runs/" and the recipe's name.
        data: another source than the recipe's: cifar10, mnist, shapes, folder:DIR, parquet:DIR, hf:OWNER/NAME. With
            `resume`, where the same images are now.
        init: the model to start from, in place of random weights: anything that `load` takes.
        epochs: another number of epochs than the recipe's.
        batch_size: another number of images in a batch, over all processes.
        learning_rate: another peak learning rate (`optimizer.learning_rate`).
        seed: another seed of all random numbers.
        settings: changes to any settings of the recipe: {"optimizer.weight_decay": 0.1, "model.depth": 6}. The setting
            "model" takes the name of a size, such as "S/16", which replaces the recipe's whole model.
        resume: continue the run in `output` with its own recipe; the result is bit-identical to an uninterrupted run.
            Only grad_accum_steps, grad_checkpointing, fsdp, checkpoint_seconds, tensorboard, keep_maps and report may
            then be changed.
        accept_changed_data: resume although the images are not the same as at the start.
        device: "auto", "cpu" or "cuda".
        callback: receives notes and `TrainProgress`, and may stop the run. By default `LogCallback()`: lines of
            progress on standard error, or in the log if logging is configured. `Callback()` reports nothing.

    Raises:
        InputError: an unknown recipe or setting, data that can't be read, a folder that can't be used.
    """
    callback = LogCallback() if callback is None else callback
    common = {
        "init": None if init is None else absolute_init(init), "epochs": epochs,
        "batch_size": batch_size, "optimizer.learning_rate": learning_rate, "seed": seed,
    }  # fmt: skip
    changes = _merge_settings(
        {} if settings is None else settings, {name: value for name, value in common.items() if value is not None}
    )
    chosen = find_recipe(recipe) if isinstance(recipe, str) else recipe
    found = select_device(device)
    with torch.inference_mode(False), torch.enable_grad(), init_distributed(found) as distributed:
        path = Path(output) if output is not None else Path("runs") / chosen.name
        context = TrainContext(path, found, distributed, callback if distributed.is_rank0 else StopOnly(callback))
        restarted = context.on_rank0(lambda: created_by_launch(distributed.launch_id, RunFolder(path)))
        if restarted and not resume:  # torchrun repeats this very command, with the same settings
            changes = {}
        with closing(RunLock(context.note)) as lock:
            if restarted or resume:
                run = _resume(context, chosen.name, data, changes, lock, accept_changed_data=accept_changed_data)
            else:
                chosen = replace(chosen, data=data) if data is not None else chosen
                run = _start(context, chosen, changes, lock)
            return replace(_train(run, context), device=device)


def _merge_settings(settings: Mapping[str, Setting], common: Mapping[str, Setting]) -> Mapping[str, Setting]:
    if not isinstance(settings, Mapping) or not all(isinstance(name, str) for name in settings):
        example = '{"model.depth": 6}'
        raise InputError(f"settings={show(settings)} has the wrong type: train takes a dictionary such as {example}")
    for name in settings.keys() & common.keys():
        raise InputError(f"{name} is given twice, as an argument and in settings: leave one of them out")
    return {**settings, **common}


@dataclass(frozen=True)
class _Run:
    """A run that is ready to train."""

    folder: RunFolder
    recipe: Recipe
    data: TrainingData
    plan: ResumePlan | None = None
    """None for a new run."""
    init: ImageClassifier | None = None
    """The model to start from; None if there is none, or a checkpoint."""
    init_description: InitDescription | None = None
    """Of the model that the run started from, whenever that was."""

    @property
    def steps(self) -> int:
        return self.recipe.steps(len(self.data.training))

    def lora(self, preprocessing: Preprocessing) -> LoRADescription | None:
        """Describe the LoRA file that the run writes, if it does."""
        if self.recipe.tune != "lora" or self.init_description is None:
            return None
        recipe = self.recipe
        names = find_task(recipe.task).describe_outputs(self.data.training).class_names
        fingerprint = self.init_description.fingerprint
        return LoRADescription(recipe.init, fingerprint, recipe.lora, recipe.model, preprocessing, names, recipe.task)


def _start(context: TrainContext, recipe: Recipe, settings: Mapping[str, Setting], lock: RunLock) -> _Run:
    """Read the model and data of a new run, complete the recipe with what they decide, and create the run folder."""
    for name in ("model.num_classes", "model.in_chans"):
        if name in settings:
            raise InputError(f"{name} is taken from the images: leave it out")
    init = description = None
    if name := settings.get("init", recipe.init):
        context.on_rank0(lambda: check_unused(context.path))
        init, description = load_init(str(name), context)
        recipe = recipe_from_weights(recipe, init, suited_settings(recipe, settings), context.note)
    else:
        recipe = with_settings(recipe, settings)
    context.on_rank0(lambda: check_unused(context.path))
    check_named(recipe)
    _check_settings(recipe, context)
    data = load_training_data(recipe, context)
    check_training_images(data, recipe, context)
    training, channels = data.training, data.training.images_u8.shape[1]
    if init is not None:
        check_channels(init, channels, recipe)
    task = find_task(recipe.task)
    model = replace(recipe.model, num_classes=task.describe_outputs(training).num_outputs, in_chans=channels)
    recipe = replace(
        recipe,
        model=model,
        init=absolute_init(recipe.init),
        batch_size=min(recipe.batch_size, len(training)),
        precision=choose_precision(recipe.precision, context.device),
        data=absolute_source(recipe.data),
    )
    check_micro_batches(recipe, context.distributed.world_size)  # again: fewer images make smaller batches
    metadata = run_metadata(recipe, data.description, context.hardware, context.distributed.launch_id, description)
    folder = context.on_rank0(lambda: create_run(context.path, metadata, lock))
    return _Run(folder, recipe, data, init=init, init_description=description)


def _resume(
    context: TrainContext,
    recipe_name: str,
    source: str | None,
    settings: Mapping[str, Setting],
    lock: RunLock,
    *,
    accept_changed_data: bool,
) -> _Run:
    """Open the folder of an earlier run, read its data again and compare them with what the run was started with."""
    folder, metadata = context.on_rank0(lambda: open_run(context.path, lock))
    recipe = resumed_recipe(metadata, recipe_name, source, settings, folder)
    _check_settings(recipe, context)
    if source is None:
        check_data_folder(recipe.data, folder)
    context.on_rank0(lambda: _check_files(folder, recipe, recorded_images(metadata, folder)))
    data = load_training_data(recipe, context)
    recipe, notes = replace(recipe, data=context.on_rank0(lambda: recipe.data)), []  # each host may have them elsewhere
    if data_changed(data.description, metadata):
        if not accept_changed_data:
            raise InputError(
                f"the images of '{recipe.data}' aren't those that {folder.path} was started with: start a new run, "
                "or continue with them by accept_changed_data (--accept-changed-data)"
            )
        context.on_rank0(lambda: check_changed_data(data, recipe, folder))
        notes += [f"the images of '{recipe.data}' have changed: resuming with the present ones", LEAK_WARNING]
    elif recipe.data != metadata["recipe"]["data"]:
        metadata = with_moved_data(metadata, recipe.data)
        context.on_rank0(lambda: write_metadata(folder, metadata))
        context.note(f"the images are in {recipe.data} now: {folder.recipe} is updated")
    if metadata.get("device") != context.hardware:
        started = metadata.get("device")
        notes.append(f"started on {started}: the result may differ from an uninterrupted run by rounding")
    elif recipe.grad_accum_steps != metadata["recipe"].get("grad_accum_steps"):
        notes.append("grad_accum_steps has changed: the result may differ from an uninterrupted run by rounding")
    description = read_init(metadata, folder)
    is_new = context.on_rank0(lambda: not folder.checkpoint.exists())  # other hosts may have no such folder
    init = reload_init(recipe, description, context) if description is not None and is_new else None
    return _Run(folder, recipe, data, ResumePlan(metadata, recipe, data.description, notes), init, description)


def _check_files(folder: RunFolder, recipe: Recipe, images: int | None) -> None:
    """Refuse damaged files of a run, before its images are read, which may take minutes."""
    read_metrics(folder)
    check_sizes(recipe.model, folder.checkpoint, str(folder.recipe), find_task(recipe.task).model_type)
    if folder.checkpoint.exists():
        check_checkpoint(folder.checkpoint, recipe, None if images is None else recipe.steps(images))


def _check_settings(recipe: Recipe, context: TrainContext) -> None:
    """Refuse what the task or so many processes can't do, or needs a missing package, before images are read."""
    task = find_task(recipe.task)
    check_micro_batches(recipe, context.distributed.world_size)
    check_truth(task.truth, recipe.augment)
    if recipe.distillation.weight and not task.can_distill:
        raise InputError(f"{recipe.task} can't be distilled: set distillation.weight=0")
    for field in fields(LossSettings):
        if field.name not in task.loss_settings and getattr(recipe, field.name) != field.default:
            raise InputError(f"the task {recipe.task} doesn't use {field.name}: set {field.name}={field.default}")
    if recipe.tensorboard:
        context.on_rank0(lambda: bool(summary_writer()))


def _train(run: _Run, context: TrainContext) -> TrainResult:
    """Build the model, restore the checkpoint if there is one, and take the steps that are left."""
    folder, recipe = run.folder, run.recipe
    is_new = context.on_rank0(lambda: not folder.checkpoint.exists())  # other hosts may have no such folder
    classifier = build_run_classifier(recipe, run.data.training, context, run.init, run.init_description, is_new=is_new)
    parameters = sum(weight.numel() for weight in classifier.vit.parameters())
    state = initial_state(classifier.vit, recipe, context.distributed.world_size)
    summary = _summary(parameters, run, context) + describe_tuning(state.model)
    _restore(state, folder, context)
    is_stopped = stops_early(state.step, state.best, recipe, len(run.data.training))
    plan, step = run.plan, state.step
    if is_stopped or (step >= run.steps if plan is None else plan.is_complete(step, run.steps)):
        context.note("the run is finished: nothing to do")
        return _result(state, state.step, run, context, finished=True)
    if run.plan is not None:
        _record_resume(run.plan, state.step, folder, context)
    context.on_rank0(lambda: _write_config(classifier, folder))
    context.note(summary)
    finished = _take_steps(state, run, classifier.preprocessing, context)
    if finished:
        context.on_rank0(lambda: _draw_filmstrip(folder))
    if recipe.report:
        context.on_rank0(lambda: write_final_report(folder, context, finished=finished))
    if finished and state.best is not None:
        score = find_task(recipe.task).metric.format(state.best.score, 2)
        context.note(f"the weights are those of step {state.best.step}, of the best validation: {score}")
    return _result(state, run.steps, run, context, finished=finished)


def _result(state: TrainingState, steps: int, run: _Run, context: TrainContext, *, finished: bool) -> TrainResult:
    """Return the state of a run of so many steps when it ends here."""
    metric, folder = find_task(run.recipe.task).metric, run.folder
    score = _validation_score(state, metric, folder, context)
    return TrainResult(folder.path, finished, state.step, steps, metric, score)


def _write_config(classifier: ImageClassifier, folder: RunFolder) -> None:
    with folder.writing():
        save_config(classifier, folder.path)


def _draw_filmstrip(folder: RunFolder) -> None:
    """Draw the maps of the fixed images from the first step to the last, if the run has kept them."""
    if last_kept_step(folder) >= 0:
        write_filmstrip(folder.path)


def _restore(state: TrainingState, folder: RunFolder, context: TrainContext) -> None:
    """Restore the state from the checkpoint, if there is one, and cut the metrics off after its step."""
    if context.on_rank0(folder.checkpoint.exists):
        restore(state, folder.checkpoint, context.distributed)
        context.note(f"resuming after step {state.step}")
    context.on_rank0(lambda: drop_metrics_after(folder, state.step))


def _record_resume(plan: ResumePlan, step: int, folder: RunFolder, context: TrainContext) -> None:
    """Report and record what changes on resume, once the resume is certain."""
    for note in plan.notes:
        context.note(note)
    if plan.changes_metadata:
        context.on_rank0(lambda: write_metadata(folder, plan.metadata_after(step)))


def _take_steps(state: TrainingState, run: _Run, preprocessing: Preprocessing, context: TrainContext) -> bool:
    """Take all steps that are left; return False if the callback stopped the run."""
    recipe, folder = run.recipe, run.folder
    batches = TrainingBatches(
        run.data.training, recipe.batch_size, recipe.augment, recipe.seed,
        normalize=Normalize(preprocessing.mean, preprocessing.std), device=context.device,
        truth=find_task(recipe.task).truth,
    )  # fmt: skip
    disabled = not context.distributed.is_rank0
    log = MetricsLog(folder, step=state.step, tensorboard=recipe.tensorboard, disabled=disabled)
    with closing(log):
        reference = context.on_rank0(lambda: find_reference(folder, recipe, context.note))
        if run.steps < FEW_STEPS:
            steps = "1 step" if run.steps == 1 else f"{run.steps} steps"
            context.note(f"only {steps}: raise epochs or lower batch_size to train longer")
        training_run = loop.TrainSetup(
            recipe, batches, run.data.validation, folder, log, context.callback, context.distributed, reference,
            run.lora(preprocessing), (lambda: write_interim_report(folder, context)) if recipe.report else None,
        )  # fmt: skip
        return loop.train(state, training_run)


def _summary(parameters: int, run: _Run, context: TrainContext) -> str:
    counts = f"{len(run.data.training):,} images to train on, {len(run.data.validation):,} to validate on"
    world_size = context.distributed.world_size
    processes = f" · {world_size} processes" if world_size > 1 else ""
    hardware = f"{run.recipe.precision} on {context.device.type}{processes}"
    height, width = run.recipe.model.image_size
    size, resizing = f"{height} × {width} pixels", run.recipe.progressive_resizing
    if resizing.fraction:
        small = low_resolution((height, width), resizing, run.recipe.model.patch_size)
        size += f" (the first {resizing.fraction:.0%} of training at {small[0]} × {small[1]})"
    return f"{counts} at {size} · ViT of {parameters / 1e6:.2f} M parameters · {hardware}"


def _validation_score(
    state: TrainingState, metric: TaskMetric, folder: RunFolder, context: TrainContext
) -> float | None:
    """Return the metric of the last validation, or of the best one if its weights are kept."""
    if state.best is not None:
        return state.best.score
    lines = context.on_rank0(lambda: read_metrics(folder))
    scores = [line[metric.name] for line in lines if line["split"] == "validation"]
    return scores[-1] if scores else None
