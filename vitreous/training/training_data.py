"""The images of a training run: read, compared between hosts, checked, and moved to the device."""

from dataclasses import dataclass

from vitreous.data.available_memory import budget_bytes
from vitreous.data.dataset import EncodedDataset
from vitreous.data.image_set import ImageSet
from vitreous.data.read_options import ReadOptions
from vitreous.data.sources import absolute_source, load_train_validation, open_dataset
from vitreous.errors import InputError
from vitreous.files import read_json
from vitreous.model.serialization import CONFIG
from vitreous.records import from_json
from vitreous.runs.run_folder import RunFolder
from vitreous.tasks.registry import find_task
from vitreous.training.context import TrainContext
from vitreous.training.provenance import DataDescription, describe_data
from vitreous.training.recipe import Recipe

MOST_NAMED = 5
"""Classes without images that a note names."""


@dataclass(frozen=True)
class TrainingData:
    """The images to train on and to validate on, and the description by which they are recognized later."""

    training: ImageSet
    validation: ImageSet
    description: DataDescription


def check_splits(recipe: Recipe) -> None:
    """Refuse data whose splits have different classes, before an image is read.

    Raises:
        InputError: they have, or there are no such data.
    """
    dataset = open_dataset(recipe.data)
    if isinstance(dataset, EncodedDataset):
        dataset.check_splits()


def load_training_data(recipe: Recipe, context: TrainContext) -> TrainingData:
    """Read the images of a recipe.

    Raises:
        InputError: they can't be read, or differ between the processes.
    """
    source = absolute_source(recipe.data)
    options = ReadOptions(
        recipe.resize_mode, recipe.skip_unreadable, recipe.crop_pct, recipe.interpolation, context.note
    )
    context.note(f"reading {source}")
    training, validation = context.distributed.local_rank0_first(
        lambda: load_train_validation(source, recipe.model.image_size, recipe.hold_out, options)
    )
    description = describe_data(source, training, validation, find_task(recipe.task).truth)
    mine = (description.fingerprint, description.validation_fingerprint)
    if any(others != mine for others in context.distributed.all_gather(mine)):
        raise InputError(f"the images of '{source}' aren't the same in all processes: give each host the same data")
    if recipe.init:  # its model decides
        training, validation = (images.with_channels(recipe.model.in_chans) for images in (training, validation))
    return TrainingData(_to_device(training, context), _to_device(validation, context), description)


def check_training_images(data: TrainingData, recipe: Recipe, context: TrainContext) -> None:
    """Refuse images that the task can't learn from, or none to stop early by, and report classes without any image.

    Raises:
        InputError: the images don't fit the task, or there is no validation image.
    """
    training, task = data.training, find_task(recipe.task)
    for name in task.truth:
        if getattr(training, name) is None:
            raise InputError(f"'{recipe.data}' has no {name}, from which {task.name} learns: choose other data")
    task.check_training(training, recipe.data)
    if recipe.early_stopping_epochs and len(data.validation) == 0:
        raise InputError("early_stopping_epochs needs validation images: raise validation_fraction, or leave it out")
    for images, purpose in ((training, "train on"), (data.validation, "validate on")):
        counts = images.labels.bincount(minlength=len(images.class_names)).tolist()
        empty = [name for name, count in zip(images.class_names, counts, strict=True) if count == 0]
        if empty and len(images) > 0:
            more = f" and {len(empty) - MOST_NAMED} more" if len(empty) > MOST_NAMED else ""
            context.note(f"{len(empty)} class(es) have no image to {purpose}: {', '.join(empty[:MOST_NAMED])}{more}")
    if len(training) < recipe.batch_size and not recipe.init:  # few images are usual where weights are tuned
        context.note(f"the batch size is {len(training)} instead of {recipe.batch_size}: there are no more images")


def check_changed_data(data: TrainingData, recipe: Recipe, folder: RunFolder) -> None:
    """Refuse changed images that don't fit the model of a run.

    Raises:
        InputError: the classes differ, or there are fewer images than a batch has.
    """
    config, images = folder.path / CONFIG, data.training
    names = None
    if config.exists():
        names = from_json(tuple[str, ...], read_json(config).get("class_names", []), f"{config}: class_names")
    head = find_task(recipe.task).describe_outputs(images)
    if names not in (None, head.class_names) or head.num_outputs != recipe.model.num_classes:
        raise InputError(f"the classes of '{recipe.data}' aren't those of {folder.path}: start a new run")
    if len(images) < recipe.batch_size:
        raise InputError(
            f"'{recipe.data}' has only {len(images)} images left for batches of {recipe.batch_size}: start a new run"
        )


def _to_device(images: ImageSet, context: TrainContext) -> ImageSet:
    """Move images to the memory of the device, or leave them where they are if they don't fit."""
    needed, free = images.images_u8.nbytes, budget_bytes(context.device)
    if context.device.type == "cpu" or needed <= free:
        return images.to(context.device)
    context.note(
        f"{needed / 1e9:.1f} GB of images stay in main memory: {context.device} has {free / 1e9:.1f} GB for them"
    )
    return images
