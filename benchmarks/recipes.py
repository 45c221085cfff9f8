"""Recipes as a user runs them: wall time and test accuracy, a seed at a time, and the ratio to a baseline's time.

Commands: VITREOUS_DATA=... python benchmarks/recipes.py cifar10-quick            (three seeds)
          VITREOUS_DATA=... python benchmarks/recipes.py cifar10-70 --baseline tutorial
Setting:  --set NAME=VALUE, as of `vitreous train`. --keep DIR keeps the run folders in DIR/RECIPE-SEED.

The baseline is the recipe `tutorial`, after the from-scratch tutorial that is copied most: 59.3 % recorded, 20 epochs.
It is run once, in the same run on the same machine, before the seeds.
Times are from the command's start to its end: Python, reading the data, validations and checkpoints included.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import mean, stdev

from vitreous.workflows.evaluate import evaluate


def timed_run(recipe: str, seed: int, folder: Path, settings: list[str]) -> tuple[float, float]:
    """Train in a process of its own, as a user would; wall time in seconds, and top-1 on the test images."""
    changes = [word for setting in [f"seed={seed}", *settings] for word in ("--set", setting)]
    command = [sys.executable, "-m", "vitreous", "train", recipe, "--out", str(folder), *changes]
    started = time.monotonic()
    subprocess.run(command, check=True, capture_output=True)
    return time.monotonic() - started, evaluate(folder).top1


def spread(values: list[float], form: str) -> str:
    """Mean and standard deviation, or the one value there is."""
    deviation = f" ± {stdev(values):{form}}" if len(values) > 1 else ""
    return f"{mean(values):{form}}{deviation} (n = {len(values)})"


def main() -> None:
    """Run the recipe that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--set", action="append", default=[], dest="settings")
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--baseline", help="a recipe to run once as well, and to give the time as a share of")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        kept = chosen.keep or Path(temporary)
        if chosen.baseline:
            baseline = timed_run(chosen.baseline, 0, kept / f"{chosen.baseline}-0", [])
            print(f"baseline {chosen.baseline}: {baseline[0]:.0f} s, test top-1 {baseline[1]:.2%}", flush=True)
        results = []
        for seed in range(chosen.seeds):
            results.append(timed_run(chosen.recipe, seed, kept / f"{chosen.recipe}-{seed}", chosen.settings))
            print(f"seed {seed}: {results[-1][0]:.0f} s, test top-1 {results[-1][1]:.2%}", flush=True)
    times, scores = (list(column) for column in zip(*results, strict=True))
    print(f"{chosen.recipe}: {spread(times, '.0f')} s, test top-1 {spread(scores, '.2%')}")
    if chosen.baseline:
        print(f"the time is 1/{baseline[0] / mean(times):.1f} of {chosen.baseline}'s")


if __name__ == "__main__":
    main()
