"""How often an image goes through a model, forward and backward, for an explanation or a training step."""

from dataclasses import dataclass
from typing import Literal

from vitreous.explanation.methods.input_gradients import DEFAULT_SAMPLES, DEFAULT_STEPS
from vitreous.explanation.methods.occlusion import DEFAULT_WINDOW
from vitreous.explanation.methods.rise import DEFAULT_MASKS
from vitreous.explanation.options import MethodOptions
from vitreous.explanation.perturbation import MAX_PIXELS_PER_PASS
from vitreous.explanation.registry import find_method
from vitreous.explanation.streaming.gradients import GRADIENT_CHUNK_ELEMENTS

Work = Literal["embed", "explain", "train"]

LAST_LAYER = 0.1
"""Backward cost of methods that stop at the last layer, of about twelve, in forward passes."""
BACKWARD_PASSES = {
    "attention-gradient": LAST_LAYER,
    "grad-cam": LAST_LAYER,
    "hires-cam": LAST_LAYER,
    "gradient-rollout": 1.0,
    "legrad": 0.7,
    "input-x-gradient": 1.0,
    "integrated-gradients": float(DEFAULT_STEPS),
    "smoothgrad": float(DEFAULT_SAMPLES),
}
"""Backward cost of the methods that use gradients, in forward passes: for frozen weights a full one costs one forward.

Each linear layer multiplies the gradient of its output by its weights, as many MACs as forward."""
TRAINING_BACKWARD = 2.0
"""In training it costs two: the gradient of the weights is a second product of the same size (Kaplan et al. 2020)."""
PIXEL_METHODS = frozenset({"input-x-gradient", "integrated-gradients", "smoothgrad", "rise"})
"""The methods whose maps have a value per pixel of the input; the others have one per patch."""


@dataclass(frozen=True)
class Passes:
    """What happens to one image.

    Attributes:
        forward: forward passes.
        backward: backward cost, in forward passes.
        images_per_pass: images, or changed copies of them, that are in the device's memory at a time.
    """

    forward: int
    backward: float
    images_per_pass: int


def passes_of(
    work: Work, method: str, input_shape: tuple[int, int, int], grid_size: tuple[int, int], batch_size: int
) -> Passes:
    """Return the passes of an image for some work; of a method with its default options.

    >>> passes_of("train", "", (3, 224, 224), (14, 14), 32)
    Passes(forward=1, backward=2.0, images_per_pass=32)

    Raises:
        InputError: there is no such method.
    """
    if work != "explain":
        return Passes(1, TRAINING_BACKWARD if work == "train" else 0.0, batch_size)
    find_method(method, MethodOptions())
    pixels = input_shape[1] * input_shape[2]
    forward, backward = 1, BACKWARD_PASSES.get(method, 0.0)
    if method in ("integrated-gradients", "smoothgrad"):
        copies = DEFAULT_STEPS if method == "integrated-gradients" else DEFAULT_SAMPLES
        forward = copies + (2 if method == "integrated-gradients" else 1)  # the image itself, and the baseline
        batch_size = max(1, min(copies * batch_size, GRADIENT_CHUNK_ELEMENTS // (pixels * input_shape[0])))
    if method in ("occlusion", "rise"):
        forward = 1 + (DEFAULT_MASKS if method == "rise" else _count_windows(grid_size))
        batch_size = max(batch_size, min(forward * batch_size, MAX_PIXELS_PER_PASS["cuda"] // pixels))
    return Passes(forward, backward, batch_size)


def _count_windows(grid_size: tuple[int, int]) -> int:
    """Return how many windows `occlusion` hides, each moved by half its side from the one before."""
    rows, columns = (side - min(DEFAULT_WINDOW, side) + 1 for side in grid_size)
    assert DEFAULT_WINDOW // 2 == 1  # so each position is a window
    return rows * columns
