"""A small ViT on CIFAR-10 in a few minutes on two CPU cores.

Command:   vitreous train cifar10-quick --output runs/quick
Hardware:  2 cores of an AMD EPYC (Zen 5, AVX512-BF16), torch 2.13.0 CPU
Time:      279 s, including reading the data (n = 1; the other seeds ran with other work on the machine)
Measured:  85.91 % ± 0.48 top-1 on the 10,000 test images (n = 3 seeds; 2026-11-22, LOG.md)
"""

from vitreous.data.augment import Augment
from vitreous.model.config import named_config
from vitreous.training.optimizer import OptimizerSettings
from vitreous.training.progressive_resizing import ProgressiveResizing
from vitreous.training.recipe import Recipe


def cifar10_quick() -> Recipe:
    """Width 128, depth 4, convolutional stem, average pooling; 4 epochs with Muon, half of them at 24 × 24."""
    return Recipe(
        name="cifar10-quick",
        data="cifar10",
        model=named_config("micro/4-32", depth=4, stem="conv", qk_norm=True),
        epochs=4,
        batch_size=128,
        optimizer=OptimizerSettings(learning_rate=6e-3, adamw_learning_rate=3e-3),
        progressive_resizing=ProgressiveResizing(fraction=0.5),
        augment=Augment(flip=True, shift=3),
        label_smoothing=0.1,
    )
