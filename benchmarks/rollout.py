"""Rollout with many tokens: its difference from the definition, and its memory beyond the plain forward pass.

Command:  python benchmarks/rollout.py
          python benchmarks/rollout.py --tokens 65536 --layers 4        (some minutes)

Each pass runs in its own process. The figure is the peak of that process (VmHWM) in the explained pass less that in the
plain one, divided by N x heads x layers. Queries and keys alone would be 512 bytes in float32 with 64 channels per
head.
"""

import argparse
import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import torch

from vitreous.explanation.method import ExplainableModel
from vitreous.explanation.methods.rollout import propagate, reference_rollout, rollout
from vitreous.explanation.options import MethodOptions
from vitreous.model.config import ViTConfig
from vitreous.model.trace import AttentionRecord, Trace
from vitreous.model.vit import ViT
from vitreous.tasks.classification.targets import PredictedClassTarget

HEADS, HEAD_WIDTH, LAYERS, PATCH = 3, 64, 12, 4
TOKENS = (4096, 16_384)


def random_trace(tokens: int, dtype: torch.dtype) -> Trace:
    """Return a trace with random queries and keys."""
    torch.manual_seed(0)
    records = []
    for _ in range(LAYERS):
        query, key, value = (torch.randn(1, HEADS, tokens, HEAD_WIDTH, dtype=dtype) for _ in range(3))
        output, sums = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(query, key, value)
        records.append(AttentionRecord(query, key, value, output, HEAD_WIDTH**-0.5, log_sums=sums))
    return Trace(records, readout=torch.full((1, tokens), 1 / tokens, dtype=dtype))


def compare() -> None:
    """Print the largest difference between the streamed and the reference form, and the error of the row sum."""
    for dtype in (torch.float64, torch.float32):
        trace = random_trace(1025, dtype)
        row = propagate(trace.records, trace.readout)
        difference = (row - reference_rollout(trace, trace.readout)).abs().max()
        print(
            f"streamed against reference, 1025 tokens, {str(dtype).removeprefix('torch.')}: {difference:.1e}, "
            f"row sums to 1 within {abs(row.sum() - 1):.1e}"
        )


def model_for(tokens: int, layers: int) -> tuple[ExplainableModel, torch.Tensor]:
    """Return a mean-pooled ViT, so that every row of every layer counts, and an image with this number of patches."""
    torch.manual_seed(0)
    side = math.isqrt(tokens) * PATCH
    width = HEADS * HEAD_WIDTH
    config = ViTConfig(
        (side, side), PATCH, num_classes=10, embed_dim=width, depth=layers, num_heads=HEADS, global_pool="avg"
    )
    return ViT(config).eval(), torch.randn(1, 3, side, side)


def peak_mebibytes(run: Callable[[], object]) -> float:
    """Return the peak memory of this process during a run less the memory before (Linux)."""
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    before = status("VmRSS")
    run()
    return status("VmHWM") - before


def status(name: str) -> float:
    """Return a figure of /proc/self/status in MiB."""
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name)]
    return int(line.split()[1]) / 1024


@torch.no_grad()
def run(tokens: int, layers: int, variant: str) -> None:
    """Print the peak of one pass, plain or explained."""
    model, image = model_for(tokens, layers)
    if variant == "plain":
        print(peak_mebibytes(lambda: model(image)))
    else:
        print(peak_mebibytes(lambda: rollout(model, image, PredictedClassTarget(), MethodOptions())))


def measure(tokens: int, layers: int) -> None:
    """Print the memory of rollout beyond the plain pass."""
    peaks = {}
    for variant in ("plain", "rollout"):
        command = [sys.executable, __file__, "--run", variant, "--tokens", str(tokens), "--layers", str(layers)]
        # glibc returns freed memory; with very many tokens only large blocks, because it would do nothing else.
        environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536" if tokens < 2**16 else str(2**25)}
        result = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
        peaks[variant] = float(result.stdout)
    extra = peaks["rollout"] - peaks["plain"]
    matrices = HEADS * layers * tokens**2 * 4 / 2**20
    print(
        f"{tokens:6d} tokens: plain {peaks['plain']:6.0f} MiB, rollout {extra:5.0f} MiB more: "
        f"{extra * 2**20 / tokens / HEADS / layers:4.0f} bytes x N x heads x layers (matrices: {matrices:9,.0f} MiB)"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokens", type=int, nargs="+", default=TOKENS)
    parser.add_argument("--layers", type=int, default=LAYERS)
    parser.add_argument("--run", choices=("plain", "rollout"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.run:
        run(given.tokens[0], given.layers, given.run)
    else:
        compare()
        for count in given.tokens:
            measure(count, given.layers)
