"""Start from weights: what a run takes over from the model that `init` names, and which of its weights it trains."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from vitreous.errors import InputError
from vitreous.imaging.preprocessing import FixedSizeMode, Preprocessing
from vitreous.model.classifier import ImageClassifier
from vitreous.model.config import ViTConfig
from vitreous.model.lora import LoRALinear, add_lora, freeze_all_but_head, merge_lora
from vitreous.model.resizing import resize_input, resized_config
from vitreous.model.vit import ViT
from vitreous.records import Setting, from_json
from vitreous.runs.run_folder import RunFolder
from vitreous.runtime import OwnGenerator, generator
from vitreous.tasks.registry import find_task
from vitreous.training.optimizer import layers_above
from vitreous.training.recipe import Recipe, with_settings

FREE_MODEL_SETTINGS = ("model.image_size", "model.global_pool", "model.drop_path_rate", "model.patch_drop_rate")
"""Settings of the model that change no shape of a weight but the head's, except that positions are resampled."""
POOLS_OF_CLASS_TOKEN = ("token", "token-avg")


@dataclass(frozen=True)
class InitDescription:
    """What recipe.json records about the model that a run started from.

    Attributes:
        fingerprint: of its weights.
        mean: of its preprocessing, which the run's is; one number per channel.
        std: likewise.
    """

    fingerprint: str
    mean: tuple[float, ...]
    std: tuple[float, ...]


def read_init(metadata: Mapping[str, Any], folder: RunFolder) -> InitDescription | None:
    """Return what recipe.json records about the model that a run started from; None if it started from random ones."""
    stored = metadata.get("init")
    return None if stored is None else from_json(InitDescription, stored, f"{folder.recipe}: init")


def recipe_from_weights(
    recipe: Recipe, init: ImageClassifier, settings: Mapping[str, Setting], on_note: Callable[[str], None]
) -> Recipe:
    """Return the recipe of a run that starts from a model: with its structure, input size and preprocessing.

    Args:
        recipe: as it was chosen.
        init: the model.
        settings: the user's changes, which win over what the model brings.
        on_note: told if images are resized in another way than the model's.

    Raises:
        InputError: a setting doesn't exist, its value doesn't fit, or the weights decide it.
    """
    check_model_settings(settings)
    own, rates = init.preprocessing, (recipe.model.drop_path_rate, recipe.model.patch_drop_rate)
    model = replace(init.vit.config, drop_path_rate=rates[0], patch_drop_rate=rates[1])
    mode: FixedSizeMode = "crop" if own.resize_mode == "crop" else "squash"
    recipe = replace(
        recipe, model=model, resize_mode=mode, interpolation=own.interpolation, crop_pct=own.crop_pct,
        whiten_patch_embed=False,  # it is a way to begin without weights
    )  # fmt: skip
    changed = with_settings(recipe, {"model.image_size": own.input_size, **settings})
    _check_tuning(changed)
    _check_pooling(changed.model, init.vit.config)
    if changed.resize_mode != mode and "crop_pct" not in settings:
        changed = replace(changed, crop_pct=1.0)  # the model's is for its own mode
    size = changed.model.image_size
    if own.resize_mode != mode and "resize_mode" not in settings:
        on_note(f"images are squashed to {size[0]} × {size[1]} pixels, where the model to start from keeps their shape")
    return replace(changed, model=replace(changed.model, pos_embed=resized_config(init.vit.config, size).pos_embed))


def check_model_settings(settings: Mapping[str, Setting]) -> None:
    """Refuse settings that the model to start from decides.

    Raises:
        InputError: there is one.
    """
    for name in settings:
        if (name == "model" or name.startswith("model.")) and name not in FREE_MODEL_SETTINGS:
            free = ", ".join(FREE_MODEL_SETTINGS)
            raise InputError(f"{name} is that of the model to start from: leave it out (only {free} can be changed)")


def _check_tuning(recipe: Recipe) -> None:
    """Refuse settings that would replace the weights of the model to start from, or adapt them by larger ones.

    Raises:
        InputError: there is one.
    """
    if recipe.whiten_patch_embed:
        raise InputError(
            "whiten_patch_embed would replace the patch embedding of the model to start from: leave it out"
        )
    width = recipe.model.embed_dim
    if recipe.tune == "lora" and recipe.lora.rank > width:
        raise InputError(f"lora.rank is {recipe.lora.rank}: it must be at most {width}, the width of the model")


def _check_pooling(wanted: ViTConfig, own: ViTConfig) -> None:
    """Refuse a pooling that needs tokens or weights that the model to start from lacks.

    Raises:
        InputError: it does.
    """
    fitting = [own.global_pool, *(POOLS_OF_CLASS_TOKEN if own.has_class_token else ("avg",))]
    if wanted.global_pool not in fitting:
        has = "has a" if own.has_class_token else "has no"
        raise InputError(
            f"model.global_pool is {wanted.global_pool}, and the model to start from {has} class token and pools by "
            f"{own.global_pool}: choose {' or '.join(dict.fromkeys(fitting))}"
        )


