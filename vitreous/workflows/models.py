"""The sizes of models: what they hold, what they cost, and how fast they are here."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch

from vitreous.errors import unknown
from vitreous.model.config import SIZES, ViTConfig
from vitreous.model.flops import count_macs, count_parameters
from vitreous.model.vit import ViT
from vitreous.runtime import autocast, choose_precision, describe_device, select_device

MEASURED_SECONDS, FEWEST_PASSES = 0.4, 3
BATCH_GIGA, LARGEST_BATCH = 10.0, 128
"""A batch takes about so many multiply-adds, in thousand millions, and holds at most so many images."""
MEASURED_GIGA = 5.0
"""Sizes that cost more for an image are measured only when they are named: they take long and much memory."""


@dataclass(frozen=True)
class Speed:
    """How fast a model answers here, in evaluation mode without gradients."""

    images_per_second: float
    batch: int
    precision: str
    device: str


@dataclass(frozen=True)
class ModelSize:
    """One of the usual sizes."""

    name: str
    config: ViTConfig
    parameters: int
    multiply_adds: int
    """For one image of the configuration's size."""
    speed: Speed | None = None


def model_sizes(
    names: Sequence[str] = (),
    *,
    measure: bool = False,
    device: str = "auto",
    precision: str = "auto",
    on_progress: Callable[[int, int, str], object] = lambda *words: None,
) -> list[ModelSize]:
    """The sizes of these names, or all, with parameters and arithmetic; measured too, if asked.

    Without names, only sizes of up to 5 thousand million multiply-adds an image are measured.

    Raises:
        InputError: there is no such size, device or precision.
    """
    for name in names:
        if name not in SIZES:
            raise unknown("size", name, SIZES)
    place = select_device(device)
    chosen, listed = choose_precision(precision, place), []
    for done, name in enumerate(names or SIZES):
        config, cost = SIZES[name], count_macs(SIZES[name])
        timed = measure and (bool(names) or cost <= MEASURED_GIGA * 1e9)
        speed = measured_speed(config, place, chosen) if timed else None
        listed.append(ModelSize(name, config, count_parameters(config), cost, speed))
        on_progress(done + 1, len(names or SIZES), name)
    return listed


@torch.no_grad()
def measured_speed(config: ViTConfig, device: torch.device, precision: str) -> Speed:
    """Images a second of a model of random weights: the median of passes over about half a second, three at least."""
    batch = max(1, min(LARGEST_BATCH, round(BATCH_GIGA * 1e9 / count_macs(config))))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = ViT(config).to(device).eval()
        images = torch.randn(batch, config.in_chans, *config.image_size).to(device)
    with autocast(device, precision):
        model(images)
        seconds = list(_passes(lambda: model(images), device))
    median = sorted(seconds)[len(seconds) // 2]
    return Speed(batch / median, batch, precision, describe_device(device))


def _passes(run: Callable[[], object], device: torch.device) -> Iterator[float]:
    """The seconds that each pass took, until enough were measured."""
    total, count = 0.0, 0
    while total < MEASURED_SECONDS or count < FEWEST_PASSES:
        started = time.perf_counter()
        run()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds = time.perf_counter() - started
        total, count = total + seconds, count + 1
        yield seconds
