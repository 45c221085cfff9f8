"""Keep the maps of a few fixed images while a model trains: which images, after which steps, and how."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from vitreous.data.image_set import ImageSet
from vitreous.data.loader import Normalize
from vitreous.explanation.attribute import run_method
from vitreous.explanation.options import MethodOptions
from vitreous.explanation.registry import METHODS
from vitreous.explanation.streaming.light_trace import LightTrace
from vitreous.model.config import ViTConfig
from vitreous.model.flops import count_macs
from vitreous.model.trace import Trace
from vitreous.runs.run_folder import RunFolder
from vitreous.tasks.targets import FeatureNormTarget
from vitreous.training_film.kept_maps import FixedImages, KeptStep, append_step, last_kept_step

KEPT_METHODS = ("attention", "rollout")
"""Neither depends on a target, and one forward pass gives both."""
TIME_FRACTION = 0.01
"""Of a run's training, at most, for keeping maps."""
MOST_FILE_BYTES = 5_000_000
MOST_STEPS, LEAST_STEPS = 120, 4
"""Kept of a run; more make no better film, fewer make none."""
MOST_OUTPUT_BYTES = 100_000
"""Larger outputs, such as a mask for each image, aren't kept."""
OVERHEAD_MACS = {"cpu": 1e9, "cuda": 1e12}
"""What a device could multiply and add in the time that a forward pass takes at least: Python, launching kernels."""
SMALL_BATCH_SLACK, BF16_SLACK = 2.0, 2.0
"""A pass of few images is slower for each of them; maps are in float32, where the run may train in bfloat16."""


@dataclass(frozen=True)
class TrainingCost:
    """What decides how much of a run's time the maps of a step take.

    Attributes:
        steps: in the whole run.
        batch_size: images a step, in this process.
        model: its configuration.
        forward_passes: what a step costs, in forward passes of a batch: 3 with the gradients of all weights.
        device: "cpu" or "cuda".
        is_bf16: whether steps are in bfloat16.
    """

    steps: int
    batch_size: int
    model: ViTConfig
    forward_passes: float
    device: str = "cpu"
    is_bf16: bool = False

    def steps_per_keep(self, images: int) -> float:
        """Estimate the time of keeping the maps of so many images, in training steps; rather too long."""
        macs, overhead = count_macs(self.model), OVERHEAD_MACS[self.device]
        slack = SMALL_BATCH_SLACK * (BF16_SLACK if self.is_bf16 else 1.0)
        keep = images * macs * slack + overhead
        return keep / (self.forward_passes * self.batch_size * macs + 2 * overhead)


def choose_kept_steps(cost: TrainingCost, images: int, line_bytes: int, first_bytes: int = 0) -> tuple[int, ...]:
    """Choose the steps after which the maps of so many images are kept: from step 0 to the last one.

    Their number is bounded by 1 % of the training time and by 5 MB. They lie close together at first, two in each
    doubling (or one, or none, where few are kept), and then at equal distances. They follow from the settings of the
    run alone, so a resumed run keeps those that an uninterrupted one would.

    Args:
        cost: of the run.
        images: the number of fixed images.
        line_bytes: what a step takes in the file.
        first_bytes: what the images take there.

    >>> cost = TrainingCost(6000, 128, ViTConfig((32, 32), 4, embed_dim=192, num_classes=10), 3.0)
    >>> steps = choose_kept_steps(cost, 8, 10_000)
    >>> steps[:8], steps[-3:], len(steps)
    ((0, 1, 2, 3, 4, 6, 8, 11), (5889, 5944, 6000), 120)
    """
    affordable = int(TIME_FRACTION * cost.steps / cost.steps_per_keep(images))
    fitting = (MOST_FILE_BYTES - first_bytes) // line_bytes
    most = max(LEAST_STEPS, min(MOST_STEPS, affordable, fitting))
    tries = (_spread_steps(cost.steps, regular, a_doubling) for a_doubling in (2, 1) for regular in _tries(most))
    return next((steps for steps in tries if len(steps) <= most), _spread_steps(cost.steps, most - 1, 0))


