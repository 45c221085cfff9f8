"""A module of anyone's as a Classifier that answers on real images and can be explained."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from vitreous.errors import InputError
from vitreous.explanation.observation.model_output import extract_logits, is_features
from vitreous.explanation.observation.wrapped_model import WrappedModel
from vitreous.imaging.preprocessing import Preprocessing
from vitreous.model.classifier import ImageClassifier
from vitreous.model.vit import ViT
from vitreous.pretrained.import_weights import told_apart
from vitreous.pretrained.preprocessing_formats import ASSUMED, IMAGENET_MEAN, IMAGENET_STD, from_timm

MODEL_TYPES = {"vit": "hf-vit", "clip_vision_model": "clip", "siglip_vision_model": "siglip"}
"""transformers' kinds of models whose usual mean and std aren't ImageNet's, as ASSUMED calls them."""


@torch.inference_mode(mode=False)
def wrap(
    module: nn.Module, preprocessing: Preprocessing | None = None, class_names: Sequence[str] | None = None
) -> ImageClassifier:
    """A Classifier around any module that takes images (batch, channels, height, width), used as it is.

    The module is put in evaluation mode. Every method works on the result that needs no more than what `observe` sees.

    Args:
        module: the model.
        preprocessing: what its images must be like. By default as the module itself says: timm's `pretrained_cfg`,
            transformers' `config.image_size` with that model type's usual mean, torchvision's `image_size`.
        class_names: one a class, in order; an empty list for a model whose answer is a vector of features. By default
            those of transformers' `config.id2label`, else "class 0", "class 1" ...

    Raises:
        InputError: the module says nothing of its images and nothing was given, it can't be run on such images
            (whatever it raises), or its patches are of another size than the preprocessing says.
    """
    if not isinstance(module, nn.Module):
        raise InputError(f"a torch.nn.Module is wanted, not {type(module).__name__}: give the model itself")
    if any(weight.is_inference() for weight in module.parameters()):
        raise InputError(
            "the model was made in torch.inference_mode, where no gradient passes: make it outside of that"
        )
    module.eval()
    found = preprocessing or find_preprocessing(module)
    outputs = _first_answer(module, found)
    classes = extract_logits(outputs).shape[1]
    names = _class_names(module, outputs, classes) if class_names is None else tuple(class_names)
    if len(names) not in (0, classes):
        raise InputError(f"{len(names)} class names were given, but the model answers with {classes} numbers")
    model = module if isinstance(module, ViT) else WrappedModel(module)
    return ImageClassifier(model, _checked(model, found, given=preprocessing is not None), names)


def find_preprocessing(module: nn.Module) -> Preprocessing:
    """What a module says of its own images; the patch size is left at 1.

    Raises:
        InputError: nothing.
    """
    told = getattr(module, "pretrained_cfg", None) or getattr(module, "default_cfg", None)
    size_hw = _size(module)
    if isinstance(told, dict) and (size_hw or told.get("input_size")):
        size_hw = size_hw or (told["input_size"][1], told["input_size"][2])
        likely = Preprocessing(size_hw, "crop", IMAGENET_MEAN, IMAGENET_STD, 1)
        return from_timm({**told, "input_size": (3, *size_hw)}, likely)
    kind = getattr(getattr(module, "config", None), "model_type", None)
    if size_hw and kind:
        mean, std = ASSUMED.get(MODEL_TYPES.get(kind, ""), (IMAGENET_MEAN, IMAGENET_STD))
        return Preprocessing(size_hw, "squash", mean, std, 1)
    if size_hw and type(module).__module__.startswith("torchvision."):
        return Preprocessing(size_hw, "crop", IMAGENET_MEAN, IMAGENET_STD, 1, crop_pct=224 / 256)
    raise InputError(
        f"{type(module).__name__} doesn't say what its images must be like: use it, or let a factory return it, as "
        "vitreous.wrap(model, preprocessing=vitreous.Preprocessing((height, width), 'squash', mean, std, patch_size))"
    )


def _size(module: nn.Module) -> tuple[int, int] | None:
    """The (height, width) of its images in pixels, as transformers, timm and torchvision keep it."""
    places = (getattr(module, "config", None), getattr(module, "patch_embed", None), module)
    for place, name in zip(places, ("image_size", "img_size", "image_size"), strict=True):
        size = getattr(place, name, None)
        if isinstance(size, int):
            return size, size
        if isinstance(size, (tuple, list)) and len(size) == 2:
            return int(size[0]), int(size[1])
    return None


def _patch(model: WrappedModel | ViT, noise: Tensor) -> int | None:
    """The side of a patch in pixels; None where the model's tokens can't be seen, so that it has none.

    Raises:
        InputError: patches aren't square.
    """
    if isinstance(model, ViT):
        return model.config.patch_size
    try:
        layout = model.structure(noise).layout
    except InputError:
        return None
    height, width = noise.shape[2] // layout.grid_height, noise.shape[3] // layout.grid_width
    if height != width:
        raise InputError(f"the model's patches are {height} x {width} pixels: only square ones can be wrapped")
    return height


def _checked(model: WrappedModel | ViT, preprocessing: Preprocessing, *, given: bool) -> Preprocessing:
    """The preprocessing with the model's own patch size."""
    patch = _patch(model, _noise(model, preprocessing))
    if patch is None or patch == preprocessing.patch_size:
        return preprocessing
    if given:
        raise InputError(
            f"the preprocessing says patch_size={preprocessing.patch_size}, but the model's patches are {patch} pixels: "
            f"give {patch}"
        )
    return replace(preprocessing, patch_size=patch)


def _noise(model: nn.Module, preprocessing: Preprocessing) -> Tensor:
    """An image of the model's size, on its device, in which no patch is like another."""
    weight = next(model.parameters(), torch.zeros(1))
    shape = (1, len(preprocessing.mean), *preprocessing.input_size)
    return torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(weight.device, weight.dtype)


@torch.no_grad()
def _first_answer(module: nn.Module, preprocessing: Preprocessing) -> Any:
    """What the module answers to some image of its size."""
    try:
        return module(_noise(module, preprocessing))
    except Exception as error:  # whatever the user's own code raises
        height, width = preprocessing.input_size
        raise InputError(
            f"{type(module).__name__} can't be run on an image of {height} x {width} pixels with "
            f"{len(preprocessing.mean)} channels: {in_one_line(error)}"
        ) from error


def in_one_line(error: BaseException) -> str:
    """An error of someone else's: its type, and the first line of what it says.

    >>> in_one_line(KeyError("size")), in_one_line(AssertionError())
    ("KeyError: 'size'", 'AssertionError')
    """
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def _class_names(module: nn.Module, outputs: Any, classes: int) -> tuple[str, ...]:
    """The names that the module brings, numbers for others, none for a vector of features."""
    no_head = isinstance(module, ViT) and not module.config.num_classes
    if no_head or is_features(outputs) or getattr(module, "num_classes", None) == 0:
        return ()
    labels = getattr(getattr(module, "config", None), "id2label", None)
    if isinstance(labels, dict) and set(labels) == set(range(classes)):
        return told_apart([str(labels[index]) for index in range(classes)])
    return tuple(f"class {index}" for index in range(classes))
