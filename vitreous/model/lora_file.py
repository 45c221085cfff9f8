"""LoRA matrices on disk, without the weights that they adapt: which model these are of is recorded by a fingerprint."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor

from vitreous.errors import InputError
from vitreous.imaging.preprocessing import Preprocessing
from vitreous.model.config import ViTConfig
from vitreous.model.lora import LoRASettings
from vitreous.model.serialization import write_tensors
from vitreous.records import from_json, to_dict

FORMAT = "vitreous-lora"


@dataclass(frozen=True)
class LoRADescription:
    """What a LoRA file says about itself.

    Attributes:
        base: the name of the model that is adapted, as it was called in training.
        fingerprint: of its weights.
        lora: which of its maps are adapted, and how.
        model: the configuration of the adapted model.
        preprocessing: of the adapted model.
        class_names: of the adapted model.
        task: of the adapted model; the first versions had one task only.
    """

    base: str
    fingerprint: str
    lora: LoRASettings
    model: ViTConfig
    preprocessing: Preprocessing
    class_names: tuple[str, ...]
    task: str = "classification"


def write_lora(weights: Mapping[str, Tensor], description: LoRADescription, path: Path) -> None:
    """Write the LoRA matrices and the head among the weights of an adapted model."""
    kept = {name: weight for name, weight in weights.items() if ".lora_" in name or name.startswith("head.")}
    write_tensors(kept, path, {"format": FORMAT, "description": json.dumps(to_dict(description))})


def read_lora(path: Path) -> tuple[dict[str, Tensor], LoRADescription]:
    """Read a LoRA file.

    Raises:
        InputError: there is none, it is damaged, or of another kind.
    """
    if not path.is_file():
        raise InputError(f"there is no file {path}: give the lora.safetensors of a run with tune=lora")
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 it is no mapping
    except SafetensorError as error:
        raise InputError(f"{path} is damaged or no safetensors file ({error}): copy or train it again") from None
    if metadata.get("format") != FORMAT:
        raise InputError(f"{path} is no LoRA file of Vitreous: give the lora.safetensors of a run with tune=lora")
    try:
        stored = json.loads(metadata["description"])
    except (KeyError, ValueError, RecursionError):
        raise InputError(f"{path} has no description of its model: copy or train it again") from None
    return tensors, from_json(LoRADescription, stored, str(path))


def is_lora_file(path: Path) -> bool:
    """Whether a safetensors file holds LoRA matrices; not if it is damaged."""
    try:
        with safe_open(path, "pt") as file:
            return (file.metadata() or {}).get("format") == FORMAT
    except SafetensorError:
        return False
