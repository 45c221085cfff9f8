"""vitreous train"""

import shlex
from collections.abc import Callable, Generator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from vitreous.callbacks import Progress
from vitreous.cli import EXIT_INTERRUPTED
from vitreous.cli.console import ConsoleCallback, Update, print_line, progress_on, stop_on_interrupt
from vitreous.cli.flags import DeviceName, Flag, OutputFile
from vitreous.errors import InputError


def train(
    recipe: str | None = None,
    /,
    *,
    output: OutputFile = None,
    data: str | None = None,
    init: str | None = None,
    epochs: float | None = None,
    batch_size: int | None = None,
    learning_rate: float | None = None,
    seed: int | None = None,
    settings: Annotated[list[str] | None, Parameter(name="--set", negative="")] = None,
    help_settings: Flag = False,
    skip_unreadable: Flag = False,
    resume: Flag = False,
    accept_changed_data: Flag = False,
    device: DeviceName = "auto",
) -> int:
    """Train a model by a recipe, or resume a run.

    vitreous train --help-settings lists all settings that --set can change, with their values in the recipe. On several
    GPUs or hosts, start it with torchrun: torchrun --nproc-per-node=2 -m vitreous train RECIPE (docs/distributed.md).

    Args:
        recipe: Name of a recipe: cifar10-70, cifar10-quick, cifar10-20, cifar10-20-stem, finetune, mnist, shapes or
            tutorial.
        output: Run folder to create; runs/RECIPE by default.
        data: Dataset to train on, in place of the recipe's: cifar10, cifar100, mnist, shapes, folder:DIR, parquet:DIR
            or hf:OWNER/NAME. With --resume: the new place of the run's dataset, if it was moved.
        init: Model to start from, in place of random weights: a run folder, a weights file, timm:NAME,
            dinov2:vits14 ... (whatever the other verbs take as MODEL). Its head is new unless the classes are the same.
        epochs: Number of epochs, in place of the recipe's.
        batch_size: Number of images in a batch, over all processes, in place of the recipe's.
        learning_rate: Peak learning rate, in place of the recipe's.
        seed: Seed of all random numbers, in place of the recipe's.
        settings: Change any setting: --set model.depth=6 --set model.image_size=64. With --resume only
            grad_accum_steps, grad_checkpointing, fsdp, checkpoint_seconds, tensorboard, keep_maps and report.
        help_settings: List all settings with their types, values (those of --set, else the recipe's) and meanings, and
            train nothing.
        skip_unreadable: Skip images that can't be read, and list them, instead of refusing the data.
        resume: Continue the run in --output; the result is bit-identical to an uninterrupted run.
        accept_changed_data: With --resume, continue although the images are not the same as at the start.
    """
    changes = parse_settings(settings or []) | ({"skip_unreadable": "true"} if skip_unreadable else {})
    if help_settings:
        return print_settings(recipe, changes | ({} if init is None else {"init": init}))
    from vitreous.runtime import rank
    from vitreous.training_recipes import RECIPES
    from vitreous.workflows.train import train as run

    if recipe is None:
        raise InputError(f"no recipe is named: choose one of {', '.join(RECIPES)}")
    with train_display(quiet=rank() > 0) as display:
        result = run(
            recipe, output, data=data, init=init, epochs=epochs, batch_size=batch_size, learning_rate=learning_rate,
            seed=seed, settings=changes, resume=resume, accept_changed_data=accept_changed_data, device=device,
            callback=display,
        )  # fmt: skip
    if rank() > 0:
        return 0 if result.finished else EXIT_INTERRUPTED
    if not result.finished:
        print_line(f"stopped after step {result.step} of {result.steps}; resume with:")
        print_line(f"  vitreous train {recipe} --output {shlex.quote(str(result.path))} --resume")
        return EXIT_INTERRUPTED
    if result.validation_score is not None:
        print_line(f"validation {result.metric.label} {result.metric.format(result.validation_score, 2)}")
    print_line(f"{result.path}: {', '.join(present_files(result.path))}")
    folder = shlex.quote(str(result.path))
    print_line(f"next: vitreous evaluate {folder}, vitreous report {folder}")
    return 0


def present_files(path: Path) -> list[str]:
    """Return the names of the files of a run that a person would open, as far as they are there."""
    from vitreous.model.serialization import WEIGHTS
    from vitreous.runs.run_folder import RunFolder

    folder = RunFolder(path)
    files = (folder.path / WEIGHTS, folder.lora, folder.metrics, folder.curves, folder.report)
    return [str(file.relative_to(folder.path)) for file in files if file.is_file()]


def print_settings(recipe: str | None, changes: dict[str, str]) -> int:
    """Print every setting of a recipe with the user's changes, or of cifar10-quick, as an example."""
    from vitreous.cli.train_settings import settings_lines
    from vitreous.training.from_weights import FREE_MODEL_SETTINGS, check_model_settings
    from vitreous.training.recipe import with_settings
    from vitreous.training_recipes import find_recipe
    from vitreous.training_recipes.finetune import suited_settings

    chosen = find_recipe(recipe or "cifar10-quick")
    from_weights = chosen.name == "finetune" or bool(changes.get("init"))
    if from_weights:
        check_model_settings(changes)
    known = with_settings(chosen, suited_settings(chosen, changes))
    free = FREE_MODEL_SETTINGS if from_weights else None
    for line in settings_lines(known, is_named=recipe is not None, of_model=free, changed=changes):
        print_line(line)
    return 0


def parse_settings(texts: list[str]) -> dict[str, str]:
    """Split settings given as NAME=VALUE.

    Raises:
        InputError: a text has another form.
    """
    for text in texts:
        if "=" not in text:
            raise InputError(f"--set {text}: write it as NAME=VALUE, such as --set model.depth=6")
    return dict(text.split("=", 1) for text in texts)


class TrainDisplay(ConsoleCallback):
    """Shows notes and progress on the terminal, and stops the run on Ctrl-C."""

    def __init__(self, update: Update | None, interrupted: Callable[[], bool]) -> None:
        super().__init__(update)
        self.interrupted = interrupted

    def on_progress(self, progress: Progress) -> None:
        """Show the progress of the training steps."""
        from vitreous.training.loop import TrainProgress

        if self._update is not None and isinstance(progress, TrainProgress):
            self._update(progress.done, progress.total, str(progress))

    def should_stop(self) -> bool:
        """Whether Ctrl-C was pressed."""
        return self.interrupted()


@contextmanager
def train_display(*, quiet: bool = False) -> Generator[TrainDisplay]:
    """Yield the callback for a training run; a quiet one has no progress bar."""
    from vitreous.runtime import world_size
    from vitreous.signals import interrupt_on_termination

    alone = world_size() == 1  # torchrun ends those whose peer has died, which may be waiting for it
    with interrupt_on_termination() if alone else nullcontext(), stop_on_interrupt() as interrupted:
        if quiet:
            yield TrainDisplay(None, interrupted)
        else:
            with progress_on("training", partial(TrainDisplay, interrupted=interrupted)) as display:
                yield display
