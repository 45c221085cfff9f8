"""A classifier on disk: config.json says what it is, model.safetensors holds its weights."""

import json
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from vitreous.data.preprocessing import Preprocessing
from vitreous.errors import InputError
from vitreous.files import write_text, written_beside
from vitreous.model.config import ViTConfig
from vitreous.model.vit import ViT
from vitreous.records import from_dict, to_dict
from vitreous.tasks.classification import Classifier

CONFIG = "config.json"
WEIGHTS = "model.safetensors"


def save_config(classifier: Classifier, folder: Path) -> None:
    """Write config.json: the model's configuration, its preprocessing and the names of its classes."""
    content = {
        "task": "classification",
        "model": to_dict(classifier.vit.config),
        "preprocessing": to_dict(classifier.preprocessing),
        "class_names": classifier.class_names,
    }
    write_text(folder / CONFIG, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def save_weights(vit: ViT, folder: Path) -> None:
    """Write model.safetensors, whole or not at all."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in vit.state_dict().items()}
    with written_beside(folder / WEIGHTS) as temporary:
        save_file(tensors, temporary)


def load_classifier(path: Path | str, device: torch.device) -> Classifier:
    """The classifier in a run folder, or the one whose model.safetensors is at `path`.

    Raises:
        InputError: there is none, or its files are damaged or don't fit each other.
    """
    place = Path(path)
    folder = place if place.is_dir() else place.parent
    weights = place if place.is_file() else folder / WEIGHTS
    if not place.exists():
        raise InputError(f"there is no model at {path}: give a run folder or a model.safetensors")
    config = read_json(folder / CONFIG)
    vit = ViT(from_dict(ViTConfig, config.get("model", {}), str(folder / CONFIG)))
    load_weights(vit, weights)
    preprocessing = from_dict(Preprocessing, config.get("preprocessing", {}), str(folder / CONFIG))
    return Classifier(vit.to(device), preprocessing, config.get("class_names", []))


def load_weights(vit: ViT, path: Path) -> None:
    """Fill a model from a safetensors file whose names and shapes are exactly its own."""
    if not path.is_file():
        raise InputError(f"{path} is not there: the run has no weights yet, train it first")
    try:
        vit.load_state_dict(load_file(path))
    except SafetensorError as error:
        raise InputError(f"{path} is damaged or no safetensors file ({error}): copy or train it again") from None
    except RuntimeError as error:
        first = str(error).splitlines()[1:2]
        raise InputError(f"{path} doesn't fit its config.json: {''.join(first).strip()}") from None


def read_json(path: Path) -> dict:
    """The object in a JSON file.

    Raises:
        InputError: the file isn't there or isn't a JSON object.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path} is not there: {path.parent} is no run of Vitreous") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is no JSON ({error}): restore or delete it") from None
    if not isinstance(content, dict):
        raise InputError(f"{path} holds no JSON object: restore or delete it")
    return content
