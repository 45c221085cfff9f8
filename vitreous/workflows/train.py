"""Train a model by a recipe, in a run folder, from the start or from the last checkpoint.

A run goes through these steps: find the recipe, read the data, build the model, restore the checkpoint, train, report.
"""

from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import torch

from vitreous.arguments import check_arguments, show
from vitreous.callbacks import Callback, LogCallback
from vitreous.data.loader import Normalize, TrainingBatches
from vitreous.diagnostics.report.end_of_training import write_final_report, write_interim_report
from vitreous.errors import InputError
from vitreous.imaging.preprocessing import Preprocessing
from vitreous.model.classifier import ImageClassifier
from vitreous.model.serialization import CONFIG, WEIGHTS, save_config
from vitreous.records import Setting
from vitreous.runs.metrics_log import MetricsLog
from vitreous.runs.run_folder import RunFolder, RunLock, drop_metrics_after, read_metrics, write_metadata
from vitreous.runtime import select_device
from vitreous.tasks.registry import find_task
from vitreous.tasks.task import TaskMetric
from vitreous.training import loop
from vitreous.training.checkpoint import TrainingState, initial_state, make_checkpoint, restore
from vitreous.training.context import StopOnly, TrainContext
from vitreous.training.distributed import init_distributed
from vitreous.training.early_stopping import stops_early
from vitreous.training.from_weights import describe_tuning
from vitreous.training.progressive_resizing import low_resolution
from vitreous.training.provenance import ResumePlan, created_by_launch
from vitreous.training.recipe import Recipe
from vitreous.training.reference_comparison import find_reference
from vitreous.training_film.filmstrip import write_filmstrip
from vitreous.training_film.kept_maps import last_kept_step
from vitreous.training_recipes import find_recipe
from vitreous.workflows.train_result import TrainResult
from vitreous.workflows.train_start import PreparedRun, absolute_init, build_run_classifier, resume_run, start_run

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
                run = resume_run(context, chosen.name, data, changes, lock, accept_changed_data=accept_changed_data)
            else:
                chosen = replace(chosen, data=data) if data is not None else chosen
                run = start_run(context, chosen, changes, lock)
            return replace(_train(run, context), device=device)


def _merge_settings(settings: Mapping[str, Setting], common: Mapping[str, Setting]) -> Mapping[str, Setting]:
    if not isinstance(settings, Mapping) or not all(isinstance(name, str) for name in settings):
        example = '{"model.depth": 6}'
        raise InputError(f"settings={show(settings)} has the wrong type: train takes a dictionary such as {example}")
    for name in settings.keys() & common.keys():
        raise InputError(f"{name} is given twice, as an argument and in settings: leave one of them out")
    return {**settings, **common}


def _train(run: PreparedRun, context: TrainContext) -> TrainResult:
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
        written = _write_missing(state, run, classifier, context)
        context.note(f"the run is finished: {written or 'nothing to do'}")
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
    if finished and state.step < run.steps:
        context.note(f"stopped early after step {state.step:,} of {run.steps:,}")
    if finished and state.best is not None:
        score = find_task(recipe.task).metric.format(state.best.score, 2)
        context.note(f"the weights are those of step {state.best.step}, of the best validation: {score}")
    return _result(state, run.steps, run, context, finished=finished)


def _result(
    state: TrainingState, steps: int, run: PreparedRun, context: TrainContext, *, finished: bool
) -> TrainResult:
    """Return the state of a run of so many steps when it ends here."""
    metric, folder = find_task(run.recipe.task).metric, run.folder
    score = _validation_score(state, metric, folder, context)
    return TrainResult(folder.path, finished, state.step, steps, metric, score)


def _write_missing(state: TrainingState, run: PreparedRun, classifier: ImageClassifier, context: TrainContext) -> str:
    """Write what is gone of a finished run's model, from its checkpoint; return what the user should know."""
    folder, lora = run.folder, run.lora(classifier.preprocessing)
    files = [folder.path / CONFIG, folder.path / WEIGHTS, *([folder.lora] if lora is not None else [])]
    missing = context.on_rank0(lambda: [path.name for path in files if not path.is_file()])
    if not missing:
        return ""
    if CONFIG in missing:
        context.on_rank0(lambda: _write_config(classifier, folder))
    if missing != [CONFIG]:
        checkpoint = make_checkpoint(state, keep=context.distributed.is_rank0)
        context.on_rank0(lambda: loop.write_run_model(checkpoint, run.recipe, folder, lora))
    return f"{' and '.join(missing)} written again from its checkpoint"


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


def _take_steps(state: TrainingState, run: PreparedRun, preprocessing: Preprocessing, context: TrainContext) -> bool:
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
            context.note(f"only {steps}: raise {_what_decides_steps(run)} to train longer")
        training_run = loop.TrainSetup(
            recipe, batches, run.data.validation, folder, log, context.callback, context.distributed, reference,
            run.lora(preprocessing), (lambda: write_interim_report(folder, context)) if recipe.report else None,
        )  # fmt: skip
        return loop.train(state, training_run)


def _what_decides_steps(run: PreparedRun) -> str:
    """Name what a longer run needs more of."""
    return "min_steps" if run.steps == run.recipe.min_steps else "epochs or min_steps, or lower batch_size,"


def _summary(parameters: int, run: PreparedRun, context: TrainContext) -> str:
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
