"""A classifier on disk: config.json says what it is, model.safetensors holds its weights."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from vitreous.errors import InputError
from vitreous.files import atomic_write, read_json, write_text
from vitreous.imaging.preprocessing import Preprocessing
from vitreous.model.classifier import ImageClassifier
from vitreous.model.config import ViTConfig
from vitreous.model.migration import migrate_config, migrate_preprocessing, migrate_tensors
from vitreous.model.vit import ViT
from vitreous.records import from_dict, to_dict

CONFIG = "config.json"
WEIGHTS = "model.safetensors"


def save_config(classifier: ImageClassifier, folder: Path) -> None:
    """Write config.json: the model's configuration, its preprocessing and the names of its classes."""
    content = {
        "task": "classification",
        "model": to_dict(classifier.vit.config),
        "preprocessing": to_dict(classifier.preprocessing),
        "class_names": classifier.class_names,
    }
    write_text(folder / CONFIG, json.dumps(content, indent=2) + "\n")


def save_weights(vit: ViT, folder: Path) -> None:
    """Write model.safetensors, whole or not at all."""
    write_tensors(vit.state_dict(), folder / WEIGHTS)


def write_tensors(tensors: Mapping[str, Tensor], path: Path, metadata: dict[str, str] | None = None) -> None:
    """Write tensors as a safetensors file, whole or not at all.

    The bytes are written by us: safetensors' own writer leaves files that only their owner may read, and tells of a
    full disk in an error of its own.
    """
    content = save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, metadata)
    with atomic_write(path) as temporary:
        temporary.write_bytes(content)


def load_classifier(path: Path | str, device: torch.device) -> ImageClassifier:
    """The classifier in a run folder, or the one whose model.safetensors is at `path` beside its config.json.

    Raises:
        InputError: there is none, or its files are damaged or don't fit each other.
    """
    place = Path(path)
    folder = place if place.is_dir() else place.parent
    weights = place if place.is_file() else folder / WEIGHTS
    config = read_json(folder / CONFIG)
    vit = ViT(from_dict(ViTConfig, migrate_config(config.get("model", {})), str(folder / CONFIG)))
    load_weights(vit, weights)
    preprocessing = from_dict(
        Preprocessing, migrate_preprocessing(config.get("preprocessing", {})), str(folder / CONFIG)
    )
    names = from_dict(tuple[str, ...], config.get("class_names"), f"{folder / CONFIG}: class_names")
    if names and len(names) != vit.config.num_classes:  # none: the answer is a vector of features
        raise InputError(
            f"{folder / CONFIG} names {len(names)} classes, the model has {vit.config.num_classes}: restore it"
        )
    return ImageClassifier(vit.to(device), preprocessing, names)


def load_weights(vit: ViT, path: Path) -> None:
    """Fill a model from a safetensors file of its own names and shapes; a position table may be of another grid."""
    if not path.is_file():
        raise InputError(f"{path} is not there: the run has no weights yet, train it first")
    try:
        tensors = load_file(path)
        if any(name.startswith("stem.layers.") for name in tensors):
            raise InputError(
                f"{path} has the convolutional stem of an earlier Vitreous, no longer known: train it again"
            )
        vit.load_state_dict(migrate_tensors(tensors, vit.config))
    except SafetensorError as error:
        raise InputError(f"{path} is damaged or no safetensors file ({error}): copy or train it again") from None
    except RuntimeError as error:
        first = str(error).splitlines()[1:2]
        raise InputError(f"{path} doesn't fit its config.json: {''.join(first).strip()}") from None


def is_vitreous_config(config: Mapping[str, Any]) -> bool:
    """Whether this is the content of a config.json that Vitreous wrote."""
    return "model" in config and "architectures" not in config and "model_type" not in config
