"""The training loop: step, log, validate, save."""

import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from vitreous.callbacks import Callback, Progress, format_clock
from vitreous.data.image_set import ImageSet
from vitreous.data.loader import TrainingBatches, inference_batch_size, sequential_batches
from vitreous.errors import InputError
from vitreous.model.lora_file import LoRADescription, write_lora
from vitreous.model.serialization import WEIGHTS, write_weights
from vitreous.render.plots.curves import MetricAxis, training_curves
from vitreous.runs.metrics_log import MetricsLog
from vitreous.runs.run_folder import RunFolder, read_metrics
from vitreous.runtime import autocast, seed_for
from vitreous.tasks.registry import find_task
from vitreous.tasks.task import LossSettings, Task, TaskMetric
from vitreous.training.accumulation import BatchStatistics, GradientAccumulator, out_of_memory_hint
from vitreous.training.checkpoint import Checkpoint, TrainingState, is_finite, make_checkpoint, write_checkpoint
from vitreous.training.distributed import DistributedContext
from vitreous.training.early_stopping import BestValidation, copy_weights, stops_early, validation_is_due
from vitreous.training.from_weights import plain_weights
from vitreous.training.map_keeping import open_map_keeper
from vitreous.training.optimizer import clip_gradients, lr_multiplier
from vitreous.training.progressive_resizing import relative_cost, resize_batch
from vitreous.training.recipe import Recipe
from vitreous.training.reference_comparison import reference_band
from vitreous.training.reference_curve import ReferenceCurve, compare_with_reference
from vitreous.training.sharding import is_sharded, reshard
from vitreous.training_film.keeper import MapKeeper

LOG_EVERY_STEPS = 10


@dataclass(frozen=True, kw_only=True)
class TrainProgress(Progress):
    """The progress of a training run; `done` and `total` count steps.

    Attributes:
        metric: What is measured besides the loss, such as top-1.
        score: The metric on the (augmented) training images since the last report.
        validation_score: The metric of the last validation since `train` was called, if there was one.
    """

    epoch: float
    loss: float
    metric: TaskMetric
    score: float
    images_per_second: float
    seconds_left: float
    validation_score: float | None = None

    def __str__(self) -> str:
        format_score = self.metric.format
        validation = "" if self.validation_score is None else f" · validation {format_score(self.validation_score)}"
        rates = f"{self.images_per_second:,.0f} images/s · {format_clock(self.seconds_left)} left"
        score = f"{self.metric.label} {format_score(self.score)}"
        return f"epoch {self.epoch:.2f} · loss {self.loss:.3f} · {score}{validation} · {rates}"


@dataclass
class TrainSetup:
    """What the loop works with besides the state: settings, data, folder, processes and callback."""

    recipe: Recipe
    batches: TrainingBatches
    validation: ImageSet
    folder: RunFolder
    log: MetricsLog
    callback: Callback
    distributed: DistributedContext = field(default_factory=DistributedContext)
    reference: ReferenceCurve | None = None
    """What the run is compared with after each validation."""
    lora: LoRADescription | None = None
    """What the LoRA file says about itself, if the recipe tunes LoRA matrices."""
    write_report: Callable[[], object] | None = None
    """Called on rank 0 after each checkpoint; it may raise that the run folder is gone, and nothing else."""
    validation_score: float | None = field(default=None, init=False)
    map_keeper: MapKeeper | None = field(default=None, init=False)
    """None if no maps are kept, and on ranks other than 0."""

    @property
    def task(self) -> Task:
        """What the model learns."""
        return find_task(self.recipe.task)

    @property
    def steps(self) -> int:
        """Steps in the whole run."""
        return self.recipe.steps(len(self.batches.images))

    def stops_early(self, state: TrainingState) -> bool:
        """Whether the run ends here, before its last step."""
        return stops_early(state.step, state.best, self.recipe, len(self.batches.images))

    def epoch(self, step: int) -> float:
        """Return the number of epochs after `step` steps."""
        return step * self.recipe.batch_size / len(self.batches.images)


