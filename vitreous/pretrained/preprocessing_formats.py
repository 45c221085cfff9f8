"""Convert the preprocessing configurations of timm and transformers to Preprocessing and back."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from vitreous.callbacks import Callback
from vitreous.errors import InputError
from vitreous.imaging.preprocessing import INTERPOLATIONS, Preprocessing
from vitreous.model.config import ViTConfig
from vitreous.model.migration import migrate_preprocessing
from vitreous.records import from_dict, to_dict

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
HALF = (0.5, 0.5, 0.5)
# Radford et al. 2021: the statistics of CLIP's own training images, as in its published code.
CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)

PILLOW_FILTERS = {2: "bilinear", 3: "bicubic"}
"""Pillow's numbers for the filters that we have, which transformers uses."""
KNOWN_STEPS = (
    "do_resize", "do_center_crop", "do_rescale", "do_normalize", "do_convert_rgb", "do_reduce_labels",
    "do_convert_annotations",
)  # fmt: skip
"""Steps of transformers' image processors that are read, or that don't concern predictions."""
MAX_CROP_DIFFERENCE = 0.01
"""By how much the cropped fractions of height and width may differ: the rounding of a resized side."""
OTHER_SETTINGS = ("keep_aspect_ratio", "rescale_offset", "include_top", "crop_to_patches", "max_num_patches")
"""Settings of transformers' image processors that change the pixels in ways that we don't have."""

FORMAT_MEAN_STD = {
    "clip": (CLIP_MEAN, CLIP_STD),
    "open-clip": (CLIP_MEAN, CLIP_STD),
    "siglip": (HALF, HALF),
    "npz": (HALF, HALF),
    "big-vision": (HALF, HALF),
    "timm": (HALF, HALF),
    "hf-vit": (HALF, HALF),
}
"""Mean and std of a format's best-known models, for weights without a config; ImageNet's for all other formats."""

DEFAULT_SIDE = 224

EXACT_PREPROCESSING = "vitreous_preprocessing"
"""Key in a config.json for other libraries that stores what they have no field for; they ignore it."""


def default_for(format_name: str, config: ViTConfig) -> Preprocessing:
    """Return the usual preprocessing of a format, for weights without a config.

    The input size is the one that the positions were learned for; more than twice 224 pixels per side become 224, as
    for DINOv2 (learned at 518, evaluated at 224). Models with classes crop the center and SigLIP squashes, as they were
    trained; for features alone nothing is cropped: "aspect".
    """
    mean, std = FORMAT_MEAN_STD.get(format_name, (IMAGENET_MEAN, IMAGENET_STD))
    if config.in_chans != len(mean):
        mean, std = (0.5,) * config.in_chans, (0.5,) * config.in_chans
    size_hw = config.image_size
    if size_hw[0] == size_hw[1] > 2 * DEFAULT_SIDE and DEFAULT_SIDE % config.patch_size == 0:
        size_hw = (DEFAULT_SIDE, DEFAULT_SIDE)
    resize = "squash" if format_name == "siglip" else "crop" if config.num_classes else "aspect"
    return Preprocessing(size_hw, resize, mean, std, config.patch_size)


def describe_preprocessing(preprocessing: Preprocessing) -> str:
    """Describe a preprocessing in a few words, for a note that it was assumed.

    >>> describe_preprocessing(Preprocessing(32, "crop", (0.5,), (0.25,), patch_size=4))
    "resize_mode 'crop' at 32 × 32 pixels, with mean 0.5 and std 0.25"
    """
    sides = " × ".join(map(str, preprocessing.input_size))
    mean, std = (", ".join(f"{value:.3g}" for value in values) for values in (preprocessing.mean, preprocessing.std))
    return f"resize_mode '{preprocessing.resize_mode}' at {sides} pixels, with mean {mean} and std {std}"


def from_timm_cfg(description: Mapping[str, Any], default: Preprocessing) -> Preprocessing:
    """Read timm's `pretrained_cfg`; missing fields are taken from `default`.

    Raises:
        InputError: its crop_mode or interpolation is not supported.
    """
    size_hw = tuple(description.get("input_size", (3, *default.input_size))[1:])
    interpolation = description.get("interpolation") or "bicubic"
    if interpolation not in INTERPOLATIONS:
        raise InputError(
            f"timm's interpolation '{interpolation}' is not supported: make it one of {', '.join(INTERPOLATIONS)} in "
            "config.json"
        )
    mode = description.get("crop_mode") or "center"
    if mode not in ("center", "squash"):
        raise InputError(f"timm's crop_mode '{mode}' is not supported: make it 'center' or 'squash' in config.json")
    return replace(
        default,
        input_size=size_hw,
        resize_mode="squash" if mode == "squash" else "crop",
        mean=_per_channel(description.get("mean"), default.mean),
        std=_per_channel(description.get("std"), default.std),
        crop_pct=float(description.get("crop_pct") or 1.0),
        interpolation=interpolation,
    )


