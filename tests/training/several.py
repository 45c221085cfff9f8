"""A process of a run of several, as torchrun starts it: several.py PICTURES OUT CHANGES-AS-JSON [CALAMITY].

A calamity is a Python expression that is evaluated with `step` and `rank` before each step.
"""

import json
import os
import signal
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

from runs import tiny_recipe

from vitreous.errors import InputError
from vitreous.records import override
from vitreous.training.run_folder import RunFolder
from vitreous.workflows.train import Listener, train


def torchrun(
    pictures: Path, out: Path, processes: int = 2, calamity: str = "", options: tuple[str, ...] = (), **changes: str
) -> subprocess.Popen:
    """Start a run of the tiny recipe on so many processes; it goes on where there is one already."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    environment["PYTHONPATH"] = str(Path(__file__).parent)
    launch = [sys.executable, "-m", "torch.distributed.run", *(options or (f"--nproc-per-node={processes}",))]
    command = [*launch, __file__, str(pictures), str(out), json.dumps(changes), calamity]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def main(pictures: str, out: str, changes: str, calamity: str) -> int:
    rank = int(os.environ["RANK"])
    resume = RunFolder(Path(out)).recipe.exists()
    recipe = override(tiny_recipe(Path(pictures), precision="fp32"), json.loads(changes))
    steps = iter(range(10**6))

    def stop() -> bool:
        names = {"step": next(steps), "rank": rank, "os": os, "signal": signal, "fail": fail}
        return bool(calamity and eval(calamity, names))

    listener = Listener(lambda text: sys.stderr.write(f"note: {text}\n"), stoppable=lambda: nullcontext(stop))
    try:
        result = train(recipe, out, resume=resume, listener=listener)
    except InputError as error:
        sys.stderr.write(f"vitreous: {error}\n")
        return 2
    return 0 if result.finished else 130


def fail(error: Exception) -> None:
    raise error


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
