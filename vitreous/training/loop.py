"""The training loop: step, log, validate, save."""

import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from vitreous.data.class_weights import class_weights
from vitreous.data.image_set import ImageSet
from vitreous.data.loader import TrainingBatches, inference_batch_size, sequential_batches
from vitreous.errors import InputError
from vitreous.evaluation.classification import compute_metrics
from vitreous.model.serialization import WEIGHTS, write_tensors
from vitreous.runs.metrics_log import MetricsLog
from vitreous.runs.run_folder import RunFolder
from vitreous.runtime import autocast, seed_for
from vitreous.training.accumulation import GradientAccumulator, out_of_memory_hint
from vitreous.training.checkpoint import Checkpoint, TrainingState, is_finite, make_checkpoint, write_checkpoint
from vitreous.training.distributed import DistributedContext
from vitreous.training.optimizer import lr_multiplier
from vitreous.training.progressive_resizing import relative_cost, resize_batch
from vitreous.training.recipe import Recipe
from vitreous.training.sharding import is_sharded

LOG_EVERY_STEPS = 10


@dataclass(frozen=True)
class TrainProgress:
    """Where a run is; shares and accuracies are between 0 and 1."""

    step: int
    steps: int
    epoch: float
    loss: float
    accuracy: float
    """Of the (augmented) training images since the last report."""
    images_per_second: float
    seconds_left: float
    validation_accuracy: float | None = None
    """Of the last validation in this session, if there was one."""


@dataclass
class TrainingRun:
    """What the loop works with: the settings, the data, the folder, the other processes, and the caller's ears."""

    recipe: Recipe
    batches: TrainingBatches
    validation: ImageSet
    folder: RunFolder
    precision: str
    on_progress: Callable[[TrainProgress], None]
    on_saved: Callable[[], None]
    """Called after each checkpoint."""
    stop_requested: Callable[[], bool]
    log: MetricsLog
    distributed: DistributedContext = field(default_factory=DistributedContext)
    on_validated: Callable[[int, float], None] = lambda step, top1: None
    """Called after each validation with the step and the accuracy, 0 to 1."""
    validation_accuracy: float | None = field(default=None, init=False)

    @property
    def steps(self) -> int:
        """Steps in the whole run."""
        return self.recipe.steps(len(self.batches.images))

    def epoch(self, step: int) -> float:
        """Passes over the data after `step` steps."""
        return step * self.recipe.batch_size / len(self.batches.images)


def train(state: TrainingState, run: TrainingRun) -> bool:
    """Go on from `state.step` to the end; False if it was stopped before, with everything saved.

    Raises:
        InputError: the loss is no number any more (names the last good checkpoint), or a batch doesn't fit into memory.
    """
    learner = GradientAccumulator(state.model, run.recipe, run.distributed, loss_class_weights(run), state.teacher)
    with torch.random.fork_rng(), learner.checkpointing():
        window = StepMeter(run)
        while state.step < run.steps:
            if run.distributed.any(run.stop_requested()):
                window.report(state)
                save_checkpoint(state, run)
                return False
            with batch_size_hint(run):
                window.add(training_step(state, run, learner))
            if state.step % LOG_EVERY_STEPS == 0 or state.step == run.steps:
                window.report(state)
            if validation_is_due(state.step, run):
                window.pause(validate, state, run)
                window.notify()
            if window.checkpoint_due() or state.step == run.steps:
                window.pause(save_checkpoint, state, run)
    return True


def batch_size_hint(run: TrainingRun) -> AbstractContextManager[None]:
    """The context that says what to change where a batch doesn't fit into memory."""
    recipe = run.recipe
    return out_of_memory_hint(
        f"a batch of {recipe.batch_size} images in {recipe.grad_accum_steps} part(s)",
        recipe,
        run.distributed.world_size,
    )


def loss_class_weights(run: TrainingRun) -> Tensor | None:
    """What each class counts in the loss, if the recipe weighs them."""
    if run.recipe.class_weights == "none":
        return None
    images = run.batches.images
    weights = class_weights(images.labels.bincount(minlength=len(images.class_names)))
    return weights.to(run.batches.device or images.labels.device)


