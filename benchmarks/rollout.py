"""Rollout in memory linear in N: peak memory of the streamed form at three sizes, beside what the matrices would take.

Command:  python benchmarks/rollout.py
"""

import subprocess
import sys
from pathlib import Path

import torch

from vitreous.explanation.rollout import plain_rollout, roll
from vitreous.model.trace import AttentionRecord, Trace

LAYERS, HEADS, WIDTH = 4, 3, 64
SIZES = (4096, 8192, 16384)


def random_trace(tokens: int, dtype: torch.dtype = torch.float32) -> Trace:
    """A trace as a ViT of 4 layers and 3 heads of 64 would leave it."""
    torch.manual_seed(0)
    records = []
    for _ in range(LAYERS):
        query, key, value = (torch.randn(1, HEADS, tokens, WIDTH, dtype=dtype) for _ in range(3))
        records.append(AttentionRecord(query, key, value, value, WIDTH**-0.5))
    readout = torch.full((1, tokens), 1 / tokens, dtype=dtype)
    return Trace(records, readout=readout)


def peak_mebibytes() -> float:
    """The most memory that this program ever held (Linux; ru_maxrss would count what the parent held, too)."""
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) / 1024


def measure(tokens: int) -> None:
    """Print how much the peak grows by the trace, and by rollout on top of it."""
    random_trace(16)
    warm = random_trace(512)
    roll(warm.records, warm.readout)
    before = peak_mebibytes()
    trace = random_trace(tokens)
    with_trace = peak_mebibytes()
    row = roll(trace.records, trace.readout)
    matrices = (HEADS + 2) * tokens**2 * 4 / 2**20
    extra = peak_mebibytes() - with_trace
    print(
        f"{tokens:6d} tokens: trace {with_trace - before:6.0f} MiB, rollout on top {extra:5.0f} MiB "
        f"({extra * 2**20 / tokens / HEADS / LAYERS:5.0f} bytes x N x heads x layers); one layer's matrices would be "
        f"{matrices:7.0f} MiB; row sums to {row.sum():.6f}"
    )


def compare() -> None:
    """Print the largest difference between the streamed and the plain form."""
    for dtype in (torch.float64, torch.float32):
        trace = random_trace(1025, dtype)
        difference = (roll(trace.records, trace.readout) - plain_rollout(trace, trace.readout)).abs().max()
        print(f"streamed against plain, 1025 tokens, {dtype}: {difference:.1e}")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        measure(int(sys.argv[1]))
    else:
        compare()
        for size in SIZES:
            subprocess.run([sys.executable, __file__, str(size)], check=True)
