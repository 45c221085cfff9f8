"""Your own classes from anyone's weights: `--init` names the model, `--data` the images.

Command:   vitreous train finetune --init vitreous:cifar10 --data folder:photos --output runs/photos
Measured:  not at length yet: the defaults follow the literature and two trials of 60 steps (LOG.md, 2026-11-30)

AdamW at a tenth of a usual learning rate from scratch, and a lower one for each block further from the head (layer
decay 0.75: Bao et al. 2022, "BEiT"; He et al. 2022, "MAE"). Few images get more epochs, as in Kolesnikov et al. 2020,
"Big Transfer".
"""

from vitreous.data.augment import Augment
from vitreous.model.config import named_config
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
        batch_size=32,
        optimizer=OptimizerSettings(
            kind="adamw", learning_rate=5e-4, betas=(0.9, 0.999), layer_decay=0.75, clip_grad_norm=1.0
        ),
        schedule=ScheduleSettings(shape="cosine"),
        augment=Augment(flip=True),
        label_smoothing=0.1,
        validation_fraction=0.1,
    )
