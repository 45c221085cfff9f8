"""Distillation: a small convolutional network learns beside the model, on the same batches, and the model learns from
it.

A convolution knows from the start that neighboring pixels belong together; a plain ViT has to find that out. The
teacher is only a part of the training: the ViT alone is evaluated and saved as the model.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vitreous.errors import InputError
from vitreous.model.config import ViTConfig
from vitreous.model.conv_stem import conv_stages
from vitreous.training.optimizer import MOST_RATE, MOST_SCALE, OptimizerSettings

MOST_CHANNELS = 10_000


@dataclass(frozen=True)
class DistillationSettings:
    """The weight of the distillation loss, and the teacher.

    The teacher's own loss is plain cross-entropy. Label smoothing would blur what it predicts for unlikely classes
    (Müller et al. 2019, section 4). `optimizer.clip_grad_norm` clips the model's gradient alone.

    Attributes:
        weight: Weight of the distillation loss in the model's loss; the loss on the labels gets the rest. 0 for no
            teacher.
        temperature: Divides the logits of both, so that the probabilities of unlikely classes count more.
        teacher_width: Channels of the first of three stages; the others have 8/3 as many. Each stage halves the
            sides.
        teacher_learning_rate: Peak learning rate of Muon, for the teacher's convolutions.
        teacher_adamw_learning_rate: Peak learning rate of AdamW, for the teacher's other weights.
    """

    weight: float = 0.0
    temperature: float = 2.0
    teacher_width: int = 48
    teacher_learning_rate: float = 2.5e-2
    teacher_adamw_learning_rate: float = 1e-2

    def __post_init__(self) -> None:
        if not 0 <= self.weight < 1:
            raise InputError(f"distillation.weight is {self.weight}: it must be at least 0 and below 1")
        if not 0 < self.temperature <= MOST_SCALE:
            raise InputError(
                f"distillation.temperature is {self.temperature}: it must be above 0 and at most {MOST_SCALE:g}"
            )
        if not 1 <= self.teacher_width <= MOST_CHANNELS:
            raise InputError(
                f"distillation.teacher_width is {self.teacher_width}: it must be 1 to {MOST_CHANNELS:,} channels"
            )
        for name in ("teacher_learning_rate", "teacher_adamw_learning_rate"):
            if not 0 <= getattr(self, name) <= MOST_RATE:
                rate = getattr(self, name)
                raise InputError(f"distillation.{name} is {rate}: it must be at least 0 and at most {MOST_RATE:g}")

    def teacher_optimizer(self) -> OptimizerSettings:
        """Return the settings of the teacher's optimizers."""
        return OptimizerSettings(
            learning_rate=self.teacher_learning_rate,
            adamw_learning_rate=self.teacher_adamw_learning_rate,
            weight_decay=0,
            momentum=0.85,
        )


class Teacher(nn.Module):
    """Six 3 × 3 convolutions in three stages, global max pooling, and a linear classifier.

    It follows the network of Jordan 2024, "94% on CIFAR-10 in 3.29 seconds", section 3, but is smaller and normalizes
    each image by itself, so that the result doesn't depend on how a batch is split.
    """

    def __init__(self, settings: DistillationSettings, model: ViTConfig) -> None:
        super().__init__()
        wide = round(settings.teacher_width * 8 / 3)
        blocks = conv_stages([model.in_chans, settings.teacher_width, wide, wide])
        for block in blocks:
            block.reset_parameters()
        self.blocks = nn.ModuleList(blocks)
        self.head = nn.Linear(wide, model.num_classes)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, images: Tensor) -> Tensor:
        """Classify normalized images (batch, channels, height, width): logits (batch, classes)."""
        features = images.contiguous(memory_format=torch.channels_last)
        for block in self.blocks:
            features = block(features)
        return self.head(features.amax((2, 3)))


class DistilledModel(nn.Module):
    """A model and its teacher as one module."""

    def __init__(self, model: nn.Module, teacher: Teacher) -> None:
        super().__init__()
        self.model, self.teacher = model, teacher

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Classify images: the model's logits and the teacher's, (batch, classes) each."""
        return self.model(images), self.teacher(images)
