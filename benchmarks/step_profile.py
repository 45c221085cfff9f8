"""Where the time of a training step goes: torch's operators in the step of `training_step.py`, by kind.

Command:  python benchmarks/step_profile.py

It prints the operators' own time on the CPU over a number of steps, as torch's profiler measures it. The line "between
operators" is the rest of the step's wall time: Python, and launching the operators.
"""

import time

import torch
from torch.profiler import ProfilerActivity, profile
from training_step import vitreous_step

from vitreous.process_tuning import keep_freed_memory

STEPS = 10
OPERATOR_KINDS = {
    "matrix products": ("mm", "linear", "convolution", "_scaled_dot_product"),
    "GELU": ("gelu",),
    "norms": ("norm",),
    "softmax": ("softmax",),
    "AdamW": ("adam",),
    "augmentation and order of the images": ("gather", "index", "randperm", "randint"),
    "copies and conversions": ("copy_", "cat", "to", "clone", "contiguous", "empty", "zero"),
    "elementwise sums and products": ("add", "mul", "sum", "mean", "div", "sub", "where"),
}


def kind_of(operator: str) -> str:
    """Return the kind of an operator, from its name without the namespace."""
    name = operator.split("::")[-1]
    return next(
        (kind for kind, words in OPERATOR_KINDS.items() if any(word in name for word in words)), "other operators"
    )


def main() -> None:
    """Print a table for each precision."""
    keep_freed_memory()
    for precision in ("fp32", "bf16"):
        step = vitreous_step(precision)
        for _ in range(3):
            step()
        with profile(activities=[ProfilerActivity.CPU]) as profiler:
            started = time.perf_counter()
            for _ in range(STEPS):
                step()
            total = (time.perf_counter() - started) / STEPS
        spent: dict[str, float] = {}
        for event in profiler.key_averages():
            if "::" in event.key:
                kind = kind_of(event.key)
                spent[kind] = spent.get(kind, 0) + event.self_cpu_time_total / 1e6 / STEPS
        spent["between operators"] = total - sum(spent.values())
        print(f"{precision}: a step takes {total * 1000:.0f} ms under the profiler, {torch.get_num_threads()} threads")
        for kind, seconds in sorted(spent.items(), key=lambda item: -item[1]):
            print(f"  {seconds * 1000:6.1f} ms  {seconds / total:5.1%}  {kind}")


if __name__ == "__main__":
    main()