def train(state: TrainingState, setup: TrainSetup) -> bool:
    """Train from `state.step` to the last step; return False if the callback stopped it, with everything saved.

    Raises:
        InputError: the loss is not finite any more (the message names the last good checkpoint), or a batch doesn't
            fit into memory.
    """
    batches, recipe = setup.batches, setup.recipe
    device = batches.device or batches.images.labels.device
    loss = setup.task.make_loss(batches.images, LossSettings(recipe.label_smoothing, recipe.class_weights), device)
    accumulator = GradientAccumulator(state.model, recipe, setup.distributed, loss, state.teacher)
    with accumulator.checkpointing():
        setup.map_keeper = open_map_keeper(state, setup)
        keep_maps(state, setup)
        meter = StepMeter(setup)
        while state.step < setup.steps and not setup.stops_early(state):
            if setup.distributed.any(setup.callback.should_stop()):
                meter.report(state)
                save_checkpoint(state, setup)
                return False
            with batch_size_hint(setup):
                meter.add(training_step(state, setup, accumulator))
            if setup.map_keeper is not None and setup.map_keeper.is_due(state.step):
                meter.pause(keep_maps, state, setup)
            if state.step % LOG_EVERY_STEPS == 0 or state.step == setup.steps:
                meter.report(state)
            if len(setup.validation) and validation_is_due(state.step, setup.recipe, len(setup.batches.images)):
                meter.pause(validate, state, setup)
                meter.notify()
            if stops_early := setup.stops_early(state):
                meter.report(state)
                keep_maps(state, setup, is_last=True)
            if meter.checkpoint_is_due() or state.step == setup.steps or stops_early:
                meter.pause(save_checkpoint, state, setup)
    return True


def keep_maps(state: TrainingState, setup: TrainSetup, *, is_last: bool = False) -> None:
    """Keep the maps of the fixed images if that is due after this step, or if this is the run's last one."""
    keeper = setup.map_keeper
    if keeper is not None and (is_last or keeper.is_due(state.step)):
        keeper.keep(state.best_model, state.step, setup.epoch(state.step))


def batch_size_hint(setup: TrainSetup) -> AbstractContextManager[None]:
    """Return the context that names the setting to change if a batch doesn't fit into memory."""
    recipe = setup.recipe
    what = f"a batch of {recipe.batch_size} images in {recipe.grad_accum_steps} micro-batch(es)"
    return out_of_memory_hint(what, recipe, setup.distributed.world_size)


def training_step(state: TrainingState, setup: TrainSetup, accumulator: GradientAccumulator) -> BatchStatistics:
    """Take one optimizer step; the statistics are this process' and still on the device."""
    state.model.train(setup.recipe.tune != "head")  # what is frozen alone neither drops patches nor branches
    recipe = setup.recipe
    batch = setup.batches.batch(state.step)
    batch = resize_batch(state.step, setup.steps, batch, recipe.progressive_resizing, recipe.model.patch_size)
    statistics = accumulator.backward(batch, seed_for(recipe.seed, "model", state.step))
    if recipe.optimizer.clip_grad_norm is not None:
        clip_gradients(state.model, recipe.optimizer.clip_grad_norm)
    multiplier = lr_multiplier(state.step, setup.steps, recipe.schedule)
    for optimizer in state.optimizers.values():
        for group in optimizer.param_groups:
            group["lr"] = group.setdefault("initial_lr", group["lr"]) * multiplier
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    state.step += 1
    if state.ema is not None:
        state.ema.update_parameters(state.model)
    return statistics


