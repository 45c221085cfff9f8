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
from vitreous.data.loader import TrainingBatches, at_once, plain_batches
from vitreous.errors import InputError
from vitreous.evaluation.classification import score
from vitreous.model.serialization import WEIGHTS, write_tensors
from vitreous.runs.metrics_log import MetricsLog
from vitreous.runs.run_folder import RunFolder
from vitreous.runtime import autocast, seed_for
from vitreous.training.accumulation import Learner, memory_advice
from vitreous.training.checkpoint import Saved, TrainingState, is_finite, save_state, to_save
from vitreous.training.distributed import Processes
from vitreous.training.optimizer import factor
from vitreous.training.progressive_resizing import shown_at, work
from vitreous.training.recipe import Recipe
from vitreous.training.sharding import is_sharded

LOG_EVERY_STEPS = 10


@dataclass(frozen=True)
class Progress:
    """Where a run is; shares and accuracies are between 0 and 1."""

    step: int
    steps: int
    epoch: float
    loss: float
    top1: float
    """Of the (augmented) training images since the last report."""
    images_per_second: float
    seconds_left: float
    validation_top1: float | None = None
    """Of the last validation in this session, if there was one."""


@dataclass
class Run:
    """What the loop works with: the settings, the data, the folder, the other processes, and the caller's ears."""

    recipe: Recipe
    batches: TrainingBatches
    validation: ImageSet
    folder: RunFolder
    precision: str
    on_progress: Callable[[Progress], None]
    on_saved: Callable[[], None]
    """Called after each checkpoint."""
    stop_requested: Callable[[], bool]
    log: MetricsLog
    processes: Processes = field(default_factory=Processes)
    on_validated: Callable[[int, float], None] = lambda step, top1: None
    """Called after each validation with the step and the accuracy, 0 to 1."""
    validation_top1: float | None = field(default=None, init=False)

    @property
    def steps(self) -> int:
        """Steps in the whole run."""
        return self.recipe.steps(len(self.batches.images))

    def epoch(self, step: int) -> float:
        """Passes over the data after `step` steps."""
        return step * self.recipe.batch_size / len(self.batches.images)


def train(state: TrainingState, run: Run) -> bool:
    """Go on from `state.step` to the end; False if it was stopped before, with everything saved.

    Raises:
        InputError: the loss is no number any more (names the last good checkpoint), or a batch doesn't fit into memory.
    """
    learner = Learner(state.model, run.recipe, run.processes, weights_of(run), state.teacher)
    with torch.random.fork_rng(), learner.checkpointing():
        window = Window(run)
        while state.step < run.steps:
            if run.processes.any(run.stop_requested()):
                window.report(state)
                keep(state, run)
                return False
            with advice_on_batches(run):
                window.add(training_step(state, run, learner))
            if state.step % LOG_EVERY_STEPS == 0 or state.step == run.steps:
                window.report(state)
            if is_due(state.step, run):
                window.pause(validate, state, run)
                window.tell()
            if window.checkpoint_due() or state.step == run.steps:
                window.pause(keep, state, run)
    return True


def advice_on_batches(run: Run) -> AbstractContextManager[None]:
    """The context that says what to change where a batch doesn't fit into memory."""
    recipe = run.recipe
    return memory_advice(
        f"a batch of {recipe.batch_size} images in {recipe.accumulate} part(s)", recipe, run.processes.count
    )


def weights_of(run: Run) -> Tensor | None:
    """What each class counts in the loss, if the recipe weighs them."""
    if run.recipe.class_weights == "none":
        return None
    images = run.batches.images
    weights = class_weights(images.labels.bincount(minlength=len(images.class_names)))
    return weights.to(run.batches.device or images.labels.device)


def training_step(state: TrainingState, run: Run, learner: Learner) -> tuple[Tensor, Tensor]:
    """One optimizer step; this process' part of the loss and of the images told right, still on the device."""
    state.model.train()
    images, labels = run.batches.batch(state.step)
    recipe = run.recipe
    images = shown_at(state.step, run.steps, images, recipe.resolution, recipe.model.patch_size)
    result = learner.gradients(images, labels, seed_for(run.recipe.seed, "model", state.step))
    if run.recipe.optimizer.clip_norm is not None:
        torch.nn.utils.clip_grad_norm_(state.model.parameters(), run.recipe.optimizer.clip_norm)
    share = factor(state.step, run.steps, run.recipe.schedule)
    for optimizer in state.optimizers.values():
        for group in optimizer.param_groups:
            group["lr"] = group.setdefault("initial_lr", group["lr"]) * share
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    state.step += 1
    if state.average is not None:
        state.average.update(state.model, state.step)
    return result