def from_image_processor(description: Mapping[str, Any], default: Preprocessing) -> Preprocessing:
    """Read transformers' preprocessor_config.json; missing fields are taken from `default`.

    A shorter side without a crop (images of any shape) becomes the central square.

    Raises:
        InputError: a setting makes other pixels than ours can be.
    """
    description = description.get("image_processor", description)
    _check_steps(description)
    resize, size_hw, crop_pct = _parse_resizing(description, default)
    mean, std = (
        _per_channel(description.get("image_mean"), default.mean),
        _per_channel(description.get("image_std"), default.std),
    )
    if description.get("do_normalize") is False:
        mean, std = (0.0,) * len(mean), (1.0,) * len(std)
    factor = float(description.get("rescale_factor") or 1 / 255) if description.get("do_rescale", True) else 1.0
    scale = 255 * factor  # they multiply bytes by the factor, we divide by 255
    return replace(
        default,
        input_size=size_hw,
        resize_mode=resize,
        mean=tuple(value / scale for value in mean),
        std=tuple(value / scale for value in std),
        crop_pct=crop_pct,
        interpolation=PILLOW_FILTERS[description.get("resample") or 3],
    )


def _check_steps(description: Mapping[str, Any]) -> None:
    """Refuse an image processor that does something to the pixels that we don't.

    Raises:
        InputError: it does; the message names the setting.
    """
    steps = [key for key, value in description.items() if key.startswith("do_") and value and key not in KNOWN_STEPS]
    others = [key for key in OTHER_SETTINGS if description.get(key)]
    for key in steps + others:
        raise _unsupported(description, key)
    if not description.get("do_resize", True):
        raise _unsupported(description, "do_resize")
    if description.get("resample") not in (None, *PILLOW_FILTERS):
        raise _unsupported(description, "resample")


def _unsupported(description: Mapping[str, Any], key: str) -> InputError:
    return InputError(
        f"the image processor's {key}={description.get(key)!r} is not supported: change it in "
        f"preprocessor_config.json, or wrap the model with a preprocessing of your own"
    )


def _parse_resizing(description: Mapping[str, Any], default: Preprocessing) -> tuple[str, tuple[int, int], float]:
    """Return the resize mode, the input size and the crop_pct.

    Raises:
        InputError: the crop has another aspect ratio than what it is cut from, or is larger.
    """
    size, crop = description.get("size"), description.get("crop_size")
    is_cropped = crop is not None and description.get("do_center_crop", True)
    crop_size = _height_width(crop if is_cropped else size, default.input_size)
    is_squashed = isinstance(size, Mapping) and "height" in size
    kind = str(description.get("image_processor_type") or description.get("feature_extractor_type") or "")
    if isinstance(size, int):  # the old form: a shorter side where a crop follows, except in DeiT's
        is_squashed = not is_cropped or kind.startswith("DeiT")
    if description.get("crop_pct") and kind.startswith("ConvNext"):
        is_squashed = max(crop_size) >= 384  # its own rule: larger images are not cropped
        return "squash" if is_squashed else "crop", crop_size, 1.0 if is_squashed else float(description["crop_pct"])
    if description.get("crop_pct"):
        raise _unsupported(description, "crop_pct")
    if not is_cropped:
        return "squash" if is_squashed else "crop", crop_size, 1.0
    resized = _height_width(size, crop_size)
    if any(cropped > whole for cropped, whole in zip(crop_size, resized, strict=True)):
        raise _unsupported(description, "crop_size")  # they pad it with black
    fractions = [cropped / whole for cropped, whole in zip(crop_size, resized, strict=True)]
    if abs(fractions[0] - fractions[1]) > MAX_CROP_DIFFERENCE:
        raise _unsupported(description, "crop_size")
    return "squash" if is_squashed else "crop", crop_size, min(fractions)