class StepMeter:
    """Collects the steps since the last report, and measures time, but not while the run validates or saves."""

    def __init__(self, setup: TrainSetup) -> None:
        self.setup = setup
        self.statistics: list[BatchStatistics] = []
        self.started = self.saved = time.monotonic()
        self.steps_timed = 0
        self.progress: TrainProgress | None = None

    def add(self, statistics: BatchStatistics) -> None:
        """Add one step."""
        self.statistics.append(statistics)
        self.steps_timed += 1

    def report(self, state: TrainingState) -> None:
        """Write a line of metrics.jsonl about the steps since the last report, if any, and notify the callback."""
        if not self.statistics:
            return
        setup, batch = self.setup, self.setup.recipe.batch_size
        losses, scores = (torch.stack(column) for column in zip(*self.statistics, strict=True))
        loss = setup.distributed.all_reduce_sum(losses).mean().item()
        score = setup.distributed.all_reduce_sum(scores).sum().item() / (batch * len(self.statistics))
        if not math.isfinite(loss):
            raise diverged_error(f"the loss is {loss}", state, setup)
        rate = self.steps_timed * batch / (time.monotonic() - self.started)
        multiplier = lr_multiplier(state.step - 1, setup.steps, setup.recipe.schedule)
        learning_rate = setup.recipe.optimizer.learning_rate * multiplier
        rates = {"learning_rate": learning_rate, "images_per_second": rate}
        epoch = setup.epoch(state.step)
        metric = setup.task.metric
        values = {"loss": loss, metric.name: score, **rates} | {"loss": loss}  # of some tasks it is the metric
        setup.log.write(step=state.step, epoch=epoch, split="train", **values)
        self.progress = TrainProgress(
            done=state.step, total=setup.steps, epoch=epoch, loss=loss, metric=metric, score=score,
            images_per_second=rate, seconds_left=self.seconds_left(state.step),
        )  # fmt: skip
        self.statistics = []
        self.notify()

    def notify(self) -> None:
        """Pass the last report to the callback, with the newest validation."""
        if self.progress is not None:
            self.setup.callback.on_progress(replace(self.progress, validation_score=self.setup.validation_score))

    def seconds_left(self, step: int) -> float:
        """Estimate the time that the rest of the run takes, from the time so far."""
        first, now, whole = (
            relative_cost(at, self.setup.steps, self.setup.recipe.progressive_resizing)
            for at in (step - self.steps_timed, step, self.setup.steps)
        )
        return (time.monotonic() - self.started) * (whole - now) / (now - first)

    def checkpoint_is_due(self) -> bool:
        """Whether the last checkpoint is too old; only right after a report, when the loss is known to be finite."""
        if self.statistics:
            return False
        due = time.monotonic() - self.saved > self.setup.recipe.checkpoint_seconds
        return self.setup.distributed.any(due and self.setup.distributed.is_rank0)

    def pause(
        self, action: Callable[[TrainingState, TrainSetup], None], state: TrainingState, setup: TrainSetup
    ) -> None:
        """Run an action that doesn't count as training time."""
        before = time.monotonic()
        action(state, setup)
        after = time.monotonic()
        self.started += after - before
        self.saved = after if action is save_checkpoint else self.saved


def validate(state: TrainingState, setup: TrainSetup) -> None:
    """Evaluate the validation images, write a line of metrics.jsonl and compare with the best and with the reference.

    Raises:
        InputError: the loss is not finite any more, or the images don't fit into memory.
    """
    what = f"a batch of {validation_batch_size(setup.validation, setup.recipe)} validation images"
    with out_of_memory_hint(what, setup.recipe, setup.distributed.world_size, gradients=False):
        outputs = validation_outputs(state.best_model, setup.validation, setup)
    metric, measured = setup.task.metric, setup.task.measure(outputs, setup.validation)
    values = {name: float(value) for name, value in measured.items()}  # a checkpoint takes nothing else
    if not math.isfinite(values["loss"]):
        raise diverged_error(f"the validation loss is {values['loss']}", state, setup)
    setup.validation_score = values[metric.name]
    result = BestValidation(state.step, values[metric.name], values["loss"])
    if setup.recipe.early_stopping_epochs and result.is_better_than(state.best, metric):
        state.best, state.best_weights = result, copy_weights(state.best_model)
    setup.log.write(step=state.step, epoch=setup.epoch(state.step), split="validation", **values)
    if setup.reference is not None and (point := setup.reference.at(state.step)):
        setup.callback.on_note(compare_with_reference(point, values[metric.name], metric))