def training_step(state: TrainingState, run: TrainingRun, learner: GradientAccumulator) -> tuple[Tensor, Tensor]:
    """One optimizer step; this process' part of the loss and of the images told right, still on the device."""
    state.model.train()
    images, labels = run.batches.batch(state.step)
    recipe = run.recipe
    images = resize_batch(state.step, run.steps, images, recipe.progressive_resizing, recipe.model.patch_size)
    result = learner.backward(images, labels, seed_for(run.recipe.seed, "model", state.step))
    if run.recipe.optimizer.clip_grad_norm is not None:
        torch.nn.utils.clip_grad_norm_(state.model.parameters(), run.recipe.optimizer.clip_grad_norm)
    share = lr_multiplier(state.step, run.steps, run.recipe.schedule)
    for optimizer in state.optimizers.values():
        for group in optimizer.param_groups:
            group["lr"] = group.setdefault("initial_lr", group["lr"]) * share
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    state.step += 1
    if state.ema is not None:
        state.ema.update(state.model, state.step)
    return result


class StepMeter:
    """What happened since the last report, and the clock, which stands still while the run validates or saves."""

    def __init__(self, run: TrainingRun) -> None:
        self.run, self.results = run, []
        self.started = self.saved = time.monotonic()
        self.steps_timed = 0
        self.rate = 0.0
        self.progress: TrainProgress | None = None

    def add(self, result: tuple[Tensor, Tensor]) -> None:
        """Take in one step's loss and number of right answers."""
        self.results.append(result)
        self.steps_timed += 1

    def report(self, state: TrainingState) -> None:
        """Write a line of metrics.jsonl about the steps since the last one, if there are any, and tell the caller."""
        if not self.results:
            return
        run, batch = self.run, self.run.recipe.batch_size
        total = run.distributed.all_reduce_sum
        loss = total(torch.stack([loss for loss, _ in self.results])).mean().item()
        top1 = total(torch.stack([right for _, right in self.results])).sum().item() / (batch * len(self.results))
        if not math.isfinite(loss):
            raise diverged_error(f"the loss is {loss}", state, run)
        self.rate = self.steps_timed * batch / (time.monotonic() - self.started)
        learning_rate = run.recipe.optimizer.learning_rate * lr_multiplier(
            state.step - 1, run.steps, run.recipe.schedule
        )
        rates = {"learning_rate": learning_rate, "images_per_second": self.rate}
        epoch = run.epoch(state.step)
        run.log.write(step=state.step, epoch=epoch, split="train", loss=loss, top1=top1, **rates)
        left = self.seconds_left(state.step)
        self.progress = TrainProgress(state.step, run.steps, epoch, loss, top1, self.rate, left)
        self.results = []
        self.notify()

    def notify(self) -> None:
        """Tell the caller how things stood at the last report, with the newest validation."""
        if self.progress is not None:
            self.run.on_progress(replace(self.progress, validation_accuracy=self.run.validation_accuracy))

    def seconds_left(self, step: int) -> float:
        """How long the rest of the run takes, at the pace so far."""
        done, now, whole = (
            relative_cost(at, self.run.steps, self.run.recipe.progressive_resizing)
            for at in (step - self.steps_timed, step, self.run.steps)
        )
        return (time.monotonic() - self.started) * (whole - now) / (now - done)

    def checkpoint_due(self) -> bool:
        """Whether the last checkpoint is too long ago; only right after a report, when the loss is known to be good."""
        if self.results:
            return False
        due = time.monotonic() - self.saved > self.run.recipe.checkpoint_seconds
        return self.run.distributed.any(due and self.run.distributed.is_rank0)

    def pause(
        self, action: Callable[[TrainingState, TrainingRun], None], state: TrainingState, run: TrainingRun
    ) -> None:
        """Do something that doesn't count as training time."""
        before = time.monotonic()
        action(state, run)
        after = time.monotonic()
        self.started += after - before
        self.saved = after if action is save_checkpoint else self.saved


