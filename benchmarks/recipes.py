"""Wall time and test accuracy of a recipe over several seeds, and the ratio to a baseline's time.

Commands: VITREOUS_DATA=... python benchmarks/recipes.py cifar10-quick            (three seeds)
          VITREOUS_DATA=... python benchmarks/recipes.py cifar10-70 --baseline tutorial
Options:  --set NAME=VALUE, as for `vitreous train`. --keep DIR keeps the run folders in DIR/RECIPE-SEED.

The baseline is the recipe `tutorial`, after the most widely copied from-scratch tutorial: 20 epochs, 59.3 % published.
It is trained once on the same machine, before the seeds. Times are from the start of the command to its end and include
starting Python, reading the data, validations and checkpoints, but no report.html.
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
    """Train in a new process, as a user would; return wall time in seconds, and top-1 on the test images."""
    changes = [part for setting in [f"seed={seed}", "report=false", *settings] for part in ("--set", setting)]
    command = [sys.executable, "-m", "vitreous", "train", recipe, "--output", str(folder), *changes]
    started = time.monotonic()
    subprocess.run(command, check=True, capture_output=True)
    return time.monotonic() - started, evaluate(folder).top1


def format_spread(values: list[float], form: str) -> str:
    """Format mean and standard deviation, or a single value."""
    deviation = f" ± {stdev(values):{form}}" if len(values) > 1 else ""
    return f"{mean(values):{form}}{deviation} (n = {len(values)})"


def main() -> None:
    """Train the recipe that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--set", action="append", default=[], dest="settings")
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--baseline", help="a recipe to train once as well, for the ratio of the times")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.keep or Path(temporary)
        if options.baseline:
            baseline = timed_run(options.baseline, 0, folder / f"{options.baseline}-0", [])
            print(f"baseline {options.baseline}: {baseline[0]:.0f} s, test top-1 {baseline[1]:.2%}", flush=True)
        results = []
        for seed in range(options.seeds):
            results.append(timed_run(options.recipe, seed, folder / f"{options.recipe}-{seed}", options.settings))
            print(f"seed {seed}: {results[-1][0]:.0f} s, test top-1 {results[-1][1]:.2%}", flush=True)
    times, scores = (list(column) for column in zip(*results, strict=True))
    print(f"{options.recipe}: {format_spread(times, '.0f')} s, test top-1 {format_spread(scores, '.2%')}")
    if options.baseline:
        print(f"the time is 1/{baseline[0] / mean(times):.1f} of {options.baseline}'s")


if __name__ == "__main__":
    main()
