"""A ready Classifier from weights that another library made, in any layout that we know."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vitreous.errors import InputError
from vitreous.files import read_json
from vitreous.hub import HubRepository, Repository
from vitreous.imaging.preprocessing import Preprocessing
from vitreous.model.classifier import ImageClassifier
from vitreous.model.config import ViTConfig
from vitreous.model.vit import ViT
from vitreous.pretrained.formats.checkpoint_keys import strip_wrappers
from vitreous.pretrained.formats.registry import find_format, unknown_prefix
from vitreous.pretrained.formats.state_dict_format import StateDictFormat
from vitreous.pretrained.preprocessing_formats import assumed, from_processor, from_timm, restored
from vitreous.pretrained.weight_files import read_tensors

Note = Callable[[str], object]

WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")
"""The files that hold a repository's weights, the safer first; each may be cut into several, with an index."""
PROCESSORS = ("preprocessor_config.json", "processor_config.json")
LABELS = HubRepository("huggingface/label-files", kind="dataset"), "imagenet-1k-id2label.json"
EMBEDDINGS = ("clip", "open-clip")
"""Layouts whose head makes a vector to be compared with a text's, unless the weights come with a name for each number.

SigLIP's towers answer with their pooled vector, and a head of theirs is a classifier.
"""


@dataclass(frozen=True)
class Foreign:
    """What another library left: weights, and what it says of them."""

    name: str
    """What messages call it."""
    tensors: Mapping[str, Tensor] = field(repr=False)
    config: Mapping[str, Any] = field(default_factory=dict)
    """Its config.json."""
    processor: Mapping[str, Any] | None = None
    """Its preprocessor_config.json."""
    preprocessing: Preprocessing | None = None
    """What its publisher says of the images, where no file does."""
    published: bool = False
    """Whether it comes from the web, so that the names of ImageNet's classes may be fetched from there too."""


def read_repository(repository: Repository, weights: Path | None = None) -> Foreign:
    """Read the weights of a repository in the hub's layout (or the file `weights` of it), and what lies beside them.

    Raises:
        InputError: a file is missing or damaged.
    """
    config = _read_json(repository, "config.json") or _read_json(repository, "open_clip_config.json") or {}
    tensors: dict[str, Tensor] = {}
    for path in weight_files(repository) if weights is None else [weights]:
        tensors |= read_tensors(path)
    processor = next((found for name in PROCESSORS if (found := _read_json(repository, name))), None)
    return Foreign(repository.name, tensors, config, processor, published=isinstance(repository, HubRepository))


def weight_files(repository: Repository) -> list[Path]:
    """The file, or all the files, that a repository's weights are in."""
    for name in WEIGHT_FILES:
        if path := repository.find(name):
            return [path]
        if index := _read_json(repository, f"{name}.index.json"):
            parts = sorted(set(index.get("weight_map", {}).values()))
            found = {part: repository.find(part) for part in parts}
            if missing := [part for part, path in found.items() if path is None]:
                raise InputError(f"{repository.name} lacks {', '.join(missing)}, which its index names: fetch it again")
            return [path for path in found.values() if path is not None]
    raise InputError(
        f"{repository.name} holds no {' or '.join(WEIGHT_FILES)}: give a repository, folder or file that does"
    )


def build_classifier(foreign: Foreign, device: torch.device, note: Note) -> ImageClassifier:
    """Our model with these weights, and the preprocessing and class names that belong to it.

    Raises:
        InputError: the weights are in no layout that we know, or ours can't express the model.
    """
    if "patch_embed.proj.weight" in foreign.tensors:
        raise InputError(f"{foreign.name} is a model of Vitreous without its config.json: put that beside it")
    foreign = without_beginning(foreign, note)
    try:
        layout = find_format({name: tuple(tensor.shape) for name, tensor in foreign.tensors.items()})
    except InputError as error:
        raise InputError(f"{foreign.name}: {error}") from None
    try:
        config = layout.read_config(foreign.tensors, foreign.config)
        vit = fill(config, layout.from_external(foreign.tensors, config))
        preprocessing = preprocessing_of(foreign, layout, config, note)
        embedding = layout.name in EMBEDDINGS and _names(foreign.config, config.num_classes) is None
        names = () if embedding else class_names_of(foreign, config.num_classes, note)
        return ImageClassifier(vit.to(device), preprocessing, names)
    except InputError as error:
        raise InputError(f"{foreign.name}, read as {layout.name}: {error}") from None


