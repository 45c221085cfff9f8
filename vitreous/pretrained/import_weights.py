"""Build an ImageClassifier from the weights of another library, in any known format."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vitreous.callbacks import Callback
from vitreous.errors import InputError
from vitreous.files import read_json
from vitreous.hub import HubRepository, LocalRepository, Repository
from vitreous.imaging.geometry import check_patch_count
from vitreous.imaging.preprocessing import Preprocessing
from vitreous.model.classifier import ImageClassifier
from vitreous.model.config import ViTConfig
from vitreous.model.serialization import CONFIG
from vitreous.model.vit import ViT
from vitreous.pretrained.formats.announced_parts import check_announced, check_values
from vitreous.pretrained.formats.checkpoint_keys import strip_wrappers
from vitreous.pretrained.formats.registry import detect_format, unknown_prefix
from vitreous.pretrained.formats.state_dict_format import StateDictFormat
from vitreous.pretrained.formats.stored_tensors import check_stored
from vitreous.pretrained.preprocessing_formats import (
    default_for,
    describe_preprocessing,
    from_image_processor,
    from_timm_cfg,
    restore_exact,
)
from vitreous.pretrained.registry import WeightsUrl
from vitreous.pretrained.resolve import WeightsFile
from vitreous.pretrained.weight_files import check_file, read_tensors

WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")
"""Weights files of a repository, the safer one first; each may be split into several, with an index."""
CONFIG_FILES = (CONFIG, "open_clip_config.json")
PROCESSOR_FILES = ("preprocessor_config.json", "processor_config.json")
IMAGENET_LABELS = HubRepository("huggingface/label-files", repo_type="dataset"), "imagenet-1k-id2label.json"
EMBEDDING_FORMATS = ("clip", "open-clip")
"""Formats whose head returns an image-text embedding, unless the weights come with class names.

SigLIP's towers return their pooled vector; a head on one of them is a classifier.
"""


@dataclass(frozen=True)
class ExternalCheckpoint:
    """The weights of another library, and its own description of them."""

    name: str
    """What messages call it."""
    tensors: Mapping[str, Tensor] = field(repr=False)
    config: Mapping[str, Any] = field(default_factory=dict)
    """Its config.json."""
    processor: Mapping[str, Any] | None = None
    """Its preprocessor_config.json."""
    preprocessing: Preprocessing | None = None
    """From its publisher, if no file states it."""
    published: bool = False
    """Whether it was downloaded, so that the names of ImageNet's classes may be downloaded too."""


def read_checkpoint(
    source: Repository | WeightsFile | WeightsUrl, name: str, callback: Callback | None = None
) -> ExternalCheckpoint:
    """Read the weights of another library from a repository, a file or a URL.

    Args:
        source: where they are.
        name: what messages call them.
        callback: receives which of several weights in a file were taken.

    Raises:
        InputError: a file is missing or damaged, or can't be downloaded.
    """
    if isinstance(source, WeightsUrl):
        tensors = read_tensors(source.download())
        return ExternalCheckpoint(name, tensors, preprocessing=source.preprocessing, published=True)
    if not isinstance(source, WeightsFile):
        return read_repository(source, callback=callback)
    check_file(source.path)
    if source.path.name in WEIGHT_FILES and source.path.with_name(CONFIG).is_file():  # its config.json belongs to it
        return read_repository(LocalRepository(source.path.parent), source.path, callback)
    return ExternalCheckpoint(name, read_tensors(source.path, callback))


def read_repository(
    repository: Repository, weights: Path | None = None, callback: Callback | None = None
) -> ExternalCheckpoint:
    """Read the weights of a repository (or its file `weights`), and the configuration files beside them.

    Raises:
        InputError: a file is missing or damaged.
    """
    config = next((found for name in CONFIG_FILES if (found := _read_json(repository, name))), {})
    tensors: dict[str, Tensor] = {}
    for path in weight_files(repository) if weights is None else [weights]:
        tensors |= read_tensors(path, callback)
    # timm's config.json says all, and its repositories have no other file.
    names = () if config.get("pretrained_cfg") else PROCESSOR_FILES
    processor = next((found for name in names if (found := _read_json(repository, name))), None)
    return ExternalCheckpoint(
        repository.name, tensors, config, processor, published=isinstance(repository, HubRepository)
    )


