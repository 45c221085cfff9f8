"""Where the time of a training step goes: the kernels of `training_step.py`'s own step, by what they do.

Command:  python benchmarks/step_profile.py

Self time of torch's operators on the processor over a number of steps, as its profiler sees it; what the step takes on
the clock beyond that (Python, the launching of operators) is the last line.
"""

import time

import torch
from torch.profiler import ProfilerActivity, profile
from training_step import our_step

from vitreous.process_tuning import keep_freed_memory

STEPS = 10
KINDS = {
    "products of matrices": ("mm", "linear", "convolution", "_scaled_dot_product"),
    "GELU": ("gelu",),
    "norms": ("norm",),
    "softmax": ("softmax",),
    "AdamW": ("adam",),
    "flips and shifts, order of the images": ("gather", "index", "randperm", "randint"),
    "copies and conversions": ("copy_", "cat", "to", "clone", "contiguous", "empty", "zero"),
    "sums and products of single numbers": ("add", "mul", "sum", "mean", "div", "sub", "where"),
}


def kind_of(operator: str) -> str:
    """What an operator does, by its name without the namespace."""
    name = operator.split("::")[-1]
    return next((kind for kind, words in KINDS.items() if any(word in name for word in words)), "other operators")


def main() -> None:
    """Print a table for each precision."""
    keep_freed_memory()
    for precision in ("fp32", "bf16"):
        step = our_step(precision)
        for _ in range(3):
            step()
        with profile(activities=[ProfilerActivity.CPU]) as seen:
            started = time.perf_counter()
            for _ in range(STEPS):
                step()
            whole = (time.perf_counter() - started) / STEPS
        spent: dict[str, float] = {}
        for event in seen.key_averages():
            if "::" in event.key:
                kind = kind_of(event.key)
                spent[kind] = spent.get(kind, 0) + event.self_cpu_time_total / 1e6 / STEPS
        spent["between operators"] = whole - sum(spent.values())
        print(f"{precision}: a step takes {whole * 1000:.0f} ms under the profiler, {torch.get_num_threads()} threads")
        for kind, seconds in sorted(spent.items(), key=lambda item: -item[1]):
            print(f"  {seconds * 1000:6.1f} ms  {seconds / whole:5.1%}  {kind}")


if __name__ == "__main__":
    main()
