"""Provenance: what recipe.json records about a run, and what of it may differ when the run is resumed."""

import platform
import subprocess
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from vitreous.arguments import show
from vitreous.data.image_set import ImageSet
from vitreous.data.sources import absolute_source, parse_source
from vitreous.errors import InputError
from vitreous.records import DataclassInstance, Setting, from_json, to_dict
from vitreous.runs.run_folder import RunFolder, read_metadata
from vitreous.training.recipe import Recipe, with_settings

RESUMABLE_SETTINGS = (
    "grad_accum_steps",
    "grad_checkpointing",
    "fsdp",
    "checkpoint_seconds",
    "tensorboard",
    "keep_maps",
    "report",
)
"""Settings that may change on resume: they affect time, memory and files, but not what is learned."""

MOST_IMAGES = 10**12
"""More training images than any memory holds: a larger number in recipe.json is damage."""


@dataclass(frozen=True)
class DataDescription:
    """By what a run recognizes its data."""

    source: str
    fingerprint: str
    """Of the training images."""
    training: int
    """Number of training images."""
    validation: int
    """Number of validation images."""
    validation_fingerprint: str | None = None
    """None in the records of the first versions."""


def run_metadata(
    recipe: Recipe,
    data: DataDescription,
    hardware: str,
    launch_id: str | None,
    init: DataclassInstance | None = None,
) -> dict[str, Any]:
    """Return the contents of recipe.json: every setting, the versions, the hardware, the launch, the data, and the
    model that the run starts from, if there is one."""
    return {
        "vitreous": version("vitreous"),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "commit": _commit(),
        "device": hardware,
        "launch": launch_id,
        "data": to_dict(data),
        **({"init": to_dict(init)} if init is not None else {}),
        "recipe": to_dict(recipe),
    }


def describe_data(
    source: str, training: ImageSet, validation: ImageSet, truth: Collection[str] = ("labels",)
) -> DataDescription:
    """Describe the training and validation images of a source, with the truth that the task learns from."""
    fingerprints = [images.fingerprint(truth) for images in (training, validation)]
    return DataDescription(source, fingerprints[0], len(training), len(validation), fingerprints[1])


def read_data(metadata: Mapping[str, Any]) -> DataDescription:
    """Return the description of the data in the contents of recipe.json."""
    return from_json(DataDescription, metadata["data"], "the data in recipe.json")


def recorded_images(metadata: Mapping[str, Any], folder: RunFolder) -> int | None:
    """Return the number of training images that recipe.json records; None if it records none.

    Raises:
        InputError: it is no such number.
    """
    images = metadata.get("data", {}).get("training")
    if images is not None and (type(images) is not int or not 0 < images <= MOST_IMAGES):
        raise InputError(
            f"in {folder.recipe}, data.training is {show(images)}: it must be the number of training images; restore "
            "it from a copy, or start a new run"
        )
    return images


def data_changed(data: DataDescription, metadata: Mapping[str, Any]) -> bool:
    """Whether a run was started with other images. The first versions recorded the training images only."""
    known = metadata.get("data", {})
    return data.fingerprint != known.get("fingerprint") or (
        data.validation_fingerprint != known.get("validation_fingerprint", data.validation_fingerprint)
    )


def created_by_launch(launch_id: str | None, folder: RunFolder) -> bool:
    """Whether this very launch of torchrun created the run in a folder; torchrun has restarted it since."""
    return launch_id is not None and folder.recipe.is_file() and read_metadata(folder).get("launch") == launch_id


