"""Training runs of a planned length, as commands in processes of their own, and what they get right.

"Ten minutes in all" are 1,200 seconds of CPU time: ten minutes of two cores that have nothing else to do. Wall time
depends on what else runs. Two short runs measure what a step costs, and what a run costs without its steps: starting
Python, reading the images (from the decoding cache), the last validation, the checkpoint. The number of steps follows,
and with it the learning rate's schedule. Both times of each run are printed.
"""

import resource
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vitreous.diagnostics.evaluation_set import open_evaluation_set
from vitreous.diagnostics.predictions import predict_all
from vitreous.evaluation.intervals import bootstrap_means, percentile_intervals

CORES = 2
SHORT, LONG = 10, 40
"""Steps of the two runs that are measured first."""
SETTINGS = ("checkpoint_seconds=3600", "validate_every_epochs=1000", "report=false")
"""One validation and one checkpoint, at the end, and no page on the run, which would measure the model."""


@dataclass(frozen=True)
class Command:
    """A recipe of `vitreous train`, the model to start from, if any, and settings."""

    recipe: str
    settings: Sequence[str] = ()
    init: str = ""

    def arguments(self, data: Path, output: Path, extra: Iterable[str]) -> list[str]:
        """Return the arguments of the command line."""
        start = ["--init", self.init] if self.init else []
        changes = [part for setting in [*self.settings, *extra] for part in ("--set", setting)]
        return ["train", self.recipe, "--data", f"folder:{data}", "--output", str(output), *start, *changes]

    def __str__(self) -> str:
        start = f" --init {self.init}" if self.init else ""
        return f"vitreous train {self.recipe}{start}{''.join(f' --set {setting}' for setting in self.settings)}"


@dataclass(frozen=True)
class Tested:
    """A trained model on the test images, and the time of its training.

    Attributes:
        correct: bool (images).
        note: the line that says which part of the weights was trained.
    """

    correct: np.ndarray
    wall_seconds: float
    cpu_seconds: float
    note: str

    @property
    def accuracy(self) -> float:
        """Top-1."""
        return float(self.correct.mean())

    def __str__(self) -> str:
        times = f" ({self.wall_seconds:.0f} s, {self.cpu_seconds:.0f} s of CPU time)" if self.cpu_seconds else ""
        return f"{self.accuracy:.2%}{times}"


def run_command(command: Command, data: Path, output: Path, extra: Iterable[str] = ()) -> Tested:
    """Train in a process of its own, as a user would, and test the model."""
    arguments = [sys.executable, "-m", "vitreous", *command.arguments(data, output, extra)]
    before, started = cpu_seconds_of_children(), time.monotonic()
    finished = subprocess.run(arguments, check=True, capture_output=True, text=True)
    wall, cpu = time.monotonic() - started, cpu_seconds_of_children() - before
    note = next((line for line in finished.stderr.splitlines() if "images to train on" in line), "")
    opened = open_evaluation_set(str(output), None, "test", "cpu")
    return Tested(predict_all(opened.classifier, opened.images).correct, wall, cpu, note)


def cpu_seconds_of_children() -> float:
    """Return the CPU time of all processes that this one has waited for."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def length(steps: int) -> list[str]:
    """Return the settings of a run of so many steps."""
    return ["epochs=1e-6", f"min_steps={steps}", *SETTINGS]


def plan_steps(command: Command, data: Path, folder: Path, minutes: float) -> int:
    """Return how many steps fit into so many minutes of all cores, by two short runs."""
    name = command.recipe + str(abs(hash(command)))
    run_command(command, data, folder / f"{name}-first", length(2))  # decodes the images
    short, long = (
        run_command(command, data, folder / f"{name}-{steps}", length(steps)).cpu_seconds for steps in (SHORT, LONG)
    )
    step = (long - short) / (LONG - SHORT)
    steps = int((minutes * 60 * CORES - (short - SHORT * step)) / step)
    print(f"{command}: {step:.2f} s of CPU time a step, {short - SHORT * step:.0f} s for the rest; {steps:,} steps")
    return steps


def paired_difference(first: Sequence[Tested], second: Sequence[Tested]) -> tuple[float, float, float]:
    """Return the mean difference in accuracy on the same test images, and its bootstrap interval over images."""
    values = np.mean([one.correct.astype(float) - other.correct for one, other in zip(first, second, strict=True)], 0)
    ((low, high),) = percentile_intervals(bootstrap_means(values[:, None]))
    return float(values.mean()), low, high