def weight_files(repository: Repository) -> list[Path]:
    """Return the weights file, or all weights files, of a repository."""
    for name in WEIGHT_FILES:
        if path := repository.find(name, is_optional=True):
            return [path]
        if index := _read_json(repository, f"{name}.index.json"):
            parts = sorted(set(index.get("weight_map", {}).values()))
            found = {part: repository.find(part) for part in parts}
            if missing := [part for part, path in found.items() if path is None]:
                raise InputError(f"{repository.name} lacks {', '.join(missing)}, which its index names: fetch it again")
            return [path for path in found.values() if path is not None]
    repository.find(WEIGHT_FILES[0])  # raises if it may have one that can't be reached
    raise InputError(
        f"{repository.name} has no {' or '.join(WEIGHT_FILES)}: give a repository, folder or file with weights"
    )


def build_classifier(checkpoint: ExternalCheckpoint, device: torch.device, callback: Callback) -> ImageClassifier:
    """Build a ViT with these weights, its preprocessing and its class names.

    Raises:
        InputError: the weights are in no known format, or a ViT of Vitreous can't express the model.
    """
    checkpoint = strip_prefix(checkpoint, callback)
    try:
        state_dict_format = _find_format(checkpoint.tensors)
    except InputError as error:
        raise InputError(f"{checkpoint.name}: {error}") from None
    try:
        check_values(checkpoint.config)
        config = state_dict_format.read_config(checkpoint.tensors, checkpoint.config)
        check_patch_count(config.image_size, config.patch_size)
        check_announced(checkpoint.config, config, state_dict_format.name)
        vit = build_vit(config, state_dict_format.from_external(checkpoint.tensors, config))
        preprocessing = preprocessing_for(checkpoint, state_dict_format, config, callback)
        note_num_heads(checkpoint, state_dict_format, config, callback)
        embedding = (
            state_dict_format.name in EMBEDDING_FORMATS and _labels_in(checkpoint.config, config.num_classes) is None
        )
        names = () if embedding else class_names_for(checkpoint, config.num_classes, callback)
        problem_type, function = (checkpoint.config.get(key) for key in ("problem_type", "function_to_apply"))
        if len(names) == 1 and problem_type in (None, "single_label_classification"):
            callback.on_note(f"{checkpoint.name} has one output: its score is the sigmoid of it")
        return ImageClassifier(vit.to(device), preprocessing, names, problem_type, function)
    except InputError as error:
        raise InputError(f"{checkpoint.name}, read as {state_dict_format.name}: {error}") from None
    except (TypeError, ValueError, ArithmeticError, LookupError, AttributeError) as error:
        # config.json and the processor's file may hold anything where a number, a list or a record is expected.
        raise InputError(
            f"{checkpoint.name}, read as {state_dict_format.name}: its configuration has a value that can't be used "
            f"({type(error).__name__}: {error})"
        ) from error


def _find_format(tensors: Mapping[str, Tensor]) -> StateDictFormat:
    """Recognize the format; of weights in none, say first whether they are quantized, which renames and splits them."""
    try:
        return detect_format({name: tuple(tensor.shape) for name, tensor in tensors.items()})
    except InputError:
        check_stored(tensors)
        raise


def strip_prefix(checkpoint: ExternalCheckpoint, callback: Callback) -> ExternalCheckpoint:
    """Remove a prefix that all parameter names share, if a wrapper around the model added one; note it."""
    stripped = strip_wrappers(checkpoint.tensors)
    prefix = unknown_prefix(stripped)
    if not prefix:
        return checkpoint
    callback.on_note(f"{checkpoint.name}: '{prefix}' was removed from the names of all weights")
    return replace(
        checkpoint, tensors={name.removeprefix(prefix): checkpoint.tensors[given] for name, given in stripped.items()}
    )


def build_vit(config: ViTConfig, tensors: Mapping[str, Tensor]) -> ViT:
    """Build a model with these weights, without initializing others first."""
    with torch.device("meta"):
        vit = ViT(config)
    vit.load_state_dict(tensors, assign=True)
    return vit


