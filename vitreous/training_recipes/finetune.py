"""Your own classes from anyone's weights: `--init` names the model, `--data` the images.

Command:   vitreous train finetune --init vitreous:cifar10 --data folder:photos --output runs/photos
Hardware:  2 cores of an AMD EPYC (AVX2, float32), torch 2.13.0 CPU, shared with other programs
Time:      66 seconds for 216 images of 32 × 32
Measured:  two kinds of flowers, 120 images of each to learn from: 73.3 % top-1 on 355 test images (n = 3), where kNN
           and logistic regression on frozen features have 65.0 %
           (`benchmarks/transfer.py --parts few --weights vitreous:cifar10`)

Learning rate, layer decay and augmentation were chosen on validation images of five kinds of flowers, with two models
to start from and 2,795 or 120 images to learn from (LOG.md, 2026-11-30). A ViT-S of depth 12 needs low rates in its
early blocks, a small one of depth 6 needs high rates, and so does a new head. The layer decay of 0.6 gives all three
(Bao et al. 2022, "BEiT", has 0.65). Few images get more epochs, as in Kolesnikov et al. 2020, "Big Transfer".

LoRA matrices start from zero in every block, so that early blocks don't need low rates: with tune=lora, 2e-3 without
layer decay has 69.8 % of the validation images where a layer decay of 0.6 has 64.8 % (n = 1).
"""

from collections.abc import Mapping

from vitreous.data.augment import Augment
from vitreous.model.config import named_config
from vitreous.model.lora import LoRASettings
from vitreous.records import Setting
from vitreous.training.optimizer import OptimizerSettings, ScheduleSettings
from vitreous.training.recipe import Recipe


def finetune() -> Recipe:
    """Any model and any images (--init, --data): all weights, LoRA matrices (tune=lora) or the head (tune=head)."""
    return Recipe(
        name="finetune",
        data="",
        model=named_config("S/16"),  # replaced by that of init
        epochs=10,
        min_steps=200,
        min_steps_between_validations=10,
        batch_size=32,
        optimizer=OptimizerSettings(
            kind="adamw", learning_rate=5e-4, betas=(0.9, 0.999), layer_decay=0.6, clip_grad_norm=1.0
        ),
        schedule=ScheduleSettings(shape="cosine"),
        lora=LoRASettings(targets=("q", "k", "v", "proj")),
        augment=Augment(flip=True, shift=4),
        label_smoothing=0.1,
        validation_fraction=0.1,
    )


LORA_RATES: Mapping[str, Setting] = {"optimizer.learning_rate": 2e-3, "optimizer.layer_decay": 1.0}


def suited_settings(recipe: Recipe, settings: Mapping[str, Setting]) -> Mapping[str, Setting]:
    """Return a user's settings, with the rates that suit LoRA where the recipe has those of `finetune`.

    Args:
        recipe: as it was chosen.
        settings: the user's changes, which win.
    """
    is_lora = settings.get("tune", recipe.tune) == "lora"
    return {**LORA_RATES, **settings} if is_lora and recipe.optimizer == finetune().optimizer else settings
