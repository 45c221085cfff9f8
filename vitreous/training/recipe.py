"""The recipe: everything that decides the result of a training run, in one frozen record."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from vitreous.data.augment import Augment
from vitreous.data.splits import HoldOut
from vitreous.errors import InputError
from vitreous.imaging.geometry import check_patch_count
from vitreous.imaging.preprocessing import LEAST_CROP, FixedSizeMode, Interpolation
from vitreous.model.config import ViTConfig, named_config
from vitreous.model.lora import LoRASettings
from vitreous.records import Setting, override, setting_names
from vitreous.runs.migration import current_setting
from vitreous.training.distillation import DistillationSettings
from vitreous.training.optimizer import OptimizerSettings, ScheduleSettings
from vitreous.training.progressive_resizing import ProgressiveResizing, low_resolution

MOST_EPOCHS = 1_000_000
MOST_STEPS = 1_000_000_000
MOST_KEPT_IMAGES = 64
LEAST_INTERVAL = 1e-9
"""Of validations, in epochs: less than a step of any run."""


@dataclass(frozen=True)
class Recipe:
    """The data, the model, the optimizer and the length of a training run.

    Attributes:
        data: A source by name: cifar10, mnist, shapes, folder:DIR and others.
        task: What the model learns, a name in `vitreous.tasks.registry.TASKS`.
        model: `model.num_classes` and `model.in_chans` are taken from the data when the run starts.
        epochs: A fraction is allowed.
        min_steps: Take at least so many steps, which are more epochs where images are few.
        batch_size: Number of images in a batch, over all processes.
        whiten_patch_embed: Start the patch embedding from the principal components of the training images' patches.
        class_weights: Weights of the classes in the loss: "balanced" is inverse to the number of training images of a
            class.
        resize_mode: How images are resized to `model.image_size`: "squash" changes their aspect ratio, "crop" resizes
            the shorter side and crops the center. The trained model keeps it for evaluation and explanation.
        interpolation: Interpolation of resized images: "bicubic" or "bilinear", with antialiasing.
        crop_pct: Fraction of the height and width that is kept of an image, around the center.
        skip_unreadable: Skip images that can't be read, and list them, instead of refusing the data.
        ema_decay: EMA decay per step: an exponential moving average of the weights is evaluated and saved. none turns
            it off.
        validation_fraction: Fraction of the training set that is held out for validation.
        validation_by_class: Hold out so much of each class, and at least one image where a class has two, if a draw
            from all images would leave a class without any.
        min_steps_between_validations: Take at least so many steps from one validation to the next, which are more
            epochs where images are few.
        early_stopping_epochs: Keep the weights of the best validation, and end the run if it was so many epochs ago,
            not counting the warm-up; 0 trains to the end and keeps the last weights. Where min_steps makes a run
            longer, by whatever factor, so many epochs are longer by it too.
        checkpoint_seconds: Longest time between two checkpoints, which is also the work that a kill can cost.
        grad_accum_steps: Number of micro-batches into which each process cuts its part of a batch, to need less
            memory; same result.
        grad_checkpointing: Keep only the inputs of the blocks and recompute the rest for the gradients: slower, with
            much less memory.
        fsdp: Under torchrun, shard weights and optimizers over the processes (FSDP2) instead of a copy in each (DDP).
        tensorboard: Write the metrics for TensorBoard too, into the run's folder tensorboard; needs the package of
            that name.
        keep_maps: Number of fixed images whose maps and predictions are kept during training, for `vitreous film`; 0
            keeps none.
        report: Write report.html: with each checkpoint the curves and the recipe, at the end also the score on test
            images, mistakes with their maps and more, which takes seconds.

        init: Model to start from, anything that `load` takes, such as "runs/quick", "timm:NAME" or "dinov2:vits14".
            The run takes over its structure, input size and preprocessing, and its head if the classes have the same
            names. Empty for random weights.
        tune: Which weights are trained: all, low-rank matrices beside them and the head, or the head alone.
        frozen_layers: With tune=full, number of first blocks that stay as they are, with the embeddings. This saves
            their backward pass.

    >>> recipe = Recipe("mine", "cifar10", ViTConfig(image_size=32, patch_size=4, num_classes=10), epochs=2)
    >>> recipe.steps(images=50_000)
    391
    """

    name: str
    data: str
    model: ViTConfig
    epochs: float
    init: str = ""
    tune: Literal["full", "lora", "head"] = "full"
    frozen_layers: int = 0
    lora: LoRASettings = field(default_factory=LoRASettings)
    min_steps: int = 0
    batch_size: int = 256
    seed: int = 0
    optimizer: OptimizerSettings = field(default_factory=OptimizerSettings)
    schedule: ScheduleSettings = field(default_factory=ScheduleSettings)
    progressive_resizing: ProgressiveResizing = field(default_factory=ProgressiveResizing)
    distillation: DistillationSettings = field(default_factory=DistillationSettings)
    augment: Augment = field(default_factory=Augment)
    whiten_patch_embed: bool = False
    label_smoothing: float = 0.0
    class_weights: Literal["none", "balanced"] = "none"
    resize_mode: FixedSizeMode = "squash"
    interpolation: Interpolation = "bicubic"
    crop_pct: float = 1.0
    skip_unreadable: bool = False
    ema_decay: float | None = None
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    validation_fraction: float = 0.05
    validation_by_class: bool = True
    validate_every_epochs: float = 1.0
    min_steps_between_validations: int = 0
    early_stopping_epochs: float = 0.0
    checkpoint_seconds: float = 30.0
    grad_accum_steps: int = 1
    grad_checkpointing: bool = False
    fsdp: bool = False
    tensorboard: bool = False
    task: str = "classification"
    keep_maps: int = 8
    report: bool = True

    def __post_init__(self) -> None:
        self._check_ranges()
        self._check_combinations()

    def _check_ranges(self) -> None:
        for name in ("epochs", "batch_size", "validate_every_epochs", "grad_accum_steps"):
            if not 0 < getattr(self, name) < math.inf:
                raise InputError(f"{name} is {getattr(self, name)}: it must be above 0")
        if self.validate_every_epochs < LEAST_INTERVAL:
            raise InputError(
                f"validate_every_epochs is {self.validate_every_epochs}: it must be at least {LEAST_INTERVAL}"
            )
        if self.epochs > MOST_EPOCHS:
            raise InputError(f"epochs is {self.epochs}: it must be at most {MOST_EPOCHS:,}")
        for name in ("min_steps", "min_steps_between_validations"):
            if not 0 <= getattr(self, name) <= MOST_STEPS:
                raise InputError(f"{name} is {getattr(self, name)}: it must be 0 to {MOST_STEPS:,}")
        if self.seed < 0:
            raise InputError(f"seed is {self.seed}: it must be at least 0")
        for name in ("checkpoint_seconds", "early_stopping_epochs"):
            if not 0 <= getattr(self, name) < math.inf:
                raise InputError(f"{name} is {getattr(self, name)}: it must be at least 0")
        for name in ("label_smoothing", "validation_fraction"):
            if not 0 <= getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}: it must be at least 0 and below 1")
        if not LEAST_CROP <= self.crop_pct <= 1:
            raise InputError(f"crop_pct is {self.crop_pct}: it must be {LEAST_CROP} to 1")
        if not 0 <= self.keep_maps <= MOST_KEPT_IMAGES:
            raise InputError(f"keep_maps is {self.keep_maps}: it must be 0 to {MOST_KEPT_IMAGES} images")
        if self.ema_decay is not None and not 0 < self.ema_decay < 1:
            raise InputError(f"ema_decay is {self.ema_decay}: it must be between 0 and 1")

    def _check_combinations(self) -> None:
        if self.whiten_patch_embed and self.model.stem != "linear":
            raise InputError(
                f"whiten_patch_embed needs the stem 'linear', not '{self.model.stem}': leave one of them out"
            )
        if not 0 <= self.frozen_layers <= self.model.depth:
            raise InputError(
                f"frozen_layers is {self.frozen_layers}: it must be 0 to {self.model.depth}, the model's depth"
            )
        if self.frozen_layers and self.tune != "full":
            raise InputError(f"frozen_layers needs tune=full: with tune={self.tune} all blocks are frozen")
        if self.distillation.weight and self.fsdp:
            raise InputError("fsdp doesn't shard a teacher: leave out fsdp, or set distillation.weight=0")
        image_size, patch_size, resizing = self.model.image_size, self.model.patch_size, self.progressive_resizing
        check_patch_count(image_size, patch_size)
        if resizing.fraction and low_resolution(image_size, resizing, patch_size) == image_size:
            raise InputError(
                f"progressive_resizing.initial_scale is {resizing.initial_scale}: it doesn't make images of "
                f"{image_size[0]} × {image_size[1]} smaller, in whole patches of {patch_size}; choose a smaller scale, "
                "or progressive_resizing.fraction=0"
            )
        for name in ("shift", "cutout"):
            pixels = getattr(self.augment, name)
            if pixels >= min(image_size):
                raise InputError(f"augment.{name} is {pixels}: it must be less than the image's sides")

    @property
    def hold_out(self) -> HoldOut:
        """Which training images are held out to validate on, where the data has no others."""
        return HoldOut(self.validation_fraction, self.validation_by_class)

    def steps(self, images: int) -> int:
        """Return the number of optimizer steps in the whole run with so many training images."""
        return max(self.min_steps, count_steps(self.epochs, images, self.batch_size))


SETTING_ALIASES = {
    "optimizer.learning_rate": "lr base_lr max_lr peak_lr",
    "optimizer.weight_decay": "wd",
    "optimizer.kind": "opt optim optimizer",
    "optimizer.clip_grad_norm": "clip_grad grad_clip max_grad_norm max_norm gradient_clip_val",
    "schedule.shape": "sched scheduler lr_scheduler lr_scheduler_type",
    "schedule.warmup_fraction": "warmup warmup_epochs warmup_steps warmup_ratio",
    "early_stopping_epochs": "patience early_stopping early_stopping_patience",
    "init": "pretrained init_from pretrained_model_name_or_path",
    "frozen_layers": "freeze freeze_layers num_frozen_layers frozen_blocks freeze_blocks",
    "lora.rank": "lora_r",
    "lora.targets": "target_modules lora_target_modules",
    "epochs": "num_epochs max_epochs num_train_epochs n_epochs",
    "batch_size": "bs batch train_batch_size per_device_train_batch_size",
    "grad_accum_steps": "gradient_accumulation_steps accumulate_grad_batches",
    "grad_checkpointing": "gradient_checkpointing",
    "ema_decay": "model_ema_decay ema",
    "label_smoothing": "smoothing label_smoothing_factor",
    "precision": "amp amp_dtype bf16 fp16 dtype",
    "validation_fraction": "val_split validation_split",
    "augment.mixup": "mixup_alpha",
    "augment.cutmix": "cutmix_alpha",
    "augment.flip": "hflip horizontal_flip",
    "augment.randaugment_ops": "randaugment rand_augment aa auto_augment num_ops randaugment_num_ops ra_n",
    "augment.randaugment_magnitude": "magnitude ra_magnitude rand_augment_magnitude ra_m",
    "augment.randaugment_magnitude_std": "mstd magnitude_std rand_augment_magnitude_std randaugment_mstd",
    "model": "size arch model_name",
    "model.image_size": "img_size input_size",
    "model.embed_dim": "hidden_size hidden_dim width dim",
    "model.depth": "num_hidden_layers num_layers layers",
    "model.num_heads": "num_attention_heads heads",
    "model.drop_path_rate": "drop_path",
    "model.in_chans": "num_channels channels",
}
"""What torch, timm, transformers and Lightning call the settings; an error suggests ours."""


def with_settings(recipe: Recipe, settings: Mapping[str, Setting]) -> Recipe:
    """Return the recipe with some settings changed, such as {"epochs": 8, "optimizer.learning_rate": 1e-3}.

    The setting "model" takes the name of a size, which replaces the whole model before the other settings are applied.

    Raises:
        InputError: a setting doesn't exist (the message names the nearest, or today's name), or its value doesn't fit.

    >>> recipe = Recipe("mine", "cifar10", ViTConfig(patch_size=4), epochs=2)
    >>> with_settings(recipe, {"model.image_size": 64, "model": "S/16"}).model.grid_size
    (4, 4)
    """
    names = setting_names(recipe)
    for name in settings:
        if name not in names and (current := current_setting(name)):
            raise InputError(f"the setting '{name}' is now called '{current}'")
        if name not in names and name != "model" and (known := _known_setting(name)):
            raise InputError(f"there is no setting '{name}': did you mean {known}?")
    if "model" in settings:
        model = settings["model"]
        if not isinstance(model, str):
            raise InputError(
                f"setting model={model}: give the name of a size, such as S/16 (vitreous models lists them)"
            )
        recipe = replace(recipe, model=named_config(model))
    return override(recipe, {name: value for name, value in settings.items() if name != "model"})


def _known_setting(name: str) -> str | None:
    """Return our name of a setting that other libraries call `name`, in any group."""
    last = name.rpartition(".")[2].lower().replace("-", "_")
    return next((known for known, aliases in SETTING_ALIASES.items() if last in aliases.split()), None)


def count_steps(epochs: float, images: int, batch_size: int) -> int:
    """Return the number of optimizer steps in so many epochs over so many images: at least one."""
    return max(1, round(epochs * images / batch_size))
