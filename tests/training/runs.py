"""A task small enough to train on in a second: images in a folder, three classes told apart by color."""

from pathlib import Path

import numpy as np
from PIL import Image

from vitreous.model.config import ViTConfig
from vitreous.training.progressive_resizing import ProgressiveResizing
from vitreous.training.recipe import Recipe

COLORS = {"blue": (40, 60, 220), "green": (50, 190, 60), "red": (220, 50, 40)}


def make_folder(path: Path, count: int = 40) -> Path:
    """Write `count` noisy images a class under train and a quarter of that under test."""
    random = np.random.default_rng(0)
    for part, number in (("train", count), ("test", count // 4)):
        for name, color in COLORS.items():
            (path / part / name).mkdir(parents=True)
            for index in range(number):
                noisy = np.clip(random.normal(color, 40, (12, 20, 3)), 0, 255).astype(np.uint8)
                Image.fromarray(noisy).save(path / part / name / f"{index}.png")
    return path


def tiny_recipe(folder: Path, **changes) -> Recipe:
    """A recipe that uses all random numbers there are: dropout of patches, stochastic depth, augmentation."""
    model = ViTConfig(
        (12, 20), 4, embed_dim=16, depth=2, num_heads=2, drop_path_rate=0.2, patch_drop_rate=0.3, stem="linear"
    )
    options = {
        "model": model,
        "epochs": 4,
        "batch_size": 16,
        "average_decay": 0.9,
        "checkpoint_seconds": 0.0,
        "label_smoothing": 0.1,
        "resolution": ProgressiveResizing(0.4),
        "whitened_patches": True,
    }
    return Recipe("tiny", f"folder:{folder}", **{**options, **changes})