def _height_width(size: Any, default: tuple[int, int]) -> tuple[int, int]:
    """Read a size in any of transformers' forms.

    Raises:
        InputError: it limits the sides without stating them.
    """
    if isinstance(size, Mapping):
        if unknown_keys := [key for key in size if key not in ("height", "width", "shortest_edge") and size[key]]:
            raise InputError(
                f"the image processor's size has {unknown_keys[0]}: use height and width, or shortest_edge"
            )
        side = size.get("shortest_edge", default[0])
        return int(size.get("height", side)), int(size.get("width", side))
    if isinstance(size, (list, tuple)):
        return int(size[0]), int(size[-1])
    return default if size is None else (int(size), int(size))


def _per_channel(values: Any, default: tuple[float, ...]) -> tuple[float, ...]:
    """Return one number per channel."""
    if values is None:
        return default
    return tuple(map(float, values)) if isinstance(values, (list, tuple)) else (float(values),) * len(default)


def to_representable(preprocessing: Preprocessing, callback: Callback) -> Preprocessing:
    """Return the nearest preprocessing that other libraries can express, with a note if it differs."""
    height, width = preprocessing.input_size
    if preprocessing.resize_mode == "squash" or (preprocessing.resize_mode == "crop" and height == width):
        return preprocessing
    resize = "crop" if height == width else "squash"
    callback.on_note(
        f"other libraries have no '{preprocessing.resize_mode}' at {height} × {width}: they get '{resize}', and will "
        f"use other pixels than Vitreous, which reads its own rule from config.json ({EXACT_PREPROCESSING})"
    )
    return replace(preprocessing, resize_mode=resize)


def save_exact(preprocessing: Preprocessing, *, in_timm: bool) -> dict[str, Any]:
    """Return what config.json must store besides the other library's fields, if these can't express everything."""
    read_back = _read_back(preprocessing, preprocessing, in_timm=in_timm)
    return {} if read_back == preprocessing else {EXACT_PREPROCESSING: to_dict(preprocessing)}


def restore_exact(found: Preprocessing, description: Mapping[str, Any], *, in_timm: bool) -> Preprocessing:
    """Return the preprocessing that `save_exact` stored, if the other library's fields, read as `found`, still agree.

    Raises:
        InputError: it is damaged.
    """
    if EXACT_PREPROCESSING not in description:
        return found
    own = from_dict(
        Preprocessing, migrate_preprocessing(description[EXACT_PREPROCESSING]), f"config.json: {EXACT_PREPROCESSING}"
    )
    return own if _read_back(own, found, in_timm=in_timm) == found else found


def _read_back(preprocessing: Preprocessing, default: Preprocessing, *, in_timm: bool) -> Preprocessing:
    """Convert a preprocessing to another library's fields and back."""
    nearest = to_representable(preprocessing, Callback())
    if in_timm:
        return from_timm_cfg(to_timm_cfg(nearest), default)
    return from_image_processor(to_image_processor(nearest), default)


def to_timm_cfg(preprocessing: Preprocessing) -> dict[str, Any]:
    """Convert to timm's `pretrained_cfg`."""
    return {
        "input_size": [len(preprocessing.mean), *preprocessing.input_size],
        "interpolation": preprocessing.interpolation,
        "crop_pct": preprocessing.crop_pct,
        "crop_mode": "squash" if preprocessing.resize_mode == "squash" else "center",
        "mean": list(preprocessing.mean),
        "std": list(preprocessing.std),
    }


def to_image_processor(preprocessing: Preprocessing) -> dict[str, Any]:
    """Convert to transformers' preprocessor_config.json."""
    height, width = preprocessing.input_size
    is_cropped, is_squashed = (
        preprocessing.crop_pct < 1 or preprocessing.resize_mode == "crop",
        preprocessing.resize_mode == "squash",
    )
    resized = [round(side / preprocessing.crop_pct) for side in (height, width)]
    kind = "BitImageProcessor" if not is_squashed else "DeiTImageProcessor" if is_cropped else "ViTImageProcessor"
    description = {
        "image_processor_type": kind,
        "do_resize": True,
        "size": {"height": resized[0], "width": resized[1]} if is_squashed else {"shortest_edge": min(resized)},
        "resample": next(number for number, name in PILLOW_FILTERS.items() if name == preprocessing.interpolation),
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(preprocessing.mean),
        "image_std": list(preprocessing.std),
    }
    if is_cropped:
        description |= {"do_center_crop": True, "crop_size": {"height": height, "width": width}}
    return description
