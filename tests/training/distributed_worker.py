"""One process of a distributed run, as torchrun starts it: distributed_worker.py IMAGES OUTPUT SETTINGS [FAULT].

The settings are JSON. A fault is an expression that is evaluated before each step, with its `step` and the `rank` of
the process. If it is true, the run stops in good order.
"""

import json
import os
import sys
from pathlib import Path

from tiny_run import RecordingCallback, tiny_recipe

from vitreous.errors import InputError
from vitreous.records import override
from vitreous.runs.run_folder import RunFolder
from vitreous.runtime import restart_count
from vitreous.workflows.train import train


def torchrun_command(images: Path, output: Path, options: tuple[str, ...], fault: str, **settings: str) -> list[str]:
    """Return the command that starts a run of the tiny recipe with torchrun, or resumes the one that is there."""
    launch = [sys.executable, "-m", "torch.distributed.run", *options]
    return [*launch, __file__, str(images), str(output), json.dumps(settings), fault]


def torchrun_environment(resume: str = "if started") -> dict[str, str]:
    """Return its environment: one thread a process, this folder to import from, and whether to resume: yes or no."""
    quiet = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    return {**os.environ, **quiet, "PYTHONPATH": str(Path(__file__).parent), "RESUME": resume}


class FaultyCallback(RecordingCallback):
    """Evaluates the fault before each step."""

    def __init__(self, fault: str, rank: int) -> None:
        super().__init__()
        self.fault, self.rank, self.steps = fault, rank, iter(range(10**6))

    def should_stop(self) -> bool:
        """Whether the fault is true."""
        names = {"step": next(self.steps), "rank": self.rank, "os": os, "fail": fail}
        return bool(self.fault and eval(self.fault, names))


def main(images: str, output: str, settings: str, fault: str) -> int:
    """Train, and print the losses on rank 0."""
    rank = int(os.environ["RANK"])
    recipe = override(tiny_recipe(Path(images), precision="fp32"), json.loads(settings))
    callback = FaultyCallback(fault, rank)
    try:
        started = RunFolder(Path(output)).recipe.exists() and restart_count() == 0
        resume = {"yes": True, "no": False}.get(os.environ["RESUME"], started)
        train(recipe, output, data=os.environ.get("IMAGES"), resume=resume, callback=callback)
    except InputError as error:
        sys.stderr.write(f"vitreous: {error}\n")
        return 2
    if rank == 0:
        sys.stdout.write(json.dumps(callback.losses) + "\n")
    return 0


def fail(error: Exception) -> None:
    """Raise an error."""
    raise error


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
