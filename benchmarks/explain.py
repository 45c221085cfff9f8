"""The cost of explaining: an explained forward pass relative to a plain one, and to the usual code with transformers.

Command:  python benchmarks/explain.py

Times are medians of passes that alternate in one process, float32, as ratios. The memory is the peak of a separate
process (VmHWM) less that of the plain pass. The usual code is transformers' ViT with eager attention and
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
from vitreous.model.config import ViTConfig, named_config
from vitreous.model.trace import Trace
from vitreous.model.vit import ViT
from vitreous.process_tuning import keep_freed_memory
from vitreous.tasks.classification.targets import PredictedClassTarget

ROUNDS = 25
CASES = (("Ti/16", 224, 1), ("S/16", 224, 1), ("S/16", 224, 8), ("S/16", 512, 1))
RETURN_FREED_MEMORY = {"MALLOC_MMAP_THRESHOLD_": "65536"}
"""Makes glibc return freed memory, so that peaks are those of the tensors in use."""
USUAL = "usual code: transformers, eager, matrices"


def variants(name: str, side: int, batch: int) -> dict[str, Callable[[], object]]:
    """Return every variant, the plain pass first."""
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
        USUAL: usual_rollout(config, images),
        "plain, transformers": plain_transformers(config, images),
    }


def plain_transformers(config: ViTConfig, images: torch.Tensor) -> Callable[[], object]:
    """Return a pass of transformers' ViT with its defaults."""
    vit = transformers_vit(config, "sdpa")
    return lambda: vit(images)


def usual_rollout(config: ViTConfig, images: torch.Tensor) -> Callable[[], object]:
    """Return rollout as usually written for transformers' ViT of the same size."""
    vit = transformers_vit(config, "eager")

    def run() -> object:
        attentions = vit(images, output_attentions=True).attentions
        product = torch.eye(attentions[0].shape[-1])
        for matrix in attentions:
            product = (torch.eye(product.shape[-1]) + matrix.mean(1)) / 2 @ product
        return product[:, 0]

    return run


def transformers_vit(config: ViTConfig, attention: str) -> torch.nn.Module:
    """Return a ViT of transformers of the same size as ours."""
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
    """Print the median time of each variant relative to the plain pass."""
    chosen = variants(name, side, batch)
    times: dict[str, list[float]] = {variant: [] for variant in chosen}
    for turn in range(ROUNDS + 2):
        for variant, run in chosen.items():
            started = time.perf_counter()
            run()
            if turn > 1:
                times[variant].append(time.perf_counter() - started)
    plain = median(times["plain"])
    print(f"{name} at {side} x {side}, batch {batch}: plain {plain * 1000:.0f} ms")
    for variant in list(chosen)[1:]:
        # A slow moment of the machine may hit one variant only, so the shortest time is printed, too.
        least = min(times[variant]) / min(times["plain"])
        print(f"  {variant:42s} {median(times[variant]) / plain:5.2f} times the plain pass (least {least:.2f})")
    print(f"  the usual code takes {median(times[USUAL]) / median(times['rollout']):.1f} times our rollout's time")


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


def memory(name: str, side: int, batch: int) -> None:
    """Print the memory of rollout beyond a plain pass, for our code and the usual one."""
    peaks = {}
    for variant in ("plain", "attention", "rollout", USUAL, "plain, transformers"):
        command = [sys.executable, __file__, "--run", variant, name, str(side), str(batch)]
        result = subprocess.run(
            command, check=True, capture_output=True, text=True, env=os.environ | RETURN_FREED_MEMORY
        )
        peaks[variant] = float(result.stdout.split()[-1])
    whole, rows = peaks["rollout"] - peaks["plain"], peaks["attention"] - peaks["plain"]
    theirs = peaks[USUAL] - peaks["plain, transformers"]
    print(f"{name} at {side} x {side}: memory beyond the plain pass: rollout {whole:.0f} MiB, class row of a layer")
    print(f"  {rows:.1f} MiB; the usual code, for either, {theirs:.0f} MiB")


@torch.no_grad()
def run_one(variant: str, name: str, side: int, batch: int) -> None:
    """Print the peak of one variant."""
    print(peak_mebibytes(variants(name, side, batch)[variant]))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", nargs=4, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.run:
        run_one(given.run[0], given.run[1], int(given.run[2]), int(given.run[3]))
    else:
        keep_freed_memory()  # as the command line does, for every variant
        for case in CASES:
            compare(*case)
        memory("S/16", 512, 1)
