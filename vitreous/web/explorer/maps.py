"""A map that the page asks for: the request, and how its result and its progress become a job's."""

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import get_ident

import numpy as np
from torch import nn

from vitreous.callbacks import Progress
from vitreous.errors import InputError
from vitreous.explanation.options import MethodOptions
from vitreous.web.explorer.interventions import Intervention
from vitreous.web.jobs.queue import Job, JobResult

MAX_PASSES = 4096


@dataclass(frozen=True)
class MapRequest:
    """A map that needs the model.

    Attributes:
        method: a name in METHODS.
        options: of the method, as `explain` takes them.
        target: what it explains, as `explain` takes it as text; None for the prediction.
        query: a point (x, y) or box (x0, y0, x1, y1) in pixels of the image.
        intervention: what is changed of the input and of the model; None for nothing.
    """

    method: str
    options: dict[str, object] = field(default_factory=dict)
    target: str | None = None
    query: tuple[float, ...] | None = None
    intervention: Intervention | None = None


def check_passes(options: MethodOptions) -> None:
    """Refuse a number of passes that would fill the memory before the time is up.

    Raises:
        InputError: it is above `MAX_PASSES`.
    """
    for name in ("n_samples", "n_steps"):
        if (value := getattr(options, name)) is not None and value > MAX_PASSES:
            raise InputError(f"{name} is {value}, the limit is {MAX_PASSES}: choose a smaller number")


def describe_map(patch_map: np.ndarray, colors: np.ndarray | None, description: dict[str, object]) -> JobResult:
    """Return a map for the page: float32 (rows, columns), then its own colors (rows, columns, 3) if it has any."""
    arrays = [patch_map, *([] if colors is None else [colors])]
    shapes = {"rows": patch_map.shape[0], "columns": patch_map.shape[1], "has_colors": colors is not None}
    return JobResult(description | shapes, b"".join(one.astype(np.float32).tobytes() for one in arrays))


@contextmanager
def before_passes(model: nn.Module, action: Callable[[int], None]) -> Generator[None]:
    """Call something with the number of images before each pass of a model on this thread, inside the context."""
    thread = get_ident()

    def call(module: nn.Module, inputs: Sequence[object]) -> None:
        if get_ident() == thread:  # else somebody else uses the same model
            action(len(inputs[0]))  # ty: ignore[invalid-argument-type]

    handle = model.register_forward_pre_hook(call)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def counted_passes(model: nn.Module, job: Job, total: int | None) -> Generator[None]:
    """Count the images that go through a model as the progress of a job, which can be stopped between two passes."""
    done = 0

    def count(images: int) -> None:
        nonlocal done
        job.on_progress(Progress(done, total, "images through the model"))
        done += images

    with before_passes(model, count):
        yield
