"""The recipe cifar10-quick: wall time and test accuracy of three seeds, beside the tutorial recipe's published figure.

Command:  VITREOUS_DATA=... python benchmarks/cifar10_quick.py          (about 15 minutes on 2 idle cores)

The baseline is the from-scratch tutorial that is copied most: 59.3 % recorded after 20 epochs.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import mean, stdev

from vitreous.workflows.evaluate import evaluate

SEEDS = (0, 1, 2)
BASELINE_TOP1 = 0.593


def timed_run(folder: Path, seed: int) -> tuple[float, float]:
    """Train in a process of its own, as a user would; wall time in seconds, and top-1 on the test pictures."""
    command = [
        sys.executable,
        "-m",
        "vitreous",
        "train",
        "cifar10-quick",
        "--out",
        str(folder),
        "--set",
        f"seed={seed}",
    ]
    started = time.monotonic()
    subprocess.run(command, check=True, capture_output=True)
    return time.monotonic() - started, evaluate(folder).top1


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        results = []
        for seed in SEEDS:
            results.append(timed_run(Path(folder) / str(seed), seed))
            print(f"seed {seed}: {results[-1][0]:.0f} s, test top-1 {results[-1][1]:.2%}", flush=True)
    times, scores = zip(*results, strict=True)
    spread = f"{mean(scores):.2%} ± {stdev(scores):.2%} (n = {len(SEEDS)})"
    print(f"cifar10-quick: {mean(times):.0f} s, test top-1 {spread}; tutorial after 20 epochs: {BASELINE_TOP1:.1%}")
