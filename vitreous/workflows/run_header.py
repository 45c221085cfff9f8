"""What recipe.json says of a run, and what of it may be otherwise when the run goes on."""

import platform
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

import vitreous
from vitreous.data.pictures import Pictures
from vitreous.data.sources import absolute
from vitreous.errors import InputError
from vitreous.records import from_dict, override, to_dict
from vitreous.tasks.saved import read_json
from vitreous.training.recipe import Recipe
from vitreous.training.run_folder import RunFolder

CHANGEABLE = ("accumulate", "checkpoint_activations", "shard_weights", "checkpoint_seconds", "tensorboard")
"""Settings that a run may go on with otherwise: they are about time, memory and files, not about what is learned."""


def header_of(recipe: Recipe, facts: Mapping[str, Any], place: str, launch: str | None) -> dict[str, Any]:
    """What recipe.json says: every value, the versions, on what and by which start of torchrun, and which data."""
    return {
        "vitreous": vitreous.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "commit": _commit(),
        "device": place,
        "launch": launch,
        "data": dict(facts),
        "recipe": to_dict(recipe),
    }


def data_facts(source: str, training: Pictures, validation: Pictures) -> dict[str, Any]:
    """By which a run knows its data again."""
    sizes = {"training": len(training), "validation": len(validation)}
    prints = {"fingerprint": training.fingerprint(), "validation_fingerprint": validation.fingerprint()}
    return {"source": source, **prints, **sizes}


def is_other_data(facts: Mapping[str, Any], header: Mapping[str, Any]) -> bool:
    """Whether a run was started with other pictures; older ones know of the training pictures alone."""
    known = header.get("data", {})
    return facts["fingerprint"] != known.get("fingerprint") or (
        facts["validation_fingerprint"] != known.get("validation_fingerprint", facts["validation_fingerprint"])
    )


def was_begun_by(launch: str | None, folder: RunFolder) -> bool:
    """Whether the run in a folder was begun by this very start of torchrun, which has since started it again."""
    return launch is not None and folder.recipe.is_file() and read_json(folder.recipe).get("launch") == launch


def renewed(
    header: Mapping[str, Any], asked: str, data: str | None, settings: Mapping[str, str], folder: RunFolder
) -> Recipe:
    """The recipe of a run to go on with, with what may change of it changed.

    Args:
        header: what the run's recipe.json says.
        asked: the name of the recipe that was asked for.
        data: the source that was asked for.
        settings: the changes that were asked for.
        folder: of the run.

    Raises:
        InputError: it is a run of another recipe, of other data or with other settings.
    """
    recipe = from_dict(Recipe, header.get("recipe", {}), str(folder.recipe))
    if asked != recipe.name:
        raise InputError(f"{folder.path} is a run of '{recipe.name}', not of '{asked}': choose another --out")
    changed = override(recipe, settings)
    as_it_was = replace(changed, **{name: getattr(recipe, name) for name in CHANGEABLE})
    if (data is not None and absolute(data) != recipe.data) or as_it_was != recipe:
        raise InputError(
            f"the run in {folder.path} keeps its data and settings, but for {', '.join(CHANGEABLE)}: leave out --data "
            "and --set, or start a new one"
        )
    return changed


def _commit() -> str | None:
    """The git commit of the source that runs, where it runs from a checkout."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
    return answer.stdout.strip() or None
