"""A run before its first step: new, or opened to be resumed; with its recipe, data and folder, and with its model."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path

import torch

from vitreous.data.image_set import ImageSet
from vitreous.data.loader import Normalize
from vitreous.data.mixing import check_truth
from vitreous.data.sources import absolute_source
from vitreous.data.statistics import channel_statistics
from vitreous.errors import InputError
from vitreous.imaging.preprocessing import Preprocessing
from vitreous.model.classifier import ImageClassifier
from vitreous.model.lora_file import LoRADescription
from vitreous.model.serialization import WEIGHTS, check_sizes
from vitreous.model.vit import PatchEmbed, ViT
from vitreous.pretrained.fingerprint import parameters_fingerprint
from vitreous.pretrained.load import load
from vitreous.records import Setting
from vitreous.runs.metrics_log import summary_writer
from vitreous.runs.run_folder import (
    RunFolder,
    RunLock,
    check_unused,
    create_run,
    open_run,
    read_metrics,
    write_metadata,
)
from vitreous.runtime import OwnGenerator, choose_precision, generator
from vitreous.tasks.registry import find_task
from vitreous.tasks.task import LossSettings
from vitreous.training.accumulation import check_micro_batches
from vitreous.training.checkpoint import check_checkpoint
from vitreous.training.context import TrainContext
from vitreous.training.from_weights import (
    InitDescription,
    check_channels,
    initial_weights,
    read_init,
    recipe_from_weights,
    run_preprocessing,
)
from vitreous.training.provenance import (
    ResumePlan,
    check_data_folder,
    data_changed,
    recorded_images,
    resumed_recipe,
    run_metadata,
    with_moved_data,
)
from vitreous.training.recipe import Recipe, with_settings
from vitreous.training.training_data import (
    TrainingData,
    check_changed_data,
    check_splits,
    check_training_images,
    load_training_data,
)
from vitreous.training.whitening import whitening_weights
from vitreous.training_recipes import check_named
from vitreous.training_recipes.finetune import suited_settings

LEAK_WARNING = (
    "if the validation images are held out of the training images, they are others now: the model may have been "
    "trained on some of them, and validation accuracy may be optimistic from here on"
)


@dataclass(frozen=True)
class PreparedRun:
    """A run that is ready to train."""

    folder: RunFolder
    recipe: Recipe
    data: TrainingData
    plan: ResumePlan | None = None
    """None for a new run."""
    init: ImageClassifier | None = None
    """The model to start from; None if there is none, or a checkpoint."""
    init_description: InitDescription | None = None
    """Of the model that the run started from, whenever that was."""

    @property
    def steps(self) -> int:
        return self.recipe.steps(len(self.data.training))

    def lora(self, preprocessing: Preprocessing) -> LoRADescription | None:
        """Describe the LoRA file that the run writes, if it does."""
        if self.recipe.tune != "lora" or self.init_description is None:
            return None
        recipe = self.recipe
        names = find_task(recipe.task).describe_outputs(self.data.training).class_names
        fingerprint = self.init_description.fingerprint
        return LoRADescription(recipe.init, fingerprint, recipe.lora, recipe.model, preprocessing, names, recipe.task)


def start_run(context: TrainContext, recipe: Recipe, settings: Mapping[str, Setting], lock: RunLock) -> PreparedRun:
    """Read the model and data of a new run, complete the recipe with what they decide, and create the run folder."""
    for name in ("model.num_classes", "model.in_chans"):
        if name in settings:
            raise InputError(f"{name} is taken from the images: leave it out")
    init = description = None
    if name := settings.get("init", recipe.init):
        context.on_rank0(lambda: check_unused(context.path))
        init, description = load_init(str(name), context)
        recipe = recipe_from_weights(recipe, init, suited_settings(recipe, settings), context.note)
    else:
        recipe = with_settings(recipe, settings)
    context.on_rank0(lambda: check_unused(context.path))
    check_named(recipe)
    _check_settings(recipe, context)
    _check_given(settings, recipe, context.distributed.world_size)
    context.on_rank0(lambda: check_splits(recipe))
    data = load_training_data(recipe, context)
    check_training_images(data, recipe, context)
    training, channels = data.training, data.training.images_u8.shape[1]
    if init is not None:
        check_channels(init, channels, recipe)
    task = find_task(recipe.task)
    model = replace(recipe.model, num_classes=task.describe_outputs(training).num_outputs, in_chans=channels)
    recipe = replace(
        recipe,
        model=model,
        init=absolute_init(recipe.init),
        batch_size=min(recipe.batch_size, len(training)),
        precision=choose_precision(recipe.precision, context.device),
        data=absolute_source(recipe.data),
    )
    check_micro_batches(recipe, context.distributed.world_size)  # again: fewer images make smaller batches
    metadata = run_metadata(recipe, data.description, context.hardware, context.distributed.launch_id, description)
    folder = context.on_rank0(lambda: create_run(context.path, metadata, lock))
    return PreparedRun(folder, recipe, data, init=init, init_description=description)


def resume_run(
    context: TrainContext,
    recipe_name: str,
    source: str | None,
    settings: Mapping[str, Setting],
    lock: RunLock,
    *,
    accept_changed_data: bool,
) -> PreparedRun:
    """Open the folder of an earlier run, read its data again and compare them with what the run was started with."""
    folder, metadata = context.on_rank0(lambda: open_run(context.path, lock))
    recipe = resumed_recipe(metadata, recipe_name, source, settings, folder)
    _check_settings(recipe, context)
    if source is None:
        check_data_folder(recipe.data, folder)
    context.on_rank0(lambda: _check_files(folder, recipe, recorded_images(metadata, folder)))
    data = load_training_data(recipe, context)
    recipe, notes = replace(recipe, data=context.on_rank0(lambda: recipe.data)), []  # each host may have them elsewhere
    if data_changed(data.description, metadata):
        if not accept_changed_data:
            raise InputError(
                f"the images of '{recipe.data}' aren't those that {folder.path} was started with: start a new run, "
                "or continue with them by accept_changed_data (--accept-changed-data)"
            )
        context.on_rank0(lambda: check_changed_data(data, recipe, folder))
        notes += [f"the images of '{recipe.data}' have changed: resuming with the present ones", LEAK_WARNING]
    elif recipe.data != metadata["recipe"]["data"]:
        metadata = with_moved_data(metadata, recipe.data)
        context.on_rank0(lambda: write_metadata(folder, metadata))
        context.note(f"the images are in {recipe.data} now: {folder.recipe} is updated")
    if metadata.get("device") != context.hardware:
        started = metadata.get("device")
        notes.append(f"started on {started}: the result may differ from an uninterrupted run by rounding")
    elif recipe.grad_accum_steps != metadata["recipe"].get("grad_accum_steps"):
        notes.append("grad_accum_steps has changed: the result may differ from an uninterrupted run by rounding")
    description = read_init(metadata, folder)
    is_new = context.on_rank0(lambda: not folder.checkpoint.exists())  # other hosts may have no such folder
    if is_new:
        notes.append("the run has no checkpoint: it starts again from its first step")
    init = reload_init(recipe, description, context) if description is not None and is_new else None
    return PreparedRun(folder, recipe, data, ResumePlan(metadata, recipe, data.description, notes), init, description)


def _check_files(folder: RunFolder, recipe: Recipe, images: int | None) -> None:
    """Refuse damaged or missing files of a run, before its images are read, which may take minutes."""
    read_metrics(folder)
    written_later = (folder.curves, folder.report)  # than the first checkpoint; a kill may leave weights without one
    if not folder.checkpoint.exists() and (folder.path / WEIGHTS).exists() and any(map(Path.exists, written_later)):
        raise InputError(
            f"{folder.path} holds a model, but no checkpoint to resume from: restore {folder.checkpoint}, or start a "
            "new run in another output folder"
        )
    check_sizes(recipe.model, folder.checkpoint, str(folder.recipe), find_task(recipe.task).model_type)
    if folder.checkpoint.exists():
        check_checkpoint(folder.checkpoint, recipe, None if images is None else recipe.steps(images))


def _check_given(settings: Mapping[str, Setting], recipe: Recipe, processes: int) -> None:
    """Refuse settings of the user that have no effect beside the others; the recipe's own may have none."""
    used_with = {
        "lora.": (recipe.tune == "lora", "tune=lora"),
        "model.drop_path_rate": (recipe.tune != "head" or not recipe.model.drop_path_rate, "tune=full or lora"),
        "model.patch_drop_rate": (recipe.tune != "head" or not recipe.model.patch_drop_rate, "tune=full or lora"),
        "augment.randaugment_magnitude": (recipe.augment.randaugment_ops > 0, "augment.randaugment_ops above 0"),
        "fsdp": (not recipe.fsdp or processes > 1, "several processes, started by torchrun"),
    }
    for name in settings:
        for start, (is_used, needed) in used_with.items():
            if name.startswith(start) and not is_used:
                raise InputError(f"{name} needs {needed}, without which it changes nothing: leave it out")


def _check_settings(recipe: Recipe, context: TrainContext) -> None:
    """Refuse what the task or so many processes can't do, or needs a missing package, before images are read."""
    task = find_task(recipe.task)
    check_micro_batches(recipe, context.distributed.world_size)
    check_truth(task.truth, recipe.augment)
    if recipe.distillation.weight and not task.can_distill:
        raise InputError(f"{recipe.task} can't be distilled: set distillation.weight=0")
    for field in fields(LossSettings):
        if field.name not in task.loss_settings and getattr(recipe, field.name) != field.default:
            raise InputError(f"the task {recipe.task} doesn't use {field.name}: set {field.name}={field.default}")
    if recipe.tensorboard:
        context.on_rank0(lambda: bool(summary_writer()))


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