def note_num_heads(
    checkpoint: ExternalCheckpoint, state_dict_format: StateDictFormat, config: ViTConfig, callback: Callback
) -> None:
    """Note that the number of heads was assumed, where neither a publisher nor a file states it."""
    key = state_dict_format.num_heads_key
    if checkpoint.config or checkpoint.published or config.qk_norm or not key:
        return
    value = config.head_dim if key == "head_width" else config.num_heads
    callback.on_note(
        f"{checkpoint.name} does not state its number of heads: assuming {config.num_heads} of width "
        f"{config.head_dim}; to give it, name the file {WEIGHT_FILES[0]} or {WEIGHT_FILES[1]} and put a config.json "
        f'with {{"{key}": {value}}} beside it'
    )


def preprocessing_for(
    checkpoint: ExternalCheckpoint, state_dict_format: StateDictFormat, config: ViTConfig, callback: Callback
) -> Preprocessing:
    """Return the preprocessing that the publisher or the files state, else the format's usual one, with a note."""
    # MAE has the parameter names of hf-vit and another preprocessing.
    kind = "mae" if checkpoint.config.get("model_type") == "vit_mae" else state_dict_format.name
    likely = default_for(kind, config)
    found = checkpoint.preprocessing
    if found is None and checkpoint.processor is not None:
        found = restore_exact(from_image_processor(checkpoint.processor, likely), checkpoint.config, in_timm=False)
    elif found is None and (description := checkpoint.config.get("pretrained_cfg")):
        found = restore_exact(from_timm_cfg(description, likely), checkpoint.config, in_timm=True)
    is_assumed = found is None
    found = likely if found is None else found
    check_patch_count(found.input_size, config.patch_size)
    found = divisible_size(found, config.patch_size, callback)
    if is_assumed:
        callback.on_note(
            f"{checkpoint.name} does not state its preprocessing: assuming {describe_preprocessing(found)}"
        )
    if len(found.mean) != config.in_chans:
        raise InputError(f"its preprocessing has {len(found.mean)} channels, its weights {config.in_chans}")
    return found


def divisible_size(preprocessing: Preprocessing, patch_size: int, callback: Callback) -> Preprocessing:
    """Round the input size down to whole patches, as a convolution does (SigLIP: 384 by 14)."""
    height, width = (max(1, side // patch_size) * patch_size for side in preprocessing.input_size)
    if (height, width) == preprocessing.input_size or preprocessing.resize_mode == "aspect":
        return preprocessing  # "aspect" makes its sizes divisible itself
    stated = " × ".join(map(str, preprocessing.input_size))
    callback.on_note(
        f"the model's own input size is {height} × {width} pixels, because {stated} is not divisible by {patch_size}"
    )
    return replace(preprocessing, input_size=(height, width))


def class_names_for(checkpoint: ExternalCheckpoint, classes: int, callback: Callback) -> tuple[str, ...]:
    """Return one name per class: those in the configuration, ImageNet's for published models of 1,000, or numbers."""
    if labels := _labels_in(checkpoint.config, classes):
        return labels
    if classes == 1000 and checkpoint.published:
        try:
            if labels := _labels_in({"id2label": _read_json(*IMAGENET_LABELS, is_optional=False)}, classes):
                return labels
        except InputError as error:
            callback.on_note(f"the names of ImageNet's classes can't be downloaded: {error}")
    if classes:
        callback.on_note(
            f"{checkpoint.name} doesn't name its {classes} classes: they are labeled class 0 to class {classes - 1}"
        )
    return tuple(f"class {index}" for index in range(classes))


def _labels_in(config: Mapping[str, Any], classes: int) -> tuple[str, ...] | None:
    """Return the names in a config.json of transformers (id2label) or timm (label_names), or None if they don't fit."""
    timm_config = config.get("pretrained_cfg") or {}
    labels, names = config.get("id2label"), config.get("label_names", timm_config.get("label_names"))
    if isinstance(labels, Mapping) and all(str(index) in labels for index in range(classes)) and len(labels) == classes:
        return tuple(str(labels[str(index)]) for index in range(classes))
    if isinstance(names, list) and len(names) == classes:
        descriptions = config.get("label_descriptions", timm_config.get("label_descriptions")) or {}
        return tuple(str(descriptions.get(name, name)) for name in names)
    return None


def _read_json(repository: Repository, name: str, *, is_optional: bool = True) -> dict[str, Any] | None:
    path = repository.find(name, is_optional=is_optional)
    return None if path is None else read_json(path)