def validation_is_due(step: int, run: TrainingRun) -> bool:
    """Whether a validation falls on this step: each time a round number of epochs is full, and at the end."""
    if len(run.validation) == 0:
        return False
    every = run.recipe.validate_every_epochs
    return step == run.steps or int(run.epoch(step) / every) > int(run.epoch(step - 1) / every)


def validate(state: TrainingState, run: TrainingRun) -> None:
    """Score the validation images and write a line of metrics.jsonl.

    Raises:
        InputError: the loss is no number any more, or so many images don't fit into memory.
    """
    what = f"a part of {validation_batch_size(run.validation, run.recipe)} validation images"
    with out_of_memory_hint(what, run.recipe, run.distributed.world_size, gradients=False):
        logits = validation_logits(state.best_model, run.validation, run)
    scores = compute_metrics(logits, run.validation.labels.cpu(), run.validation.class_names)
    if not math.isfinite(scores.loss):
        raise diverged_error(f"the validation loss is {scores.loss}", state, run)
    run.validation_accuracy = scores.top1
    run.log.write(step=state.step, epoch=run.epoch(state.step), split="validation", loss=scores.loss, top1=scores.top1)
    run.on_validated(state.step, scores.top1)


def validation_logits(model: nn.Module, images: ImageSet, run: TrainingRun) -> Tensor:
    """The logits (count, classes) of images, of which each process computes a part, on the processor.

    Where weights are spread, each computes all: gathering them takes all processes at once.
    """
    if is_sharded(model) or len(images) < run.distributed.world_size:
        return _forward_all(model, images, run)
    part = run.distributed.shard(len(images))
    mine = replace(images, images_u8=images.images_u8[part], labels=images.labels[part], boxes=None, masks=None)
    answered = _forward_all(model, mine, run)
    return torch.cat(run.distributed.all_gather(answered))


@torch.no_grad()
def _forward_all(model: nn.Module, images: ImageSet, run: TrainingRun) -> Tensor:
    """The logits (count, classes), float32 on the processor; the model is left in the mode it was in."""
    training = model.training
    model.eval()
    logits = []
    device = next(model.parameters()).device
    for inputs, _ in sequential_batches(images, validation_batch_size(images, run.recipe), run.batches.normalize):
        with autocast(device, run.precision):
            logits.append(model(inputs.to(device)).float())
    model.train(training)
    return torch.cat(logits).cpu()


def validation_batch_size(images: ImageSet, recipe: Recipe) -> int:
    """How many validation images go through the model together: fewer where batches are cut into parts too."""
    return max(1, inference_batch_size(images) // recipe.grad_accum_steps)


def save_checkpoint(state: TrainingState, run: TrainingRun) -> None:
    """Save the weights as they are now, for evaluate and explain, and then the checkpoint.

    In this order a kill in between costs nothing: the run goes on from the older checkpoint and writes them again.

    Raises:
        InputError: a weight is no number any more; nothing is written.
    """
    if run.distributed.any(not is_finite(state)):
        raise diverged_error("the last step left weights that are no numbers", state, run)
    saved = make_checkpoint(state, kept=run.distributed.is_rank0)
    run.distributed.broadcast_from_rank0(lambda: _write_files(saved, run))


def _write_files(saved: Checkpoint, run: TrainingRun) -> None:
    """Write weights and checkpoint, and tell the caller."""
    write_tensors(saved.weights, run.folder.path / WEIGHTS)
    write_checkpoint(saved, run.folder.checkpoint)
    run.on_saved()


def diverged_error(what: str, state: TrainingState, run: TrainingRun) -> InputError:
    """The error for a run that has diverged."""
    checkpoint = run.folder.checkpoint
    kept = f"the last good checkpoint is {checkpoint}, " if checkpoint.exists() else ""
    return InputError(
        f"{what} at step {state.step}: {kept}start again, in another --out, with a lower "
        "optimizer.learning_rate or with optimizer.clip_norm=1"
    )
