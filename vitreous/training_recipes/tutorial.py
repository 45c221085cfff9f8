"""The most widely copied from-scratch tutorial on CIFAR-10: the baseline for the other recipes.

Command:   vitreous train tutorial --output runs/tutorial
Published: 59.3 % top-1 on the test images after 20 epochs (its authors)
Measured:  68.46 % in 728 and 1,039 s on 2 cores of an AMD EPYC (n = 1; 2026-11-21, LOG.md)

Its model and optimizer: patch 4, width 48, depth 4, 4 heads, class token, learned positions; AdamW at 1e-2 with weight
decay 0.01 and no schedule; batches of 256 in float32. The differences favor it: the blocks start as the identity, there
is a final norm before the head, and images are shifted where the tutorial crops and stretches them at random.
"""

from vitreous.data.augment import Augment
from vitreous.model.config import ViTConfig
from vitreous.training.optimizer import OptimizerSettings, ScheduleSettings
from vitreous.training.recipe import Recipe


def tutorial() -> Recipe:
    """Width 48, depth 4, patch 4, class token; 20 epochs of AdamW at a constant learning rate."""
    return Recipe(
        name="tutorial",
        data="cifar10",
        model=ViTConfig((32, 32), 4, num_classes=10, embed_dim=48, depth=4, num_heads=4),
        epochs=20,
        optimizer=OptimizerSettings(kind="adamw", learning_rate=1e-2, weight_decay=0.01, betas=(0.9, 0.999)),
        schedule=ScheduleSettings(warmup_fraction=0.0, shape="constant"),
        augment=Augment(flip=True, shift=3),
        precision="fp32",
    )
