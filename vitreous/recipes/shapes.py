"""A small ViT that must find a shape on a cluttered background, in about a minute on two processor cores.

Command:  vitreous train shapes --out runs/shapes
"""

from vitreous.data.augment import Augment
from vitreous.model.config import ViTConfig
from vitreous.training.optimizer import OptimizerSettings
from vitreous.training.recipe import Recipe


def shapes() -> Recipe:
    """Width 96, depth 4, patch 8 on 64 × 64 pixels, class token; eight passes with Muon."""
    return Recipe(
        name="shapes",
        data="shapes",
        model=ViTConfig((64, 64), 8, width=96, depth=4, heads=3, classes=8, pooling="class", registers=1),
        epochs=8,
        batch_size=128,
        optimizer=OptimizerSettings(learning_rate=5e-3, adamw_learning_rate=5e-3),
        augment=Augment(flip=True, shift=4),
        label_smoothing=0.05,
    )
