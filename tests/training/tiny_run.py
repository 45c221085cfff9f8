"""A recipe and images for a model that trains in a second: three classes that differ in color."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from vitreous.callbacks import Callback, Progress
from vitreous.data.augment import Augment
from vitreous.imaging.preprocessing import Preprocessing
from vitreous.model.classifier import ImageClassifier
from vitreous.model.config import ViTConfig
from vitreous.model.vit import ViT
from vitreous.training.loop import TrainProgress
from vitreous.training.progressive_resizing import ProgressiveResizing
from vitreous.training.recipe import Recipe
from vitreous.training_recipes import find_recipe

SIZE, MEAN, STD = (12, 20), (0.4, 0.5, 0.6), (0.2, 0.3, 0.25)
COLORS = {"blue": (40, 60, 220), "green": (50, 190, 60), "red": (220, 50, 40)}


class RecordingCallback(Callback):
    """Keeps all notes and progress, and stops a run after `stop_after` steps."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.notes: list[str] = []
        self.progress: list[TrainProgress] = []
        self.stop_after, self.should_stop_calls = stop_after, 0

    @property
    def losses(self) -> list[float]:
        """The loss of each report."""
        return [progress.loss for progress in self.progress]

    def on_note(self, text: str) -> None:
        """Keep a note."""
        self.notes.append(text)

    def on_progress(self, progress: Progress) -> None:
        """Keep a report."""
        assert isinstance(progress, TrainProgress)
        self.progress.append(progress)

    def should_stop(self) -> bool:
        """Whether `stop_after` steps were taken; called before each step."""
        self.should_stop_calls += 1
        return self.stop_after is not None and self.should_stop_calls > self.stop_after


def make_folder(path: Path, count: int = 40) -> Path:
    """Write `count` noisy images of each class under train and a quarter of that under test."""
    random = np.random.default_rng(0)
    for split, number in (("train", count), ("test", count // 4)):
        for name, color in COLORS.items():
            (path / split / name).mkdir(parents=True)
            for index in range(number):
                noisy = np.clip(random.normal(color, 40, (12, 20, 3)), 0, 255).astype(np.uint8)
                Image.fromarray(noisy).save(path / split / name / f"{index}.png")
    return path


def make_base(path, class_names=("cat", "dog"), preprocessing=None, **options):
    """Save a model with random weights, as a pretrained one."""
    torch.manual_seed(3)
    fields = {"embed_dim": 16, "depth": 2, "num_heads": 2, "num_classes": len(class_names), **options}
    model = ViT(ViTConfig(SIZE, 4, **fields))
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.2)
    channels = model.config.in_chans
    own = preprocessing or Preprocessing(SIZE, "crop", MEAN[:channels], STD[:channels], 4, 0.9, "bilinear")
    ImageClassifier(model, own, class_names).save(path)
    return path


def tiny_recipe(folder: Path, **changes) -> Recipe:
    """Return a recipe that uses all kinds of random numbers: patch dropout, stochastic depth, augmentation."""
    model = ViTConfig(
        (12, 20), 4, embed_dim=16, depth=2, num_heads=2, drop_path_rate=0.2, patch_drop_rate=0.3, stem="linear"
    )
    options = {
        "model": model,
        "epochs": 4,
        "batch_size": 16,
        "ema_decay": 0.9,
        "checkpoint_seconds": 0.0,
        "label_smoothing": 0.1,
        "progressive_resizing": ProgressiveResizing(0.4),
        "whiten_patch_embed": True,
        "keep_maps": 0,
        "report": False,  # measuring takes longer than such a run
    }
    return Recipe("tiny", f"folder:{folder}", **{**options, **changes})


def finetune_recipe(folder, **changes):
    """The recipe finetune, as short as the tests need it."""
    settings = {
        "data": f"folder:{folder}",
        "epochs": 1,
        "min_steps": 0,
        "batch_size": 16,
        "augment": Augment(),
        "report": False,
        **changes,
    }
    return replace(find_recipe("finetune"), **settings)