def without_beginning(foreign: Foreign, note: Note) -> Foreign:
    """Weights by names without what a model around theirs put before all of them, with a note where there is such."""
    bare = strip_wrappers(foreign.tensors)
    beginning = unknown_prefix(bare)
    if not beginning:
        return foreign
    note(f"{foreign.name}: '{beginning}' stands before the names of all its weights, and is left out")
    return replace(
        foreign, tensors={name.removeprefix(beginning): foreign.tensors[given] for name, given in bare.items()}
    )


def fill(config: ViTConfig, tensors: Mapping[str, Tensor]) -> ViT:
    """A model with these weights; none are drawn only to be thrown away."""
    with torch.device("meta"):
        vit = ViT(config)
    vit.load_state_dict(tensors, assign=True)
    return vit


def preprocessing_of(foreign: Foreign, layout: StateDictFormat, config: ViTConfig, note: Note) -> Preprocessing:
    """What is said of the images, by the publisher or in the files; where nothing is, what is usual, with a note."""
    kind = "mae" if foreign.config.get("model_type") == "vit_mae" else layout.name  # the same names, other images
    likely = assumed(kind, config)
    if foreign.preprocessing is not None:
        found = foreign.preprocessing
    elif foreign.processor is not None:
        found = restored(from_processor(foreign.processor, likely), foreign.config, in_timm=False)
    elif description := foreign.config.get("pretrained_cfg"):
        found = restored(from_timm(description, likely), foreign.config, in_timm=True)
    else:
        found = likely
        sides = " × ".join(map(str, found.input_size))
        mean, std = (", ".join(f"{value:.3g}" for value in values) for values in (found.mean, found.std))
        how = {"crop": "cropped to", "squash": "squashed to"}.get(found.resize_mode, "taken whole, with the area of")
        pixels = f"{sides} pixels, with mean {mean} and deviation {std}"
        note(f"{foreign.name} says nothing of its images: they are {how} {pixels}")
    found = whole_patches(found, config.patch_size, note)
    if len(found.mean) != config.in_chans:
        raise InputError(f"its images have {len(found.mean)} channels by their mean, its weights {config.in_chans}")
    return found


def whole_patches(preprocessing: Preprocessing, patch_size: int, note: Note) -> Preprocessing:
    """Images without what is left beside the last patch, as a convolution takes them (SigLIP: 384 by 14)."""
    height, width = (max(1, side // patch_size) * patch_size for side in preprocessing.input_size)
    if (height, width) == preprocessing.input_size or preprocessing.resize_mode == "aspect":
        return preprocessing  # "aspect" makes whole patches itself
    note(f"images are taken at {height} × {width} pixels, the whole patches of {preprocessing.input_size}")
    return replace(preprocessing, input_size=(height, width))


def class_names_of(foreign: Foreign, classes: int, note: Note) -> tuple[str, ...]:
    """One name a class: those that come with the weights, ImageNet's for published models of 1,000, or numbers."""
    if named := _names(foreign.config, classes):
        return told_apart(named)
    if classes == 1000 and foreign.published:
        try:
            if named := _names({"id2label": _read_json(*LABELS)}, classes):
                return told_apart(named)
        except InputError as error:
            note(f"the names of ImageNet's classes are not to be had: {error}")
    if classes:
        note(f"{foreign.name} doesn't name its {classes} classes: they are called class 0 to class {classes - 1}")
    return tuple(f"class {index}" for index in range(classes))


def told_apart(names: Sequence[str]) -> tuple[str, ...]:
    """Names of which several are alike with their class's number added: ImageNet has two cranes.

    >>> told_apart(["crane", "cat", "crane"])
    ('crane (class 0)', 'cat', 'crane (class 2)')
    """
    alike = {name for name, count in Counter(names).items() if count > 1}
    return tuple(f"{name} (class {index})" if name in alike else name for index, name in enumerate(names))


def _names(config: Mapping[str, Any], classes: int) -> tuple[str, ...] | None:
    """The names in a config.json of transformers (id2label) or timm (label_names), or None where they don't fit."""
    inner = config.get("pretrained_cfg") or {}
    labels, listed = config.get("id2label"), config.get("label_names", inner.get("label_names"))
    if isinstance(labels, Mapping) and all(str(index) in labels for index in range(classes)) and len(labels) == classes:
        return tuple(str(labels[str(index)]) for index in range(classes))
    if isinstance(listed, list) and len(listed) == classes:
        said = config.get("label_descriptions", inner.get("label_descriptions")) or {}
        return tuple(str(said.get(name, name)) for name in listed)
    return None


def _read_json(repository: Repository, name: str) -> dict[str, Any] | None:
    path = repository.find(name)
    return None if path is None else read_json(path)
