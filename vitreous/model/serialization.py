"""An image classifier on disk: config.json describes it, model.safetensors holds its weights.

Files of earlier versions are read through `vitreous.model.migration`.
"""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor

from vitreous.errors import InputError, unknown
from vitreous.files import atomic_folder, atomic_write, read_json, require_new_folder, write_text
from vitreous.imaging.geometry import check_patch_count
from vitreous.imaging.preprocessing import Preprocessing
from vitreous.model.classifier import ImageClassifier
from vitreous.model.config import ViTConfig
from vitreous.model.migration import is_earlier, migrate_config, migrate_preprocessing, migrate_tensors
from vitreous.model.output_scores import check_problem
from vitreous.model.vit import ViT
from vitreous.records import from_json, to_dict

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
TYPES: Mapping[str, type[ImageClassifier]] = {ImageClassifier.task: ImageClassifier}
"""What reads a model of each task; other tasks than classification name theirs in their record."""
MOST_NAMED = 3
"""Weights that a message names of each kind."""
STORED_DTYPES = (torch.float32, torch.float16, torch.bfloat16)
METADATA = {"format": "pt", "library": "vitreous"}
"""Written into model.safetensors, whose names alone could be timm's."""


def save_classifier(classifier: ImageClassifier, folder: Path) -> None:
    """Write a classifier to a new folder, and compare what `load_classifier` reads there with it.

    Raises:
        InputError: the folder holds something, or the model can't be written (see `ImageClassifier.save`).
    """
    require_new_folder(folder)
    weights = classifier.vit.state_dict()
    for name, weight in weights.items():
        if weight.is_meta or weight.dtype not in STORED_DTYPES:
            kind = "quantized" if weight.is_meta else str(weight.dtype).removeprefix("torch.")
            raise InputError(f"the weight {name} is {kind}: a model is saved in float32 or less, call float() on it")
        if not weight.isfinite().all():
            raise InputError(f"the weight {name} has values that are NaN or infinite: such a model is not saved")
    with atomic_folder(folder) as temporary:
        save_config(classifier, temporary)
        write_weights(weights, temporary / WEIGHTS)
        written = load_classifier(temporary, torch.device("cpu"), {classifier.task: type(classifier)})
        read = written.vit.state_dict()
        if (written.preprocessing, written.class_names) != (classifier.preprocessing, classifier.class_names):
            raise AssertionError("the written model has another preprocessing or other class names")
        if not all(torch.equal(read[name], weight.cpu().float()) for name, weight in weights.items()):
            raise AssertionError("the written model has other weights")


def save_config(classifier: ImageClassifier, folder: Path) -> None:
    """Write config.json: the model's configuration, its preprocessing and the names of its classes."""
    content = {
        "task": classifier.task,
        "model": to_dict(classifier.vit.config),
        "preprocessing": to_dict(classifier.preprocessing),
        "class_names": classifier.class_names,
    }
    problem = {"problem_type": classifier.problem_type, "function_to_apply": classifier.function_to_apply}
    if tuple(problem.values()) != check_problem(None, None, len(classifier.class_names)):
        content |= problem
    write_text(folder / CONFIG, json.dumps(content, indent=2) + "\n")


def write_weights(weights: Mapping[str, Tensor], path: Path) -> None:
    """Write the weights of a ViT, completely or not at all, in a file that says it is of Vitreous."""
    write_tensors(weights, path, METADATA)


def write_tensors(tensors: Mapping[str, Tensor], path: Path, metadata: dict[str, str] | None = None) -> None:
    """Write tensors as a safetensors file, completely or not at all.

    The bytes are written here: safetensors' own writer leaves files that only their owner may read, and reports a full
    disk by an error of its own.
    """
    content = save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, metadata)
    with atomic_write(path) as temporary:
        temporary.write_bytes(_sort_metadata(content) if metadata else content)


def _sort_metadata(content: bytes) -> bytes:
    """Sort the metadata of a safetensors file: its writer takes them in a random order, other bytes in each process."""
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + content[end:]


def load_classifier(
    path: Path | str, device: torch.device, types: Mapping[str, type[ImageClassifier]] = TYPES
) -> ImageClassifier:
    """Load the classifier in a run folder, or the one whose model.safetensors is at `path`, with its config.json
    beside.

    Args:
        path: of the folder or the file.
        device: of the model.
        types: of the models of each task.

    Raises:
        InputError: there is none, or its files are damaged or don't fit each other.
    """
    given = Path(path)
    folder = given if given.is_dir() else given.parent
    weights = given if given.is_file() else folder / WEIGHTS
    origin = str(folder / CONFIG)
    config = read_json(folder / CONFIG)
    task = from_json(str, config.get("task", ImageClassifier.task), f"{origin}: task")
    if task not in types:
        raise InputError(f"{origin}: {unknown('task', task, types)}")
    model = migrate_config(_record(config, "model", origin), origin)
    stored = migrate_preprocessing(_record(config, "preprocessing", origin))
    vit_config, preprocessing = from_json(ViTConfig, model, origin), from_json(Preprocessing, stored, origin)
    check_patch_count(preprocessing.input_size, vit_config.patch_size)
    check_sizes(vit_config, weights, origin, types[task])
    try:
        vit = types[task].make_model(vit_config)
    except RuntimeError as error:
        raise InputError(f"{origin} describes a model that can't be built ({error}): restore it") from error
    fill_weights(vit, weights)
    names = from_json(tuple[str, ...], config.get("class_names"), f"{origin}: class_names")
    if names and len(names) != vit.config.num_classes:  # without names the output is a vector of features
        raise InputError(f"{origin} names {len(names)} classes, the model has {vit.config.num_classes}: restore it")
    try:
        return types[task](
            vit.to(device), preprocessing, names, config.get("problem_type"), config.get("function_to_apply")
        )
    except InputError as error:
        raise InputError(f"{origin}: {error}") from None


