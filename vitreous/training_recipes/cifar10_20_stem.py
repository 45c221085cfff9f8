"""A ViT with a convolutional stem on CIFAR-10 in 20 epochs.

Command:   vitreous train cifar10-20-stem --output runs/stem
Hardware:  2 cores of an AMD EPYC (Zen 5, AVX512-BF16), torch 2.13.0 CPU
Time:      about an hour, estimated from 341, then 213 images a second; the run was stopped in between
Measured:  91.86 % top-1 on the 10,000 test images, 95 % interval 91.3 to 92.4 % (n = 1 seed; 2026-11-22, LOG.md)
"""

from vitreous.data.augment import Augment
from vitreous.model.config import named_config
from vitreous.training.optimizer import OptimizerSettings
from vitreous.training.progressive_resizing import ProgressiveResizing
from vitreous.training.recipe import Recipe


def cifar10_20_stem() -> Recipe:
    """Width 256, depth 4, patch 4, average pooling, a stem of four convolutions; Muon, half of the epochs at 24 ×
    24."""
    return Recipe(
        name="cifar10-20-stem",
        data="cifar10",
        model=named_config("small/4-32", depth=4, stem="conv", qk_norm=True),
        epochs=20,
        optimizer=OptimizerSettings(learning_rate=4e-3, adamw_learning_rate=3e-3),
        progressive_resizing=ProgressiveResizing(fraction=0.5),
        augment=Augment(flip=True, shift=3),
        label_smoothing=0.1,
    )
