"""vitreous train"""

import shlex
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from vitreous.cli import EXIT_INTERRUPTED
from vitreous.cli.console import clock, note, progress, say, stop_on_interrupt
from vitreous.errors import InputError

if TYPE_CHECKING:
    from vitreous.training.loop import TrainProgress


def train(
    recipe: str,
    /,
    *,
    out: Path | None = None,
    data: str | None = None,
    skip_unreadable: Annotated[bool, Parameter(negative="")] = False,
    resume: Annotated[bool, Parameter(negative="")] = False,
    accept_changed_data: Annotated[bool, Parameter(negative="")] = False,
    settings: Annotated[list[str] | None, Parameter(name="--set", negative="")] = None,
    device: str = "auto",
) -> int:
    """Train a model by a recipe: cifar10-quick, cifar10-70, cifar10-20, cifar10-20-stem, mnist, shapes, or tutorial.

    On several GPUs or hosts, start it by torchrun: torchrun --nproc-per-node=2 -m vitreous train RECIPE
    (docs/distributed.md).

    Args:
        recipe: Name of a recipe.
        out: Run folder to make; runs/RECIPE by default.
        data: Images in place of the recipe's: cifar10, cifar100, mnist, shapes, folder:DIR, parquet:DIR or
            hf:OWNER/NAME. With --resume, where the run's images are now, if they were moved.
        skip_unreadable: Leave out images that can't be read, and list them, in place of refusing the data.
        resume: Go on with the run in --out, to the same bits as if it had never stopped.
        accept_changed_data: With --resume, go on although the images are others than at the start.
        settings: Change a setting: --set epochs=20 --set optimizer.learning_rate=1e-3. With --resume only accumulate,
            checkpoint_activations, shard_weights, checkpoint_seconds and tensorboard.
        device: auto, cpu or cuda.
    """
    from vitreous.runtime import rank
    from vitreous.workflows.train import Listener
    from vitreous.workflows.train import train as run

    first = rank() == 0
    with progress("training") if first else nullcontext(lambda *_: None) as display:
        listener = Listener(note, lambda at: display(at.step, at.steps, training_words(at)), stop_on_interrupt)
        chosen = parse_settings(settings or []) | ({"skip_unreadable": "true"} if skip_unreadable else {})
        result = run(
            recipe, out, data=data, settings=chosen, resume=resume, accept_changed_data=accept_changed_data,
            device=device, listener=listener,
        )  # fmt: skip
    if not first:
        return 0 if result.finished else EXIT_INTERRUPTED
    if not result.finished:
        say(f"stopped after step {result.step} of {result.steps}; go on with:")
        say(f"  vitreous train {recipe} --out {shlex.quote(str(result.path))} --resume")
        return EXIT_INTERRUPTED
    if result.validation_top1 is not None:
        say(f"validation top-1 {result.validation_top1:.2%}")
    say(f"{result.path}: model.safetensors, metrics.jsonl, figures/curves.png")
    say(f"next: vitreous evaluate {result.path}")
    return 0


def parse_settings(texts: list[str]) -> dict[str, str]:
    """Settings given as NAME=VALUE.

    Raises:
        InputError: a text has another form.
    """
    for text in texts:
        if "=" not in text:
            raise InputError(f"--set {text}: write it as NAME=VALUE, such as --set epochs=20")
    return dict(text.split("=", 1) for text in texts)


def training_words(at: "TrainProgress") -> str:
    """Where a run is, in words."""
    validation = "" if at.validation_accuracy is None else f" · validation {at.validation_accuracy:.1%}"
    rates = f"{at.images_per_second:,.0f} images/s · {clock(at.seconds_left)} left"
    return f"epoch {at.epoch:.2f} · loss {at.loss:.3f} · top-1 {at.accuracy:.1%}{validation} · {rates}"