def _tries(most: int) -> range:
    """Return numbers of regular steps to try: at least half of all."""
    return range(most - 1, most // 2 - 1, -1)


def _spread_steps(steps: int, regular: int, a_doubling: int) -> tuple[int, ...]:
    """Return step 0, some in each doubling up to the distance of `regular` steps at equal distances, and those."""
    distance = max(1.0, steps / regular)
    even = {min(steps, round(i * distance)) for i in range(regular + 1)}
    early = {round(2 ** (i / a_doubling)) for i in range(math.ceil(a_doubling * math.log2(distance)))}
    return tuple(sorted({steps} | even | {step for step in early if step < distance}))


def choose_images(images: ImageSet, count: int) -> tuple[int, ...]:
    """Choose images that spread over the classes: the first ones of each class, of evenly spaced classes if not all.

    >>> labels = torch.tensor([2, 0, 0, 1, 2, 1])
    >>> choose_images(ImageSet(torch.zeros(6, 3, 8, 8, dtype=torch.uint8), labels, ("a", "b", "c")), 4)
    (1, 2, 3, 0)
    """
    by_class: dict[int, list[int]] = {}
    for index, label in enumerate(images.labels.tolist()):
        if len(found := by_class.setdefault(label, [])) < count:
            found.append(index)
    labels = sorted(by_class)
    if len(labels) > count:
        labels = [labels[i * len(labels) // count] for i in range(count)]
    chosen: list[tuple[int, int]] = []
    for turn in range(count):
        chosen += [(label, by_class[label][turn]) for label in labels if turn < len(by_class[label])]
        if len(chosen) >= count:
            break
    return tuple(index for _, index in sorted(chosen[:count]))


def fixed_images(images: ImageSet, indexes: tuple[int, ...], split: str, *, has_labels: bool) -> FixedImages:
    """Take the images at `indexes` as people see them; with labels, if those are what the task learns."""
    chosen = images.select(torch.tensor(indexes, device=images.labels.device))
    pixels = chosen.images_u8.permute(0, 2, 3, 1).cpu().numpy()
    rgb = pixels[..., :3] if pixels.shape[-1] >= 3 else np.repeat(pixels[..., :1], 3, -1)
    truths = tuple(images.class_names[label] for label in chosen.labels.tolist()) if has_labels else None
    return FixedImages(np.ascontiguousarray(rgb), indexes, truths, split)


class MapKeeper:
    """Keeps the maps and outputs of a few fixed images in the file of a run.

    Nothing of the run changes: no gradient, no random number, and the model is left in the mode it was in.
    """

    def __init__(self, folder: RunFolder, images_u8: Tensor, normalize: Normalize, steps: tuple[int, ...]) -> None:
        """Go on with a file that `start_kept_maps` has started.

        Args:
            folder: of the run.
            images_u8: the fixed images, uint8 (images, channels, height, width), on the model's device.
            normalize: as in training.
            steps: after which maps are kept.
        """
        self.folder, self.images_u8, self.normalize = folder, images_u8, normalize
        self.steps, self.last = frozenset(steps), last_kept_step(folder)

    def is_due(self, step: int) -> bool:
        """Whether maps are kept after this step, and aren't yet."""
        return step > self.last and step in self.steps

    def keep(self, model: nn.Module, step: int, epoch: float) -> None:
        """Append the maps of the fixed images, unless they are there or the model's numbers aren't finite any more."""
        if step <= self.last:
            return
        maps, outputs = compute_maps(model, self.normalize(self.images_u8))
        if all(np.isfinite(values).all() for values in [*maps.values(), outputs]):
            append_step(self.folder, KeptStep(step, epoch, maps, self.few(outputs)))
        self.last = step

    @staticmethod
    def few(outputs: np.ndarray) -> np.ndarray | None:
        """Return outputs that are small enough to be kept, or None."""
        return outputs if outputs.nbytes <= MOST_OUTPUT_BYTES else None


@torch.no_grad()
def compute_maps(model: nn.Module, images: Tensor) -> tuple[Mapping[str, np.ndarray], np.ndarray]:
    """Compute the maps of normalized images by the methods that are kept, in float32 and one forward pass.

    Returns:
        By method, float32 (images, rows, columns), times the number of patches; the model's outputs (images, ...).
    """
    training = model.training
    model.eval()
    try:
        recorded = _RecordedPass(model, images)
        maps = {}
        for name in KEPT_METHODS:
            values = run_method(recorded, images, METHODS[name], FeatureNormTarget(), MethodOptions()).values
            maps[name] = (values.float() * values[0].numel()).cpu().numpy()
        return maps, recorded.outputs.float().cpu().numpy()
    finally:
        model.train(training)


class _RecordedPass:
    """A forward pass that was observed once, for methods that each want to run the model themselves."""

    def __init__(self, model: nn.Module, images: Tensor) -> None:
        self.trace = LightTrace()
        self.outputs: Tensor = model(images, self.trace)

    def __call__(self, images: Tensor, trace: Trace | None = None) -> Tensor:
        """Fill the trace with what was recorded."""
        assert isinstance(trace, LightTrace)
        recorded = self.trace
        trace.layers = recorded.layers if trace.only is None else [recorded.layers[trace.only]]
        trace.depth, trace.layout, trace.readout = recorded.depth, recorded.layout, recorded.readout
        trace.has_attention_pooling, trace.rollout_obstacle = recorded.has_attention_pooling, recorded.rollout_obstacle
        return self.outputs