def resumed_recipe(
    metadata: Mapping[str, Any],
    recipe_name: str,
    data: str | None,
    settings: Mapping[str, Setting],
    folder: RunFolder,
) -> Recipe:
    """Return the recipe to resume a run with, with those settings changed that may change.

    Args:
        metadata: the contents of the run's recipe.json.
        recipe_name: the name of the recipe that was requested.
        data: the source that was requested, which may be another place of the same images.
        settings: the changes that were requested.
        folder: of the run.

    Raises:
        InputError: the run has another recipe or other settings.
    """
    recipe = from_json(Recipe, metadata["recipe"], str(folder.recipe))
    images = recorded_images(metadata, folder)
    if images is not None and recipe.batch_size > images:
        raise InputError(
            f"in {folder.recipe}, batch_size is {show(recipe.batch_size)}, more than the {images} training images: "
            "restore it from a copy, or start a new run"
        )
    if recipe_name != recipe.name:
        raise InputError(
            f"{folder.path} is a run of '{recipe.name}', not of '{recipe_name}': choose another output folder"
        )
    changed = with_settings(recipe, settings)
    unchanged = replace(changed, **{name: getattr(recipe, name) for name in RESUMABLE_SETTINGS})
    if unchanged != recipe:
        raise InputError(
            f"the run in {folder.path} keeps its settings, except {', '.join(RESUMABLE_SETTINGS)}: leave out the "
            "others, or start a new run in another output folder"
        )
    return replace(changed, data=absolute_source(data)) if data is not None else changed


def check_data_folder(source: str, folder: RunFolder) -> None:
    """Refuse to resume a run whose folder of images is gone, before anything is read.

    Raises:
        InputError: there is no such folder; tells how to name another.
    """
    name, location = parse_source(source)
    exists = location.is_dir() or (name.startswith("hf:") and Path(str(location).rpartition(":")[0]).is_dir())
    if (name.endswith(":DIR") or location.is_absolute()) and not exists:
        raise InputError(
            f"there is no folder {location}, which holds the images of the run in {folder.path}: "
            f"if it was moved, resume with data {name.partition(':')[0]}:NEW (--data)"
        )


def with_moved_data(metadata: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Return the contents of recipe.json for a run whose images are the same, but in another place."""
    recipe, data = ({**metadata.get(section, {})} for section in ("recipe", "data"))
    return {**metadata, "data": {**data, "source": source}, "recipe": {**recipe, "data": source}}


@dataclass(frozen=True)
class ResumePlan:
    """A run that is to be resumed.

    Attributes:
        metadata: the contents of its recipe.json.
        recipe: the recipe to resume it with.
        data: a description of the images to resume it with.
        notes: for the user, once it is certain that the run does resume.
    """

    metadata: Mapping[str, Any]
    recipe: Recipe
    data: DataDescription
    notes: Sequence[str]

    @property
    def changes_metadata(self) -> bool:
        """Whether recipe.json has to change when the run resumes."""
        return data_changed(self.data, self.metadata) or self.recipe != from_json(Recipe, self.metadata["recipe"])

    def is_complete(self, step: int, steps: int) -> bool:
        """Whether `step` was the last one with the images in recipe.json; with the images of now there are `steps`.

        Raises:
            InputError: it wasn't, but with the images of now no step is left.
        """
        images = self.metadata.get("data", {}).get("training")
        last = steps if images is None else self.recipe.steps(images)
        if step < last and step >= steps:
            raise InputError(
                f"the run has taken {step} steps, but with the present images of '{self.recipe.data}' it has only "
                f"{steps}: start a new run, or restore the images"
            )
        return step >= last

    def metadata_after(self, step: int) -> dict[str, Any]:
        """Return the contents of recipe.json from `step` on; a list keeps the images that were used until then."""
        metadata = {**self.metadata, "data": to_dict(self.data), "recipe": to_dict(self.recipe)}
        earlier = self.metadata.get("earlier_data", [])
        recorded_until = earlier[-1]["until_step"] if earlier else 0
        if data_changed(self.data, self.metadata) and step > recorded_until:
            metadata["earlier_data"] = [*earlier, {"until_step": step, **self.metadata.get("data", {})}]
        return metadata


def _commit() -> str | None:
    """Return the git commit of the source code, if it runs from a checkout."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    try:
        result = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
    return result.stdout.strip() or None