class Window:
    """What happened since the last report, and the clock, which stands still while the run validates or saves."""

    def __init__(self, run: Run) -> None:
        self.run, self.results = run, []
        self.started = self.saved = time.monotonic()
        self.steps_timed = 0
        self.rate = 0.0
        self.progress: Progress | None = None

    def add(self, result: tuple[Tensor, Tensor]) -> None:
        """Take in one step's loss and number of right answers."""
        self.results.append(result)
        self.steps_timed += 1

    def report(self, state: TrainingState) -> None:
        """Write a line of metrics.jsonl about the steps since the last one, if there are any, and tell the caller."""
        if not self.results:
            return
        run, batch = self.run, self.run.recipe.batch_size
        total = run.processes.total
        loss = total(torch.stack([loss for loss, _ in self.results])).mean().item()
        top1 = total(torch.stack([right for _, right in self.results])).sum().item() / (batch * len(self.results))
        if not math.isfinite(loss):
            raise no_number(f"the loss is {loss}", state, run)
        self.rate = self.steps_timed * batch / (time.monotonic() - self.started)
        learning_rate = run.recipe.optimizer.learning_rate * factor(state.step - 1, run.steps, run.recipe.schedule)
        rates = {"learning_rate": learning_rate, "images_per_second": self.rate}
        epoch = run.epoch(state.step)
        run.log.write(step=state.step, epoch=epoch, split="train", loss=loss, top1=top1, **rates)
        left = self.seconds_left(state.step)
        self.progress = Progress(state.step, run.steps, epoch, loss, top1, self.rate, left)
        self.results = []
        self.tell()

    def tell(self) -> None:
        """Tell the caller how things stood at the last report, with the newest validation."""
        if self.progress is not None:
            self.run.on_progress(replace(self.progress, validation_top1=self.run.validation_top1))

    def seconds_left(self, step: int) -> float:
        """How long the rest of the run takes, at the pace so far."""
        done, now, whole = (
            work(at, self.run.steps, self.run.recipe.resolution)
            for at in (step - self.steps_timed, step, self.run.steps)
        )
        return (time.monotonic() - self.started) * (whole - now) / (now - done)

    def checkpoint_due(self) -> bool:
        """Whether the last checkpoint is too long ago; only right after a report, when the loss is known to be good."""
        if self.results:
            return False
        due = time.monotonic() - self.saved > self.run.recipe.checkpoint_seconds
        return self.run.processes.any(due and self.run.processes.is_first)

    def pause(self, action: Callable[[TrainingState, Run], None], state: TrainingState, run: Run) -> None:
        """Do something that doesn't count as training time."""
        before = time.monotonic()
        action(state, run)
        after = time.monotonic()
        self.started += after - before
        self.saved = after if action is keep else self.saved


def is_due(step: int, run: Run) -> bool:
    """Whether a validation falls on this step: each time a round number of epochs is full, and at the end."""
    if len(run.validation) == 0:
        return False
    every = run.recipe.validate_every_epochs
    return step == run.steps or int(run.epoch(step) / every) > int(run.epoch(step - 1) / every)


def validate(state: TrainingState, run: Run) -> None:
    """Score the validation images and write a line of metrics.jsonl.

    Raises:
        InputError: the loss is no number any more, or so many images don't fit into memory.
    """
    what = f"a part of {validated_at_once(run.validation, run.recipe)} validation images"
    with memory_advice(what, run.recipe, run.processes.count, gradients=False):
        logits = logits_of(state.best_model, run.validation, run)
    scores = score(logits, run.validation.labels.cpu(), run.validation.class_names)
    if not math.isfinite(scores.loss):
        raise no_number(f"the validation loss is {scores.loss}", state, run)
    run.validation_top1 = scores.top1
    run.log.write(step=state.step, epoch=run.epoch(state.step), split="validation", loss=scores.loss, top1=scores.top1)
    run.on_validated(state.step, scores.top1)


def logits_of(model: nn.Module, images: ImageSet, run: Run) -> Tensor:
    """The logits (count, classes) of images, of which each process computes a part, on the processor.

    Where weights are spread, each computes all: gathering them takes all processes at once.
    """
    if is_sharded(model) or len(images) < run.processes.count:
        return predict(model, images, run)
    part = run.processes.share(len(images))
    mine = replace(images, images_u8=images.images_u8[part], labels=images.labels[part], boxes=None, masks=None)
    answered = predict(model, mine, run)
    return torch.cat(run.processes.all_of(answered))


@torch.no_grad()
def predict(model: nn.Module, images: ImageSet, run: Run) -> Tensor:
    """The logits (count, classes), float32 on the processor; the model is left in the mode it was in."""
    training = model.training
    model.eval()
    logits = []
    device = next(model.parameters()).device
    for inputs, _ in plain_batches(images, validated_at_once(images, run.recipe), run.batches.normalize):
        with autocast(device, run.precision):
            logits.append(model(inputs.to(device)).float())
    model.train(training)
    return torch.cat(logits).cpu()


def validated_at_once(images: ImageSet, recipe: Recipe) -> int:
    """How many validation images go through the model together: fewer where batches are cut into parts too."""
    return max(1, at_once(images) // recipe.accumulate)


def keep(state: TrainingState, run: Run) -> None:
    """Save the weights as they are now, for evaluate and explain, and then the checkpoint.

    In this order a kill in between costs nothing: the run goes on from the older checkpoint and writes them again.

    Raises:
        InputError: a weight is no number any more; nothing is written.
    """
    if run.processes.any(not is_finite(state)):
        raise no_number("the last step left weights that are no numbers", state, run)
    saved = to_save(state, kept=run.processes.is_first)
    run.processes.from_first(lambda: write(saved, run))


def write(saved: Saved, run: Run) -> None:
    """Write weights and checkpoint, and tell the caller."""
    write_tensors(saved.weights, run.folder.path / WEIGHTS)
    save_state(saved, run.folder.checkpoint)
    run.on_saved()


def no_number(what: str, state: TrainingState, run: Run) -> InputError:
    """The error for a run that has diverged."""
    checkpoint = run.folder.checkpoint
    kept = f"the last good checkpoint is {checkpoint}, " if checkpoint.exists() else ""
    return InputError(
        f"{what} at step {state.step}: {kept}start again, in another --out, with a lower "
        "optimizer.learning_rate or with optimizer.clip_norm=1"
    )