def initial_weights(
    init: ImageClassifier, recipe: Recipe, class_names: tuple[str, ...], on_note: Callable[[str], None]
) -> dict[str, Tensor]:
    """Fit the weights of a model to a run's image size and classes; the model itself is changed.

    Its head is kept if it is of the same task and reads the same vector, and if its classes have the names of the
    run's, in any order. It is zeros otherwise.

    Args:
        init: the model.
        recipe: of the run, of whose model `init` has everything but the size and the classes.
        class_names: the run's classes.
        on_note: told whether the head is kept.
    """
    vit = init.vit
    resize_input(vit, recipe.model.image_size)
    rows = _kept_rows(init, recipe, class_names)
    if rows is None:
        pool = recipe.model.global_pool
        why = f": it pools by {pool}" if pool != vit.config.global_pool else _why_new(init, recipe, class_names)
        on_note(f"the head is new{why}")
        vit.reset_classifier(recipe.model.num_classes, pool)
    else:
        order = "" if rows == list(range(len(rows))) else ", its rows in the order of the data"
        classes = f"its {len(class_names)} classes are those of the data" if class_names else f"of {len(rows)} outputs"
        on_note(f"the head is kept: {classes}{order}")
        assert isinstance(vit.head, nn.Linear)
        for weight in vit.head.parameters():
            weight.data = weight.data[rows]
    return vit.state_dict()


def check_channels(init: ImageClassifier, channels: int, recipe: Recipe) -> None:
    """Refuse images with another number of channels than the model to start from.

    Raises:
        InputError: it differs.
    """
    own = init.vit.config.in_chans
    if own != channels:
        raise InputError(
            f"'{recipe.init}' takes images of {own} channel(s), and those of '{recipe.data}' have {channels}: choose "
            f"data with {own}, or another model to start from"
        )


def run_preprocessing(recipe: Recipe, mean: tuple[float, ...], std: tuple[float, ...]) -> Preprocessing:
    """Return the preprocessing of a run's model."""
    return Preprocessing(
        recipe.model.image_size, recipe.resize_mode, mean, std, recipe.model.patch_size, recipe.crop_pct,
        recipe.interpolation,
    )  # fmt: skip


def freeze_weights(model: ViT, recipe: Recipe) -> None:
    """Leave only those weights to the optimizers that the recipe tunes, and add its LoRA matrices."""
    if recipe.tune == "lora":
        with OwnGenerator(generator(recipe.seed, "lora")):
            add_lora(model, recipe.lora)
    elif recipe.tune == "head":
        freeze_all_but_head(model)
    elif recipe.frozen_layers:
        trained = len(model.blocks) - recipe.frozen_layers
        for name, weight in model.named_parameters():
            weight.requires_grad_(layers_above(name, len(model.blocks)) <= trained)


def plain_weights(weights: dict[str, Tensor], recipe: Recipe) -> dict[str, Tensor]:
    """Return the weights of the plain ViT: those of a model with LoRA matrices are merged."""
    if recipe.tune != "lora":
        return weights
    with torch.device("meta"):
        model = find_task(recipe.task).model_type.make_model(recipe.model)
        add_lora(model, recipe.lora)
    model.load_state_dict(weights, assign=True)
    merge_lora(model)
    return model.state_dict()


def describe_tuning(model: ViT) -> str:
    """Say which part of the weights is trained; nothing if all are."""
    counts = [(weight.numel(), weight.requires_grad) for weight in model.parameters()]
    base = sum(weight.numel() for name, weight in model.named_parameters() if ".lora_" not in name)
    trained = sum(count for count, is_trained in counts if is_trained)
    adapted = any(isinstance(part, LoRALinear) for part in model.modules())
    if trained == base and not adapted:
        return ""
    names = [name for name, weight in model.named_parameters() if weight.requires_grad]
    blocks = {name.split(".")[1] for name in names if name.startswith("blocks.")}
    if adapted:
        kind = "LoRA matrices and head"
    elif all(name.startswith("head.") for name in names):
        kind = "head"
    else:
        last = "the last block" if len(blocks) == 1 else f"the last {len(blocks)} blocks"
        kind = f"{last}, final norm and head" if blocks else "final norm and head"
    return f" · trained: {kind}, {trained:,} numbers ({trained / base:.2%})"


def _kept_rows(init: ImageClassifier, recipe: Recipe, class_names: tuple[str, ...]) -> list[int] | None:
    """Return the row of the init's head for each output of the run; None if the head is another task's, or doesn't fit.

    The head of a classifier fits if its outputs are the logits of the same classes, in any order. That of another task
    fits if it has as many outputs and the same names.
    """
    outputs = recipe.model.num_classes
    own = init.vit.config
    if init.task != recipe.task or own.num_classes != outputs or own.global_pool != recipe.model.global_pool:
        return None
    if init.task != ImageClassifier.task:
        return list(range(outputs)) if init.class_names == class_names else None
    is_softmax = (init.problem_type, init.function_to_apply) == ("single_label_classification", "softmax")
    if not is_softmax or sorted(init.class_names) != sorted(class_names):
        return None
    return [init.class_names.index(name) for name in class_names]


def _why_new(init: ImageClassifier, recipe: Recipe, class_names: tuple[str, ...]) -> str:
    """Return the classes to rename, where that would keep the model's head, else how the numbers of classes differ."""
    plain = {_plain(name): name for name in init.class_names if name not in class_names}
    others = {
        name: plain[_plain(name)] for name in class_names if name not in init.class_names and _plain(name) in plain
    }
    if others and _kept_rows(init, recipe, tuple(others.get(name, name) for name in class_names)) is not None:
        renamed = ", ".join(f"'{name}' to '{other}'" for name, other in others.items())
        return f": rename the class(es) {renamed}, as the model to start from calls them, and it is kept"
    outputs = init.vit.config.num_classes
    same_task = init.task == recipe.task and class_names and outputs not in (0, len(class_names))
    return f": {len(class_names)} classes, the model has {outputs}" if same_task else ""


def _plain(name: str) -> str:
    return "".join(letter for letter in name.casefold() if letter.isalnum())
