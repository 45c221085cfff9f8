"""What the machine at hand can do, measured in about a second: forward passes, and decoding of JPEG files."""

import io
import os
import time
from collections.abc import Generator
from contextlib import contextmanager

import numpy as np
import torch
from PIL import Image

from vitreous.data.textures import pink_noise
from vitreous.imaging.preprocessing import Preprocessing, preprocess_image
from vitreous.imaging.reading import decode_image
from vitreous.model.speed import Speed, measure_forward, measure_speed, time_passes
from vitreous.workflows.planning.planned_model import PlannedModel

PHOTO_SIZE, QUALITY = (375, 500), 90
"""Height and width of the JPEG file that is decoded, the most frequent ones of ImageNet."""


def measure_model(model: PlannedModel, device: torch.device, precision: str) -> Speed:
    """Measure forward passes: of a size with random weights, of any other model as it is loaded."""
    if model.module is None:
        assert model.config is not None  # a size has one
        return measure_speed(model.config, device, precision)
    own_device, was_training = next(model.module.parameters()).device, model.module.training
    try:
        return measure_forward(model.module, model.input_shape, model.macs, device, precision)
    finally:
        model.module.to(own_device).train(was_training)


def measure_decoding(preprocessing: Preprocessing) -> tuple[float, int]:
    """Measure one core that decodes a JPEG file with the detail of a photo, resizes and normalizes it.

    Returns:
        Bytes of files per second, and the bytes of the file.
    """
    buffer = io.BytesIO()
    Image.fromarray(pink_noise(PHOTO_SIZE, np.random.default_rng(0))).save(buffer, "JPEG", quality=QUALITY)
    data = buffer.getvalue()
    cpu = torch.device("cpu")

    def decode() -> None:
        preprocess_image(decode_image(data, "photo"), preprocessing)

    with _one_thread():  # whose own time doesn't count the waiting for a core that others use
        seconds = list(time_passes(decode, cpu, time.thread_time))
    return len(data) / sorted(seconds)[len(seconds) // 2], len(data)


def count_cores() -> int:
    """Count the CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def _one_thread() -> Generator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