def _record(config: Mapping[str, Any], name: str, origin: str) -> dict[str, Any]:
    found = config.get(name, {})
    if not isinstance(found, dict):
        raise InputError(f"{origin}: {name} is no record of settings: restore it")
    return found


def check_sizes(
    config: ViTConfig, weights: Path, origin: str, model_type: type[ImageClassifier] = ImageClassifier
) -> None:
    """Compare what a configuration asks for with what a file of tensors holds, before memory is asked for.

    Raises:
        InputError: the images have too many patches, or the file holds far too little for such a model.
    """
    check_patch_count(config.image_size, config.patch_size)
    if not weights.is_file():
        return  # reported by `fill_weights`
    try:
        with safe_open(weights, "pt") as file:
            counts = [math.prod(file.get_slice(name).get_shape()) for name in file.keys()]  # noqa: SIM118 it is no mapping
    except SafetensorError:
        return  # reported by `fill_weights`
    held = sum(counts)
    limits = {"depth": len(counts), "stem_convs": len(counts), "mlp_ratio": held, "embed_dim": held}
    limits |= dict.fromkeys(("num_classes", "reg_tokens", "in_chans", "patch_size", "num_heads"), max(held, 1000))
    for name, limit in limits.items():
        if getattr(config, name) > limit:
            raise InputError(f"{origin}: {name} is {getattr(config, name)}, far more than {weights} holds: restore it")
    with torch.device("meta"):
        own = {name: tensor.numel() for name, tensor in model_type.make_model(config).state_dict().items()}
    asked = sum(count for name, count in own.items() if name != "pos_embed")  # positions may be of another grid
    if asked > 2 * held + 1000:
        raise InputError(f"{origin} describes a model of {asked} weights, but {weights} holds {held}: restore it")


def fill_weights(vit: ViT, path: Path) -> None:
    """Fill a model from a safetensors file, of this or an earlier version; positions may be of another grid.

    Raises:
        InputError: there is no such file, it is damaged, or its tensors don't fit the model.
    """
    if not path.is_file():
        raise InputError(f"{path} is not there: the run has no weights yet, train or resume it (--resume) first")
    try:
        tensors = load_file(path)
        if any(name.startswith("stem.layers.") for name in tensors):
            raise InputError(
                f"{path} has the convolutional stem of an earlier Vitreous, no longer known: train it again"
            )
        tensors = migrate_tensors(tensors, vit.config)
        if differences := _describe_differences(vit, tensors):
            raise InputError(f"{path} doesn't fit its config.json: {differences}; restore one of the two")
        vit.load_state_dict(tensors)
    except SafetensorError as error:
        raise InputError(f"{path} is damaged or no safetensors file ({error}): copy or train it again") from None
    except RuntimeError as error:  # positions that can't be resampled
        first = str(error).splitlines()[1:2]
        raise InputError(f"{path} doesn't fit its config.json: {''.join(first).strip()}") from None


def _describe_differences(vit: ViT, tensors: Mapping[str, Tensor]) -> str:
    """Name the weights of other shapes than the model's, those that are missing and those that it hasn't."""
    own = vit.state_dict()
    other = [
        f"{name} {tuple(tensors[name].shape)} instead of {tuple(one.shape)}"
        for name, one in own.items()
        if name in tensors and tensors[name].shape != one.shape and name != "pos_embed"  # which may have another grid
    ]
    missing = [name for name in own if name not in tensors]
    foreign = [name for name in tensors if name not in own]
    lists = {"other shapes": other, "missing": missing, "not in the model": foreign}
    return "; ".join(f"{what}: {_first_few(names)}" for what, names in lists.items() if names)


def _first_few(names: Sequence[str]) -> str:
    more = f" and {len(names) - MOST_NAMED:,} more" if len(names) > MOST_NAMED else ""
    return ", ".join(names[:MOST_NAMED]) + more


def is_vitreous_config(config: Mapping[str, object]) -> bool:
    """Whether this is the content of a config.json that Vitreous wrote."""
    return "model" in config and "architectures" not in config and "model_type" not in config


def is_vitreous_weights(path: Path) -> bool:
    """Whether a safetensors file holds weights that this or an earlier version of Vitreous wrote.

    Raises:
        SafetensorError: it is damaged or no safetensors file.
    """
    with safe_open(path, "pt") as file:
        return (file.metadata() or {}).get("library") == METADATA["library"] or is_earlier(file.keys())
