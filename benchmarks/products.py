"""What this machine can multiply, and what a ViT gets of it: the arithmetic limit beside the passes of a model.

Command:  python benchmarks/products.py

Rates are medians over products of the sizes in ViT-S/16, each with weights of its own, as in a model; the share is of
the best rate found. A pass is measured in processes of their own, with freed memory kept and with glibc's own ways.
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Callable
from statistics import median

import torch
from torch.nn import functional

from vitreous.model import linear
from vitreous.model.config import named_config
from vitreous.model.flops import count_macs
from vitreous.model.linear import is_supported, onednn_linear
from vitreous.model.vit import ViT
from vitreous.process_tuning import keep_freed_memory

SHAPES = ((384, 1152), (384, 384), (384, 1536), (1536, 384)) * 12
ROUNDS = 15


def milliseconds(run: Callable[[], object]) -> float:
    """The median over some rounds."""
    times = []
    for _ in range(ROUNDS + 2):
        started = time.perf_counter()
        run()
        times.append(time.perf_counter() - started)
    return median(times[2:]) * 1000


@torch.no_grad()
def rates() -> None:
    """Print the rate of each way to multiply."""
    for rows in (197, 1576):
        weights = [torch.randn(out, width) for width, out in SHAPES]
        inputs = [torch.randn(rows, width) for width, _ in SHAPES]
        halves = [[tensor.bfloat16() for tensor in tensors] for tensors in (inputs, weights)]
        operations = sum(2 * rows * width * out for width, out in SHAPES)
        ways = {"float32, PyTorch's own": (functional.linear, inputs, weights)}
        if is_supported(inputs[0], weights[0]):
            ways["float32, oneDNN"] = (onednn_linear, inputs, weights)
        ways["bfloat16"] = (functional.linear, *halves)
        for name, (function, left, right) in ways.items():
            took = milliseconds(lambda f=function, a=left, b=right: [f(x, w) for x, w in zip(a, b, strict=True)])
            print(f"{rows:5d} rows, {name:24s} {operations / took / 1e6:5.0f} GFLOP/s")


@torch.no_grad()
def run_pass(own_products: bool) -> None:
    """Print what a pass of ViT-S/16 takes, one image and eight."""
    if not own_products:
        linear._has_wide_products = lambda: False
    config = named_config("S/16", image_size=(224, 224))
    model = ViT(config).eval()
    for batch in (1, 8):
        images = torch.randn(batch, 3, 224, 224)
        took = milliseconds(lambda images=images: model(images))
        rate = 2 * count_macs(config) * batch / took / 1e6
        print(f"    {batch} images: {took:6.1f} ms, {rate:4.0f} GFLOP/s")


def main() -> None:
    """Print rates, then passes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.run and given.run[0] == "kept":
        keep_freed_memory()
    if given.run:
        run_pass(given.run[1] == "ours")
        return
    keep_freed_memory()
    rates()
    for memory in ("glibc's", "kept"):
        for products in ("PyTorch's", "ours"):
            print(f"ViT-S/16 at 224, float32, memory {memory}, products {products}:", flush=True)
            subprocess.run([sys.executable, __file__, "--run", memory, products], check=True)


if __name__ == "__main__":
    main()
