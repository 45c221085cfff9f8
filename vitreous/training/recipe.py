"""A run before it runs: everything that decides its result, in one frozen record."""

import math
from dataclasses import dataclass, field
from typing import Literal

from vitreous.data.augment import Augment
from vitreous.data.read_options import FixedSizeMode
from vitreous.errors import InputError
from vitreous.model.config import ViTConfig
from vitreous.training.distillation import DistillationSettings
from vitreous.training.optimizer import OptimizerSettings, ScheduleSettings
from vitreous.training.progressive_resizing import ProgressiveResizing, low_resolution


@dataclass(frozen=True)
class Recipe:
    """What is learned from which images, by which model, how and for how long."""

    name: str
    data: str
    """A source by name: cifar10, mnist, shapes, folder:DIR ... ."""
    model: ViTConfig
    """`model.classes` and `model.channels` are taken from the data when the run starts."""
    epochs: float
    """Passes over the training set; parts of one are allowed."""
    batch_size: int = 256
    seed: int = 0
    optimizer: OptimizerSettings = field(default_factory=OptimizerSettings)
    schedule: ScheduleSettings = field(default_factory=ScheduleSettings)
    progressive_resizing: ProgressiveResizing = field(default_factory=ProgressiveResizing)
    distillation: DistillationSettings = field(default_factory=DistillationSettings)
    augment: Augment = field(default_factory=Augment)
    whiten_patch_embed: bool = False
    """Start the patch embedding from the principal components of the training set's patches."""
    label_smoothing: float = 0.0
    class_weights: Literal["none", "balanced"] = "none"
    """Weigh each image in the loss by its class: "balanced" inversely to the class's number of training images."""
    resize_mode: FixedSizeMode = "squash"
    """How images are brought to `model.image_size_hw`: "squash" squashes all of an image, "crop" fits the shorter
    side and cuts out the center. The model keeps to it for good: at evaluation and explanation too."""
    skip_unreadable: bool = False
    """Leave out images that can't be read, and list them, in place of refusing the data."""
    ema_decay: float | None = None
    """Keep an exponential moving average of the weights with this decay a step, and evaluate that; none if null."""
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    validation_fraction: float = 0.05
    """Share of the training set that is held out to watch the run."""
    validate_every_epochs: float = 1.0
    checkpoint_seconds: float = 30.0
    """Longest time between two checkpoints, and so the work that a kill can cost."""
    grad_accum_steps: int = 1
    """Parts into which each process cuts its share of a batch, to need less memory; the result is the same."""
    grad_checkpointing: bool = False
    """Keep the blocks' inputs alone and compute the rest again for the gradients: slower, in much less memory."""
    fsdp: bool = False
    """Under torchrun, spread weights and optimizers over the processes (FSDP2) in place of a copy in each (DDP)."""
    tensorboard: bool = False
    """Write the metrics for TensorBoard too, into the run's folder tensorboard; needs the package of that name."""

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "validate_every_epochs", "accumulate"):
            if not 0 < getattr(self, name) < math.inf:
                raise InputError(f"{name} is {getattr(self, name)}: it must be above 0")
        if self.whiten_patch_embed and self.model.stem != "linear":
            raise InputError(
                f"whitened_patches is for the stem 'linear', not '{self.model.stem}': leave one of them out"
            )
        if self.distillation.weight and self.fsdp:
            raise InputError("a teacher's weights are not spread: leave out shard_weights, or set teacher.share=0")
        size_hw, multiple = self.model.image_size, self.model.patch_size
        if (
            self.progressive_resizing.fraction
            and low_resolution(size_hw, self.progressive_resizing, multiple) == size_hw
        ):
            raise InputError(
                f"resolution.scale is {self.progressive_resizing.initial_scale}: images of {size_hw[0]} × {size_hw[1]} in whole "
                f"patches of {multiple} don't get smaller by it; choose less, or resolution.share=0"
            )
        for name in ("shift", "cutout"):
            if getattr(self.augment, name) >= min(self.model.image_size):
                pixels = getattr(self.augment, name)
                raise InputError(f"augment.{name} is {pixels}: it must be less than the image's sides")
        if self.seed < 0:
            raise InputError(f"seed is {self.seed}: it must be at least 0")
        if not 0 <= self.checkpoint_seconds < math.inf:
            raise InputError(f"checkpoint_seconds is {self.checkpoint_seconds}: it must be at least 0")
        for name in ("label_smoothing", "validation_fraction"):
            if not 0 <= getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}: it must be at least 0 and below 1")
        if self.ema_decay is not None and not 0 < self.ema_decay < 1:
            raise InputError(f"average_decay is {self.ema_decay}: it must be between 0 and 1")

    def steps(self, images: int) -> int:
        """Optimizer steps in the whole run over so many training images."""
        return count_steps(self.epochs, images, self.batch_size)


def count_steps(epochs: float, images: int, batch_size: int) -> int:
    """Optimizer steps in so many passes over so many images: at least one."""
    return max(1, round(epochs * images / batch_size))