def validation_outputs(model: nn.Module, images: ImageSet, setup: TrainSetup) -> list[Tensor]:
    """Compute a model's outputs (batch, ...) for images, on the CPU, in batches; each process computes a shard of them.

    If weights are sharded, each process computes all: gathering the weights takes all processes at once.
    """
    if is_sharded(model) or len(images) < setup.distributed.world_size:
        return _forward_all(model, images, setup)
    mine = setup.distributed.shard(len(images))
    shard = replace(images, images_u8=images.images_u8[mine], labels=images.labels[mine], boxes=None, masks=None)
    return [outputs for part in setup.distributed.all_gather(_forward_all(model, shard, setup)) for outputs in part]


@torch.no_grad()
def _forward_all(model: nn.Module, images: ImageSet, setup: TrainSetup) -> list[Tensor]:
    """Compute outputs (batch, ...), float32 on the CPU; the model is left in the mode it was in."""
    training = model.training
    model.eval()
    outputs = []
    device = next(model.parameters()).device
    for inputs, _ in sequential_batches(images, validation_batch_size(images, setup.recipe), setup.batches.normalize):
        with autocast(device, setup.recipe.precision):
            outputs.append(model(inputs.to(device)).float().cpu())
    model.train(training)
    reshard(model)
    return outputs


def validation_batch_size(images: ImageSet, recipe: Recipe) -> int:
    """Return the number of validation images in a batch: fewer if the recipe cuts training batches into
    micro-batches."""
    return max(1, inference_batch_size(images) // recipe.grad_accum_steps)


def save_checkpoint(state: TrainingState, setup: TrainSetup) -> None:
    """Save the weights as they are now, for evaluate and explain, and then the checkpoint.

    In this order a kill in between costs nothing: the run resumes from the older checkpoint and writes both again.

    Raises:
        InputError: a weight is not finite any more; nothing is written.
    """
    if setup.distributed.any(not is_finite(state)):
        raise diverged_error("the last step left weights that are not finite", state, setup)
    checkpoint = make_checkpoint(state, keep=setup.distributed.is_rank0)
    setup.distributed.broadcast_from_rank0(lambda: _write_files(checkpoint, setup))


def _write_files(checkpoint: Checkpoint, setup: TrainSetup) -> None:
    metric = setup.task.metric
    write_run_model(checkpoint, setup.recipe, setup.folder, setup.lora)
    with setup.folder.writing():
        write_checkpoint(checkpoint, setup.folder.checkpoint)
    with setup.folder.writing():
        axis = MetricAxis(metric.name, metric.title, is_fraction=metric.is_fraction)
        training_curves(read_metrics(setup.folder), setup.folder.curves, reference_band(setup.reference), axis)
    if setup.write_report is not None:
        with setup.folder.writing():
            setup.write_report()


def write_run_model(checkpoint: Checkpoint, recipe: Recipe, folder: RunFolder, lora: LoRADescription | None) -> None:
    """Write the weights of a checkpoint for the other verbs, and the LoRA file if the run has one."""
    with folder.writing():
        write_weights(plain_weights(checkpoint.weights, recipe), folder.path / WEIGHTS)
    if lora is not None:
        with folder.writing():
            write_lora(checkpoint.weights, lora, folder.lora)


def diverged_error(what: str, state: TrainingState, setup: TrainSetup) -> InputError:
    """Return the error for a run that has diverged."""
    checkpoint = setup.folder.checkpoint
    kept = f"the last good checkpoint is {checkpoint}, " if checkpoint.exists() else ""
    return InputError(
        f"{what} at step {state.step}: {kept}start again, in another output folder, with a lower "
        "optimizer.learning_rate or with optimizer.clip_grad_norm=1"
    )
