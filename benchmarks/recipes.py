"""Recipes as a user runs them: wall time and test accuracy, a seed at a time, and the time to an accuracy.

Commands: VITREOUS_DATA=... python benchmarks/recipes.py cifar10-quick            (three seeds)
          VITREOUS_DATA=... python benchmarks/recipes.py tutorial --seeds 1
Setting:  --set NAME=VALUE, as of `vitreous train`. --keep DIR keeps the run folders in DIR/RECIPE-SEED.

The baseline is the recipe `tutorial`, after the from-scratch tutorial that is copied most: 59.3 % recorded, 20 epochs.
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
    """Train in a process of its own, as a user would; wall time in seconds, and top-1 on the test pictures."""
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
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        results = []
        for seed in range(chosen.seeds):
            folder = (chosen.keep or Path(temporary)) / f"{chosen.recipe}-{seed}"
            results.append(timed_run(chosen.recipe, seed, folder, chosen.settings))
            print(f"seed {seed}: {results[-1][0]:.0f} s, test top-1 {results[-1][1]:.2%}", flush=True)
    times, scores = (list(column) for column in zip(*results, strict=True))
    print(f"{chosen.recipe}: {spread(times, '.0f')} s, test top-1 {spread(scores, '.2%')}")


if __name__ == "__main__":
    main()
