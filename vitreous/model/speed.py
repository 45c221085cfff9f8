"""How many images per second a model computes on this machine, measured."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import nn

from vitreous.model.config import ViTConfig
from vitreous.model.flops import count_macs
from vitreous.model.vit import ViT
from vitreous.runtime import OwnGenerator, autocast, describe_device

MEASURED_SECONDS, MIN_PASSES = 0.4, 3
BATCH_GMACS, MAX_BATCH = 10.0, 128
"""A batch costs about so many GMACs, and holds at most so many images."""


@dataclass(frozen=True)
class Speed:
    """The inference speed of a model on this machine."""

    images_per_second: float
    batch: int
    precision: str
    device: str


def measure_speed(config: ViTConfig, device: torch.device, precision: str) -> Speed:
    """Measure a randomly initialized model: the median over passes of about half a second, at least three."""
    with OwnGenerator(torch.Generator().manual_seed(0)):
        model = ViT(config)
    return measure_forward(model, (config.in_chans, *config.image_size), count_macs(config), device, precision)


@torch.no_grad()
def measure_forward(
    model: nn.Module, input_shape: tuple[int, int, int], macs: int, device: torch.device, precision: str
) -> Speed:
    """Measure the forward pass of a model on random images, as `measure_speed` does.

    Args:
        model: maps images to anything; it is moved to the device.
        input_shape: (channels, height, width) of its input.
        macs: multiply-adds of one image, which determine the batch.
        device: where it runs.
        precision: "bf16" or "fp32".
    """
    batch = max(1, min(MAX_BATCH, round(BATCH_GMACS * 1e9 / macs)))
    model = model.to(device).eval()
    with OwnGenerator(torch.Generator().manual_seed(0)):
        images = torch.randn(batch, *input_shape).to(device)
    with autocast(device, precision):
        model(images)
        seconds = list(time_passes(lambda: model(images), device))
    median = sorted(seconds)[len(seconds) // 2]
    return Speed(batch / median, batch, precision, describe_device(device))


def time_passes(
    run: Callable[[], object], device: torch.device, clock: Callable[[], float] = time.perf_counter
) -> Iterator[float]:
    """Yield the seconds of each call of `run` until enough were measured."""
    total, count = 0.0, 0
    while total < MEASURED_SECONDS or count < MIN_PASSES:
        started = clock()
        run()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds = clock() - started
        total, count = total + seconds, count + 1
        yield seconds
