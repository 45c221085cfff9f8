"""A process of a run of several, as torchrun starts it: several.py IMAGES OUT CHANGES-AS-JSON [CALAMITY].

A calamity is an expression that is evaluated before each step, with its `step` and the process' `rank`; true stops the
run in good order.
"""

import json
import os
import sys
from contextlib import nullcontext
from pathlib import Path

from runs import tiny_recipe

from vitreous.errors import InputError
from vitreous.records import override
from vitreous.runs.run_folder import RunFolder
from vitreous.runtime import restart_count
from vitreous.workflows.train import Listener, train


def several_command(images: Path, out: Path, options: tuple[str, ...], calamity: str, **changes: str) -> list[str]:
    """The command line that starts a run of the tiny recipe by torchrun, or goes on where there is one already."""
    launch = [sys.executable, "-m", "torch.distributed.run", *options]
    return [*launch, __file__, str(images), str(out), json.dumps(changes), calamity]


def several_environment(resume: str = "if begun") -> dict[str, str]:
    """The environment for it: one thread a process, this folder to import from, and whether to resume: yes or no."""
    quiet = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    return {**os.environ, **quiet, "PYTHONPATH": str(Path(__file__).parent), "RESUME": resume}


def losses_listener(into: list[float], **options) -> Listener:
    """Whoever notes each reported loss."""
    return Listener(progress=lambda at: into.append(at.loss), **options)


def main(images: str, out: str, changes: str, calamity: str) -> int:
    rank, losses, steps = int(os.environ["RANK"]), [], iter(range(10**6))
    recipe = override(tiny_recipe(Path(images), precision="fp32"), json.loads(changes))

    def stop() -> bool:
        return bool(calamity and eval(calamity, {"step": next(steps), "rank": rank, "os": os, "fail": fail}))

    listener = losses_listener(losses, stoppable=lambda: nullcontext(stop))
    try:
        begun = RunFolder(Path(out)).recipe.exists() and restart_count() == 0
        resume = {"yes": True, "no": False}.get(os.environ["RESUME"], begun)
        train(recipe, out, data=os.environ.get("IMAGES"), resume=resume, listener=listener)
    except InputError as error:
        sys.stderr.write(f"vitreous: {error}\n")
        return 2
    if rank == 0:
        sys.stdout.write(json.dumps(losses) + "\n")
    return 0


def fail(error: Exception) -> None:
    raise error


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
