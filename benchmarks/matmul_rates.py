"""Measure the matrix multiplication rates of this machine, and the rate that a ViT's forward pass reaches.

Command:  python benchmarks/matmul_rates.py

Rates are medians over products of the sizes in ViT-S/16, with separate weights for each, as in a model. Forward passes
are measured in a process each, with freed memory kept and with glibc's defaults.
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
    """Return the median time over some rounds."""
    times = []
    for _ in range(ROUNDS + 2):
        started = time.perf_counter()
        run()
        times.append(time.perf_counter() - started)
    return median(times[2:]) * 1000


@torch.no_grad()
def print_rates() -> None:
    """Print the rate of each implementation of a product."""
    for rows in (197, 1576):
        weights = [torch.randn(out, width) for width, out in SHAPES]
        inputs = [torch.randn(rows, width) for width, _ in SHAPES]
        halves = [[tensor.bfloat16() for tensor in tensors] for tensors in (inputs, weights)]
        operations = sum(2 * rows * width * out for width, out in SHAPES)
        implementations = {"float32, PyTorch's own": (functional.linear, inputs, weights)}
        if is_supported(inputs[0], weights[0]):
            implementations["float32, oneDNN"] = (onednn_linear, inputs, weights)
        implementations["bfloat16"] = (functional.linear, *halves)
        for name, (function, left, right) in implementations.items():
            took = milliseconds(lambda f=function, a=left, b=right: [f(x, w) for x, w in zip(a, b, strict=True)])
            print(f"{rows:5d} rows, {name:24s} {operations / took / 1e6:5.0f} GFLOP/s")


@torch.no_grad()
def print_forward_pass(is_onednn: bool) -> None:
    """Print the time of a forward pass of ViT-S/16, for one image and for eight."""
    if not is_onednn:
        linear._has_wide_products = lambda: False
    config = named_config("S/16", image_size=(224, 224))
    model = ViT(config).eval()
    for batch in (1, 8):
        images = torch.randn(batch, 3, 224, 224)
        took = milliseconds(lambda images=images: model(images))
        rate = 2 * count_macs(config) * batch / took / 1e6
        print(f"    {batch} images: {took:6.1f} ms, {rate:4.0f} GFLOP/s")


def main() -> None:
    """Print the rates of products, then those of forward passes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.run and given.run[0] == "kept":
        keep_freed_memory()
    if given.run:
        print_forward_pass(given.run[1] == "oneDNN")
        return
    keep_freed_memory()
    print_rates()
    for memory in ("glibc", "kept"):
        for products in ("PyTorch", "oneDNN"):
            print(f"ViT-S/16 at 224, float32, memory {memory}, products {products}:", flush=True)
            subprocess.run([sys.executable, __file__, "--run", memory, products], check=True)


if __name__ == "__main__":
    main()
