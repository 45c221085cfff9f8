"""The preprocessing of a module of another library: what the module states, or what is usual for it, with a note."""

from dataclasses import replace
from numbers import Integral
from pathlib import Path
from typing import Any

from torch import nn

from vitreous.callbacks import Callback
from vitreous.errors import InputError
from vitreous.files import read_json
from vitreous.hub import cached_file
from vitreous.imaging.preprocessing import Preprocessing
from vitreous.model.vit import ViT
from vitreous.pretrained.import_weights import PROCESSOR_FILES
from vitreous.pretrained.preprocessing_formats import (
    CLIP_MEAN,
    CLIP_STD,
    HALF,
    IMAGENET_MEAN,
    IMAGENET_STD,
    default_for,
    describe_preprocessing,
    from_image_processor,
    from_timm_cfg,
)

HALF_TYPES = ("vit", "beit", "data2vec-vision", "dpt", "siglip", "siglip2", "idefics2", "idefics3", "janus")
CLIP_TYPES = (
    "clip", "metaclip_2", "aimv2", "blip", "blip-2", "blip_2", "instructblip", "git", "chinese_clip", "altclip",
    "owlvit", "owlv2", "groupvit", "mlcd", "kosmos-2", "kosmos_2", "pixtral",
)  # fmt: skip
MEAN_STD = dict.fromkeys(HALF_TYPES, (HALF, HALF)) | dict.fromkeys(CLIP_TYPES, (CLIP_MEAN, CLIP_STD))
"""Mean and std of the published models of transformers' types; of all others, ImageNet's are usual."""
BGR_TYPES = ("mobilevit", "mobilevitv2")
"""Types whose images have their channels in the order blue, green, red."""


def find_preprocessing(module: nn.Module, callback: Callback) -> Preprocessing:
    """Read the preprocessing that a module states, with a patch size of 1; note what had to be assumed.

    transformers' modules don't hold their image processor: it is read from the folder that they were loaded from, or
    from the hub's cache.

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
    config = getattr(module, "config", None)
    model_type = getattr(config, "model_type", None)
    if size_hw and model_type:
        found = _of_transformers(config, size_hw)
        if found is not None:
            return found
        mean, std = MEAN_STD.get(_family(model_type), (IMAGENET_MEAN, IMAGENET_STD))
        assumed = None if model_type in BGR_TYPES else Preprocessing(size_hw, "squash", mean, std, 1)
    elif size_hw and type(module).__module__.startswith("torchvision."):
        assumed = Preprocessing(size_hw, "crop", IMAGENET_MEAN, IMAGENET_STD, 1, crop_pct=224 / 256)
    else:
        assumed = None
    if assumed is None:
        raise InputError(
            f"{type(module).__name__} doesn't state its preprocessing: use it, or let a factory return it, as vitreous."
            "wrap(model, preprocessing=vitreous.Preprocessing((height, width), 'squash', mean, std, patch_size))"
        )
    callback.on_note(
        f"{type(module).__name__} does not state its preprocessing: assuming {describe_preprocessing(assumed)}"
    )
    return assumed


def _family(model_type: str) -> str:
    """Return the type of the whole model for that of its image tower."""
    return model_type.removesuffix("_model").removesuffix("_vision")


def _of_transformers(config: Any, size_hw: tuple[int, int]) -> Preprocessing | None:
    """Read the image processor beside the weights that a transformers' module was loaded from; None if it has none."""
    name = getattr(config, "_name_or_path", None)
    if not isinstance(name, str) or not name:
        return None
    for file in PROCESSOR_FILES:
        path = Path(name) / file if Path(name).is_dir() else cached_file(name, file)
        if path is not None and path.is_file():
            default = Preprocessing(size_hw, "squash", IMAGENET_MEAN, IMAGENET_STD, 1)
            return from_image_processor(read_json(path), default)
    return None


def _image_size(module: nn.Module) -> tuple[int, int] | None:
    """Return the (height, width) of its images in pixels, where transformers, timm and torchvision store it."""
    holders = (getattr(module, "config", None), getattr(module, "patch_embed", None), module)
    for holder, name in zip(holders, ("image_size", "img_size", "image_size"), strict=True):
        size = getattr(holder, name, None)
        if isinstance(size, Integral):
            return int(size), int(size)
        if isinstance(size, (tuple, list)) and len(size) == 2:
            return int(size[0]), int(size[1])
    return None
