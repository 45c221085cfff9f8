"""List the model sizes: their parameters, their cost, and their speed on this machine."""

from collections.abc import Sequence
from dataclasses import dataclass

from vitreous.callbacks import Callback, Progress
from vitreous.model.config import SIZES, ViTConfig, unknown_size
from vitreous.model.flops import count_macs, count_parameters
from vitreous.model.speed import Speed, measure_speed
from vitreous.runtime import choose_precision, select_device

MEASURED_GMACS = 5.0
"""Sizes that cost more per image are measured only by name, because they need much time and memory."""


@dataclass(frozen=True)
class ModelSize:
    """One of the usual model sizes."""

    name: str
    config: ViTConfig
    params: int
    macs: int
    """Multiply-accumulate operations per image of the configuration's size."""
    speed: Speed | None = None


def model_sizes(
    names: Sequence[str] = (),
    *,
    measure: bool = False,
    device: str = "auto",
    precision: str = "auto",
    callback: Callback | None = None,
) -> list[ModelSize]:
    """List model sizes with their parameters and MACs, and measure their speed if wanted.

    Args:
        names: sizes such as "Ti/16"; all by default.
        measure: measure images per second. Without names, only sizes of up to 5 GMACs per image are measured.
        device: "auto", "cpu" or "cuda"; for measuring.
        precision: "auto", "bf16" or "fp32"; for measuring.
        callback: receives the progress.

    Raises:
        InputError: there is no such size, device or precision.

    >>> [(size.params, size.config.embed_dim) for size in model_sizes(["Ti/16"])]
    [(5717224, 192)]
    """
    for name in names:
        if name not in SIZES:
            raise unknown_size(name)
    callback = callback or Callback()
    torch_device = select_device(device)
    chosen, listed = choose_precision(precision, torch_device), []
    for done, name in enumerate(names or SIZES):
        config, macs = SIZES[name], count_macs(SIZES[name])
        is_measured = measure and (bool(names) or macs <= MEASURED_GMACS * 1e9)
        speed = measure_speed(config, torch_device, chosen) if is_measured else None
        listed.append(ModelSize(name, config, count_parameters(config), macs, speed))
        callback.on_progress(Progress(done + 1, len(names or SIZES), name))
    return listed
