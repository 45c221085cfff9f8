"""The model of a training run: built from random weights, or from those of the model that `init` names."""

from pathlib import Path

import torch

from vitreous.data.image_set import ImageSet
from vitreous.data.loader import Normalize
from vitreous.data.statistics import channel_statistics
from vitreous.errors import InputError
from vitreous.model.classifier import ImageClassifier
from vitreous.model.vit import PatchEmbed, ViT
from vitreous.pretrained.fingerprint import parameters_fingerprint
from vitreous.pretrained.load import load
from vitreous.runtime import OwnGenerator, generator
from vitreous.tasks.registry import find_task
from vitreous.training.context import TrainContext
from vitreous.training.from_weights import InitDescription, initial_weights, run_preprocessing
from vitreous.training.recipe import Recipe
from vitreous.training.whitening import whitening_weights


def absolute_init(name: str) -> str:
    """Return the name of a model to start from, with the path of a file or folder made absolute."""
    return str(Path(name).resolve()) if name and Path(name).exists() else name


def load_init(name: str, context: TrainContext) -> tuple[ImageClassifier, InitDescription]:
    """Load the model that a run starts from, in each process, and describe it.

    Raises:
        InputError: it can't be loaded, is no ViT of Vitreous, or differs between the processes.
    """
    init = context.distributed.local_rank0_first(lambda: load(name, "cpu", callback=context.callback))
    if not isinstance(init.model, ViT):
        raise InputError(
            f"'{name}' is a {type(getattr(init.model, 'module', init.model)).__name__}, observed but not "
            "converted: training needs weights that become a ViT of Vitreous (see vitreous models)"
        )
    own = init.preprocessing
    description = InitDescription(parameters_fingerprint(init.vit), own.mean, own.std)
    if any(other != description for other in context.distributed.all_gather(description)):
        raise InputError(f"'{name}' isn't the same in all processes: give each host the same weights")
    return init, description


def reload_init(recipe: Recipe, known: InitDescription, context: TrainContext) -> ImageClassifier:
    """Load the model again that a run started from, which has no checkpoint yet.

    Raises:
        InputError: it can't be loaded, or has other weights now.
    """
    init, found = load_init(recipe.init, context)
    if found != known:
        raise InputError(f"'{recipe.init}' has other weights than when the run was started: start a new run")
    return init


def build_run_classifier(
    recipe: Recipe,
    training: ImageSet,
    context: TrainContext,
    init: ImageClassifier | None,
    known: InitDescription | None,
    *,
    is_new: bool,
) -> ImageClassifier:
    """Build the model before its first step; the seed, the training images and `init` decide its weights.

    Args:
        recipe: of the run.
        training: the training images.
        context: of the run.
        init: the model to start from, which is changed; None if there is none, or a checkpoint.
        known: what the recipe.json records of it.
        is_new: whether the run has no checkpoint.
    """
    task = find_task(recipe.task)
    head = task.describe_outputs(training)
    with OwnGenerator(generator(recipe.seed, "weights")):
        model = task.model_type.make_model(recipe.model)
    if init is not None:
        model.load_state_dict(initial_weights(init, recipe, head.class_names, context.note))
    model = model.to(context.device)
    mean, std = (known.mean, known.std) if known is not None else channel_statistics(training)
    patch_embed = model.patch_embed
    if is_new and recipe.whiten_patch_embed and isinstance(patch_embed, PatchEmbed):
        normalize = Normalize(mean, std)
        weight, bias = context.on_rank0(lambda: whitening_weights(patch_embed, training, normalize, recipe.seed))
        with torch.no_grad():
            for own, value in zip(patch_embed.proj.parameters(), (weight, bias), strict=True):
                own.copy_(value)
    return task.model_type(model, run_preprocessing(recipe, mean, std), head.class_names)
