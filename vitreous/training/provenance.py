"""What recipe.json says of a run, and what of it may be otherwise when the run goes on."""

import platform
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from vitreous.data.image_set import ImageSet
from vitreous.data.sources import absolute_source, parse_source
from vitreous.errors import InputError
from vitreous.files import read_json
from vitreous.records import from_dict, override, to_dict
from vitreous.runs.run_folder import RunFolder
from vitreous.training.recipe import Recipe

RESUMABLE_SETTINGS = ("accumulate", "checkpoint_activations", "shard_weights", "checkpoint_seconds", "tensorboard")
"""Settings that a run may go on with otherwise: they are about time, memory and files, not about what is learned."""


def run_metadata(recipe: Recipe, facts: Mapping[str, Any], place: str, launch: str | None) -> dict[str, Any]:
    """What recipe.json says: every value, the versions, on what and by which start of torchrun, and which data."""
    return {
        "vitreous": version("vitreous"),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "commit": _commit(),
        "device": place,
        "launch": launch,
        "data": dict(facts),
        "recipe": to_dict(recipe),
    }


def describe_data(source: str, training: ImageSet, validation: ImageSet) -> dict[str, Any]:
    """By which a run knows its data again."""
    sizes = {"training": len(training), "validation": len(validation)}
    prints = {"fingerprint": training.fingerprint(), "validation_fingerprint": validation.fingerprint()}
    return {"source": source, **prints, **sizes}


def data_changed(facts: Mapping[str, Any], header: Mapping[str, Any]) -> bool:
    """Whether a run was started with other images; older ones know of the training images alone."""
    known = header.get("data", {})
    return facts["fingerprint"] != known.get("fingerprint") or (
        facts["validation_fingerprint"] != known.get("validation_fingerprint", facts["validation_fingerprint"])
    )


def created_by_launch(launch: str | None, folder: RunFolder) -> bool:
    """Whether the run in a folder was begun by this very start of torchrun, which has since started it again."""
    return launch is not None and folder.recipe.is_file() and read_json(folder.recipe).get("launch") == launch


def resumed_recipe(
    header: Mapping[str, Any], asked: str, data: str | None, settings: Mapping[str, str], folder: RunFolder
) -> Recipe:
    """The recipe of a run to go on with, with what may change of it changed.

    Args:
        header: what the run's recipe.json says.
        asked: the name of the recipe that was asked for.
        data: the source that was asked for, which may be another place of the same images.
        settings: the changes that were asked for.
        folder: of the run.

    Raises:
        InputError: it is a run of another recipe or with other settings.
    """
    recipe = from_dict(Recipe, header.get("recipe", {}), str(folder.recipe))
    if asked != recipe.name:
        raise InputError(f"{folder.path} is a run of '{recipe.name}', not of '{asked}': choose another --out")
    changed = override(recipe, settings)
    as_it_was = replace(changed, **{name: getattr(recipe, name) for name in RESUMABLE_SETTINGS})
    if as_it_was != recipe:
        raise InputError(
            f"the run in {folder.path} keeps its settings, but for {', '.join(RESUMABLE_SETTINGS)}: leave out the others, or "
            "start a new run in another --out"
        )
    return replace(changed, data=absolute_source(data)) if data is not None else changed


def check_data_folder(source: str, folder: RunFolder) -> None:
    """Refuse a run whose folder of images is gone, before it is read.

    Raises:
        InputError: there is no such folder; says how to name another.
    """
    name, place = parse_source(source)
    there = place.is_dir() or (name.startswith("hf:") and Path(str(place).rpartition(":")[0]).is_dir())
    if (name.endswith(":DIR") or place.is_absolute()) and not there:
        raise InputError(
            f"there is no folder {place}, from which the run in {folder.path} learns: "
            f"if it was moved, add --data {name.partition(':')[0]}:NEW"
        )


def with_moved_data(header: Mapping[str, Any], source: str) -> dict[str, Any]:
    """What recipe.json says of a run whose images are the same, but in another place."""
    recipe, data = ({**header.get(part, {})} for part in ("recipe", "data"))
    return {**header, "data": {**data, "source": source}, "recipe": {**recipe, "data": source}}


@dataclass(frozen=True)
class ResumePlan:
    """A run that was left and is to go on.

    Attributes:
        header: what its recipe.json says.
        recipe, facts: with which recipe and images it is to go on.
        notes: what there is to say about it, if it does.
    """

    header: Mapping[str, Any]
    recipe: Recipe
    facts: Mapping[str, Any]
    notes: Sequence[str]

    @property
    def changes_metadata(self) -> bool:
        """Whether recipe.json isn't true of the run any more once it goes on."""
        return data_changed(self.facts, self.header) or self.recipe != from_dict(Recipe, self.header["recipe"])

    def is_complete(self, step: int, steps: int) -> bool:
        """Whether `step` was the last one with the images that recipe.json knows; now there would be `steps`.

        Raises:
            InputError: it wasn't, but with the images as they are now there is none left.
        """
        images = self.header.get("data", {}).get("training")
        last = steps if images is None else self.recipe.steps(images)
        if step < last and step >= steps:
            raise InputError(
                f"the run took {step} steps, and with the images of '{self.recipe.data}' as they are now it has "
                f"only {steps}: start a new run, or bring the others back"
            )
        return step >= last

    def metadata_after(self, step: int) -> dict[str, Any]:
        """What recipe.json is to say from `step` on; images that were learned until then are kept in a list."""
        header = {**self.header, "data": dict(self.facts), "recipe": to_dict(self.recipe)}
        earlier = self.header.get("earlier_data", [])
        learned_from = earlier[-1]["until_step"] if earlier else 0
        if data_changed(self.facts, self.header) and step > learned_from:
            header["earlier_data"] = [*earlier, {"until_step": step, **self.header.get("data", {})}]
        return header


def _commit() -> str | None:
    """The git commit of the source that runs, where it runs from a checkout."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
    return answer.stdout.strip() or None
