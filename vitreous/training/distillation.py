"""A small convolutional network that learns beside the model, on the same batches, and that the model learns from.

It knows from the start that pixels belong to their neighbors, which a plain ViT has to find out. It is left behind
with the run: what is kept and evaluated is the ViT alone.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from vitreous.errors import InputError
from vitreous.model.config import ViTConfig
from vitreous.model.conv_stem import conv_stages
from vitreous.training.optimizer import OptimizerSettings


@dataclass(frozen=True)
class DistillationSettings:
    """How much of a model's loss is its teacher's word, and what that teacher is.

    The teacher's own loss is plain cross-entropy, without label smoothing, which would blur what it says of unlikely
    classes (Müller et al. 2019, section 4). `optimizer.clip_norm` is about the model's gradients alone.
    """

    weight: float = 0.0
    """Of the model's loss; 0 for no teacher."""
    temperature: float = 2.0
    """What both logits are divided by, so that more is heard of classes that are unlikely."""
    teacher_width: int = 48
    """Channels of the first of three stages; the others have 8/3 as many. Each stage halves the sides."""
    teacher_learning_rate: float = 2.5e-2
    """Peak rate of Muon for its convolutions."""
    teacher_adamw_learning_rate: float = 1e-2
    """Peak rate of AdamW for the rest of it."""

    def __post_init__(self) -> None:
        if not 0 <= self.weight < 1:
            raise InputError(f"teacher.share is {self.weight}: it must be at least 0 and below 1")
        if not 0 < self.temperature < math.inf:
            raise InputError(f"teacher.temperature is {self.temperature}: it must be above 0")
        if self.teacher_width < 1:
            raise InputError(f"teacher.width is {self.teacher_width}: give channels, 1 or more")
        for name in ("learning_rate", "adamw_learning_rate"):
            if not 0 <= getattr(self, name) < math.inf:
                raise InputError(f"teacher.{name} is {getattr(self, name)}: it must be at least 0")

    def teacher_optimizer(self) -> OptimizerSettings:
        """How the teacher's gradients become steps."""
        return OptimizerSettings(
            learning_rate=self.teacher_learning_rate,
            adamw_learning_rate=self.teacher_adamw_learning_rate,
            weight_decay=0,
            momentum=0.85,
        )


class Teacher(nn.Module):
    """Six 3 × 3 convolutions in three stages, the largest answer of each channel anywhere, and a linear map.

    After the network of Jordan 2024, "94% on CIFAR-10 in 3.29 seconds", section 3, smaller, and normalized an image
    at a time, so that nothing depends on how a batch is cut up.
    """

    def __init__(self, settings: DistillationSettings, model: ViTConfig) -> None:
        super().__init__()
        wide = round(settings.teacher_width * 8 / 3)
        widths = [model.in_chans, settings.teacher_width, wide, wide]
        blocks = conv_stages(widths)
        for block in blocks:
            block.reset_parameters()
        self.blocks = nn.ModuleList(blocks)
        self.head = nn.Linear(wide, model.num_classes)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, images: Tensor) -> Tensor:
        """Normalized images (batch, channels, height, width) to logits (batch, classes)."""
        features = images.contiguous(memory_format=torch.channels_last)
        for block in self.blocks:
            features = block(features)
        return self.head(features.amax((2, 3)))


class DistilledModel(nn.Module):
    """A model and its teacher, asked together."""

    def __init__(self, model: nn.Module, teacher: Teacher) -> None:
        super().__init__()
        self.model, self.teacher = model, teacher

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Images to the model's logits and the teacher's, (batch, classes) each."""
        return self.model(images), self.teacher(images)


def distillation_loss(
    logits: Tensor, teacher_logits: Tensor, temperature: float, weights: Tensor | None = None
) -> Tensor:
    """The mean cross-entropy in nats of a model's softened logits with its teacher's, both (batch, classes).

    Times the temperature squared, so that its gradients don't shrink with it (Hinton et al. 2015, "Distilling the
    Knowledge in a Neural Network", section 2). With `weights` (batch), a weighted mean.
    """
    truth = (teacher_logits.detach().float() / temperature).softmax(1)
    terms = functional.cross_entropy(logits.float() / temperature, truth, reduction="none") * temperature**2
    return terms.mean() if weights is None else (terms * weights).sum() / weights.sum()
