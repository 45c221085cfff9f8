"""What looking costs: an explained forward pass over a plain one, and the usual way through transformers beside it.

Command:  python benchmarks/explain.py

Times are medians of passes measured in turns in one process, float32, as ratios; the memory is the peak of a process of
its own (VmHWM) less that of the plain pass. The usual way is transformers' ViT with eager attention and
`output_attentions=True`, and the product of ½ I + ½ mean over heads of the matrices that it returns.
"""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch

from vitreous.explanation.methods.attention import attention
from vitreous.explanation.methods.rollout import reference_rollout, rollout
from vitreous.explanation.options import MethodOptions
from vitreous.explanation.streaming.attention_products import row_times_attention
from vitreous.explanation.streaming.light_trace import LightTrace
from vitreous.explanation.targets import PredictedClassTarget
from vitreous.model.config import ViTConfig, named_config
from vitreous.model.trace import Trace
from vitreous.model.vit import ViT
from vitreous.process_tuning import keep_freed_memory

ROUNDS = 25
CASES = (("Ti/16", 224, 1), ("S/16", 224, 1), ("S/16", 224, 8), ("S/16", 512, 1))
FRUGAL = {"MALLOC_MMAP_THRESHOLD_": "65536"}
"""Have glibc give back what is freed, so that peaks are those of the tensors in use."""
USUAL = "usual way: transformers, eager, matrices"


def ways(name: str, side: int, batch: int) -> dict[str, Callable[[], object]]:
    """Every way to be measured, the plain pass first."""
    torch.manual_seed(0)
    config = named_config(name, image_size=(side, side))
    model, images = ViT(config).eval(), torch.randn(batch, 3, side, side)

    def class_rows(layers: range) -> object:
        trace = LightTrace()
        model(images, trace)
        return [row_times_attention(trace.readout, trace.layers[layer]) for layer in layers]

    def by_matrices() -> object:
        trace = Trace()
        model(images, trace)
        return reference_rollout(trace, trace.readout)

    return {
        "plain": lambda: model(images),
        "class row, last layer": lambda: class_rows(range(config.depth - 1, config.depth)),
        "class row, all layers": lambda: class_rows(range(config.depth)),
        "rollout": lambda: rollout(model, images, PredictedClassTarget(), MethodOptions()),
        "attention": lambda: attention(model, images, PredictedClassTarget(), MethodOptions()),
        "rollout by matrices, our ViT": by_matrices,
        USUAL: usual(config, images),
        "plain, transformers": plain_of_theirs(config, images),
    }


def plain_of_theirs(config: ViTConfig, images: torch.Tensor) -> Callable[[], object]:
    """transformers' ViT as it runs by default."""
    theirs = theirs_like(config, "sdpa")
    return lambda: theirs(images)


def usual(config: ViTConfig, images: torch.Tensor) -> Callable[[], object]:
    """Rollout as it is written over transformers' ViT of the same size."""
    theirs = theirs_like(config, "eager")

    def run() -> object:
        attentions = theirs(images, output_attentions=True).attentions
        product = torch.eye(attentions[0].shape[-1])
        for matrix in attentions:
            product = (torch.eye(product.shape[-1]) + matrix.mean(1)) / 2 @ product
        return product[:, 0]

    return run


def theirs_like(config: ViTConfig, attention: str) -> torch.nn.Module:
    """A ViT of transformers, of the same size as ours."""
    from transformers import ViTConfig as TheirConfig
    from transformers import ViTModel

    theirs = TheirConfig(
        hidden_size=config.embed_dim, num_hidden_layers=config.depth, num_attention_heads=config.num_heads,
        intermediate_size=4 * config.embed_dim, image_size=config.image_size[0], patch_size=config.patch_size,
        attn_implementation=attention,
    )  # fmt: skip
    return ViTModel(theirs, add_pooling_layer=False).eval()


@torch.no_grad()
def compare(name: str, side: int, batch: int) -> None:
    """Print the median time of each way over that of the plain pass."""
    chosen = ways(name, side, batch)
    times: dict[str, list[float]] = {way: [] for way in chosen}
    for turn in range(ROUNDS + 2):
        for way, run in chosen.items():
            started = time.perf_counter()
            run()
            if turn > 1:
                times[way].append(time.perf_counter() - started)
    plain = median(times["plain"])
    print(f"{name} at {side} x {side}, batch {batch}: plain {plain * 1000:.0f} ms")
    for way in list(chosen)[1:]:
        # A slow moment of the machine falls on one way and not on another: the least time is beside the median.
        least = min(times[way]) / min(times["plain"])
        print(f"  {way:42s} {median(times[way]) / plain:5.2f} times the plain pass (least {least:.2f})")
    print(f"  the usual way takes {median(times[USUAL]) / median(times['rollout']):.1f} times our rollout's time")


def peak_mebibytes(run: Callable[[], object]) -> float:
    """The most memory that this process held during a run beyond what it held before (Linux)."""
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    before = status("VmRSS")
    run()
    return status("VmHWM") - before


def status(name: str) -> float:
    """A figure of this process in MiB."""
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name)]
    return int(line.split()[1]) / 1024


def memory(name: str, side: int, batch: int) -> None:
    """Print what rollout takes beyond a plain pass, in both ways."""
    peaks = {}
    for way in ("plain", "attention", "rollout", USUAL, "plain, transformers"):
        command = [sys.executable, __file__, "--run", way, name, str(side), str(batch)]
        result = subprocess.run(command, check=True, capture_output=True, text=True, env=os.environ | FRUGAL)
        peaks[way] = float(result.stdout.split()[-1])
    whole, rows = peaks["rollout"] - peaks["plain"], peaks["attention"] - peaks["plain"]
    theirs = peaks[USUAL] - peaks["plain, transformers"]
    print(f"{name} at {side} x {side}: memory beyond the plain pass: rollout {whole:.0f} MiB, class row of a layer")
    print(f"  {rows:.1f} MiB; the usual way, for either, {theirs:.0f} MiB")


@torch.no_grad()
def run_one(way: str, name: str, side: int, batch: int) -> None:
    """Print the peak of one way."""
    print(peak_mebibytes(ways(name, side, batch)[way]))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", nargs=4, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.run:
        run_one(given.run[0], given.run[1], int(given.run[2]), int(given.run[3]))
    else:
        keep_freed_memory()  # as the command line does, for every way
        for case in CASES:
            compare(*case)
        memory("S/16", 512, 1)
