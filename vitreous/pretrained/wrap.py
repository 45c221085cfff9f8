"""Wrap any PyTorch module as an ImageClassifier that can be explained."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from vitreous.arguments import check_arguments
from vitreous.callbacks import Callback, LogCallback
from vitreous.errors import InputError
from vitreous.explanation.observation.model_output import extract_logits, is_feature_output
from vitreous.explanation.observation.wrapped_model import WrappedModel
from vitreous.imaging.preprocessing import Preprocessing
from vitreous.model.classifier import ImageClassifier
from vitreous.model.vit import ViT
from vitreous.pretrained.import_weights import disambiguate_names
from vitreous.pretrained.preprocessing_formats import (
    FORMAT_MEAN_STD,
    IMAGENET_MEAN,
    IMAGENET_STD,
    default_for,
    describe_preprocessing,
    from_timm_cfg,
)

MODEL_TYPES = {"vit": "hf-vit", "clip_vision_model": "clip", "siglip_vision_model": "siglip"}
"""Formats of transformers' model types whose usual mean and std are not ImageNet's."""


@check_arguments
@torch.inference_mode(mode=False)
def wrap(
    module: nn.Module,
    preprocessing: Preprocessing | None = None,
    class_names: Sequence[str] | None = None,
    *,
    callback: Callback | None = None,
) -> ImageClassifier:
    """Wrap a module that takes images (batch, channels, height, width) as an ImageClassifier.

    The module is used as it is, in evaluation mode. Every method that needs no more than `observe` finds works on it.

    Args:
        module: the model.
        preprocessing: how its images are prepared. By default it is read from the module: timm's `pretrained_cfg`,
            transformers' `config.image_size` with the usual mean of that model type, torchvision's `image_size`. For a
            ViT of Vitreous it is assumed: its `image_size`, with ImageNet's mean and std (0.5 for gray images).
        class_names: one per class, in order; an empty list for a model that returns a vector of features. By default
            those of transformers' `config.id2label`, else "class 0", "class 1" ...
        callback: `on_note` receives what was assumed, one line each; written to the log by default.

    Raises:
        InputError: the module states no preprocessing and none was given, it can't be run on such images (whatever it
            raises), or its patch size differs from the preprocessing's.
    """
    if not isinstance(module, nn.Module):
        raise InputError(f"a torch.nn.Module is needed, not {type(module).__name__}: give the model itself")
    if isinstance(module, nn.DataParallel | DistributedDataParallel):
        module = module.module  # its replicas are for batches of training
    if any(weight.is_inference() for weight in module.parameters()):
        raise InputError(
            "the model was made in torch.inference_mode, which prevents gradients: make it outside of that"
        )
    module.eval()
    preprocessing_found = preprocessing or find_preprocessing(module, callback or LogCallback())
    outputs = _try_model(module, preprocessing_found)
    classes = extract_logits(outputs).shape[1]
    names = _class_names(module, outputs, classes) if class_names is None else tuple(class_names)
    if len(names) not in (0, classes):
        raise InputError(f"{len(names)} class names were given, but the model has {classes} outputs")
    model = module if isinstance(module, ViT) else WrappedModel(module)
    return ImageClassifier(
        model, _with_patch_size(model, preprocessing_found, is_given=preprocessing is not None), names
    )


def find_preprocessing(module: nn.Module, callback: Callback) -> Preprocessing:
    """Read the preprocessing that a module states, with a patch size of 1; for our own ViT, assume one and note it.

    Raises:
        InputError: it states none.
    """
    if isinstance(module, ViT):
        assumed = replace(default_for("vitreous", module.config), input_size=module.config.image_size)
        callback.on_note(f"this ViT does not state its preprocessing: assuming {describe_preprocessing(assumed)}")
        return assumed
    timm_cfg = getattr(module, "pretrained_cfg", None) or getattr(module, "default_cfg", None)
    size_hw = _image_size(module)
    if isinstance(timm_cfg, dict) and (size_hw or timm_cfg.get("input_size")):
        size_hw = size_hw or (timm_cfg["input_size"][1], timm_cfg["input_size"][2])
        default = Preprocessing(size_hw, "crop", IMAGENET_MEAN, IMAGENET_STD, 1)
        return from_timm_cfg({**timm_cfg, "input_size": (3, *size_hw)}, default)
    model_type = getattr(getattr(module, "config", None), "model_type", None)
    if size_hw and model_type:
        mean, std = FORMAT_MEAN_STD.get(MODEL_TYPES.get(model_type, ""), (IMAGENET_MEAN, IMAGENET_STD))
        return Preprocessing(size_hw, "squash", mean, std, 1)
    if size_hw and type(module).__module__.startswith("torchvision."):
        return Preprocessing(size_hw, "crop", IMAGENET_MEAN, IMAGENET_STD, 1, crop_pct=224 / 256)
    raise InputError(
        f"{type(module).__name__} doesn't state its preprocessing: use it, or let a factory return it, as "
        "vitreous.wrap(model, preprocessing=vitreous.Preprocessing((height, width), 'squash', mean, std, patch_size))"
    )


def _image_size(module: nn.Module) -> tuple[int, int] | None:
    """Return the (height, width) of its images in pixels, where transformers, timm and torchvision store it."""
    holders = (getattr(module, "config", None), getattr(module, "patch_embed", None), module)
    for holder, name in zip(holders, ("image_size", "img_size", "image_size"), strict=True):
        size = getattr(holder, name, None)
        if isinstance(size, int):
            return size, size
        if isinstance(size, (tuple, list)) and len(size) == 2:
            return int(size[0]), int(size[1])
    return None


def _find_patch_size(model: WrappedModel | ViT, noise: Tensor) -> int | None:
    """Return the side of a patch in pixels; None if the model's tokens can't be found.

    Raises:
        InputError: patches are not square.
    """
    if isinstance(model, ViT):
        return model.config.patch_size
    try:
        height, width = model.structure(noise).patch_hw
    except InputError:
        return None
    if height != width:
        raise InputError(f"the model's patches are {height} x {width} pixels: only square ones can be wrapped")
    return height


def _with_patch_size(model: WrappedModel | ViT, preprocessing: Preprocessing, *, is_given: bool) -> Preprocessing:
    """Return the preprocessing with the model's own patch size."""
    patch = _find_patch_size(model, _test_image(model, preprocessing))
    if patch is None or patch == preprocessing.patch_size:
        return preprocessing
    if is_given:
        raise InputError(
            f"the preprocessing has patch_size={preprocessing.patch_size}, but the model's patches are {patch} pixels: "
            f"give {patch}"
        )
    return replace(preprocessing, patch_size=patch)


