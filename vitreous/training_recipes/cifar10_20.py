"""A plain ViT on CIFAR-10 in 20 epochs, distilled from a small convolutional network that is trained beside it.

Command:   vitreous train cifar10-20 --output runs/twenty
Hardware:  2 cores of an AMD EPYC (Zen 5, AVX512-BF16), torch 2.13.0 CPU
Time:      about 46 minutes on idle cores (56 minutes with other work on the machine)
Measured:  90.36 % top-1 on the 10,000 test images, 95 % interval 89.8 to 90.9 % (n = 1 seed; 2026-11-21, LOG.md)
"""

from vitreous.data.augment import Augment
from vitreous.model.config import named_config
from vitreous.training.distillation import DistillationSettings
from vitreous.training.optimizer import OptimizerSettings
from vitreous.training.progressive_resizing import ProgressiveResizing
from vitreous.training.recipe import Recipe


def cifar10_20() -> Recipe:
    """Width 192, depth 6, patch 4, average pooling; Muon, half of the epochs at 24 × 24, distillation weight 0.7."""
    return Recipe(
        name="cifar10-20",
        data="cifar10",
        model=named_config("mini/4-32", qk_norm=True),
        epochs=20,
        optimizer=OptimizerSettings(learning_rate=4e-3, adamw_learning_rate=3e-3),
        progressive_resizing=ProgressiveResizing(fraction=0.5),
        distillation=DistillationSettings(weight=0.7),
        augment=Augment(flip=True, shift=3),
        whiten_patch_embed=True,
        label_smoothing=0.1,
    )