def _test_image(model: nn.Module, preprocessing: Preprocessing) -> Tensor:
    """Make a random image of the model's size, on its device, in which all patches differ."""
    weight = next(model.parameters(), torch.zeros(1))
    shape = (1, len(preprocessing.mean), *preprocessing.input_size)
    return torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(weight.device, weight.dtype)


@torch.no_grad()
def _try_model(module: nn.Module, preprocessing: Preprocessing) -> Any:
    """Run the module on a random image of its size."""
    try:
        return module(_test_image(module, preprocessing))
    except Exception as error:  # the user's code may raise anything
        height, width = preprocessing.input_size
        raise InputError(
            f"{type(module).__name__} can't be run on an image of {height} x {width} pixels with "
            f"{len(preprocessing.mean)} channels: {describe_exception(error)}"
        ) from error


def describe_exception(error: BaseException) -> str:
    """Describe an exception in one line: its type and the first line of its message.

    >>> describe_exception(KeyError("size")), describe_exception(AssertionError())
    ("KeyError: 'size'", 'AssertionError')
    """
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def _class_names(module: nn.Module, outputs: Any, classes: int) -> tuple[str, ...]:
    """Return the module's class names, numbers if it has none, nothing for a vector of features."""
    no_head = isinstance(module, ViT) and not module.config.num_classes
    if no_head or is_feature_output(outputs) or getattr(module, "num_classes", None) == 0:
        return ()
    labels = getattr(getattr(module, "config", None), "id2label", None)
    if isinstance(labels, dict) and set(labels) == set(range(classes)):
        return disambiguate_names([str(labels[index]) for index in range(classes)])
    return tuple(f"class {index}" for index in range(classes))
