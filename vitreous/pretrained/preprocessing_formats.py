"""How other libraries say what a model's images must be like, as our Preprocessing and back."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from vitreous.errors import InputError
from vitreous.imaging.preprocessing import Preprocessing
from vitreous.model.config import ViTConfig
from vitreous.model.migration import migrate_preprocessing
from vitreous.records import from_dict, to_dict

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
HALF = (0.5, 0.5, 0.5)
# Radford et al. 2021: the statistics of CLIP's own training images, as in its published code.
CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)

PILLOW_FILTERS = {2: "bilinear", 3: "bicubic"}
"""Pillow's numbers, by which transformers calls filters; the others become bicubic."""

ASSUMED = {
    "clip": (CLIP_MEAN, CLIP_STD),
    "open-clip": (CLIP_MEAN, CLIP_STD),
    "siglip": (HALF, HALF),
    "npz": (HALF, HALF),
    "big-vision": (HALF, HALF),
    "timm": (HALF, HALF),
    "hf-vit": (HALF, HALF),
}
"""Mean and std of a layout's best-known models, for weights that come alone; ImageNet's for all other layouts."""

USUAL_SIDE = 224

KEPT = "vitreous_preprocessing"
"""Where a config.json that we write for others keeps what they have no words for; they pass over it."""


def assumed(layout: str, config: ViTConfig) -> Preprocessing:
    """What weights want that come without a word about it, at the size that their positions were learned for.

    A larger table than twice 224 pixels a side is used at 224, as DINOv2's is (518 learned, evaluated at 224). Models
    with classes see the central square, SigLIP the whole image squashed, as they learned to; features alone have no
    reason to lose anything: "aspect".
    """
    mean, std = ASSUMED.get(layout, (IMAGENET_MEAN, IMAGENET_STD))
    if config.in_chans != len(mean):
        mean, std = (0.5,) * config.in_chans, (0.5,) * config.in_chans
    size_hw = config.image_size
    if size_hw[0] == size_hw[1] > 2 * USUAL_SIDE and USUAL_SIDE % config.patch_size == 0:
        size_hw = (USUAL_SIDE, USUAL_SIDE)
    resize = "squash" if layout == "siglip" else "crop" if config.num_classes else "aspect"
    return Preprocessing(size_hw, resize, mean, std, config.patch_size)


def from_timm(description: Mapping[str, Any], likely: Preprocessing) -> Preprocessing:
    """From timm's `pretrained_cfg`; what it leaves out is taken from `likely`.

    Raises:
        InputError: it crops in a way that ours can't.
    """
    size_hw = tuple(description.get("input_size", (3, *likely.input_size))[1:])
    mode = description.get("crop_mode") or "center"
    if mode not in ("center", "squash"):
        raise InputError(f"timm's crop_mode '{mode}' is none of ours: make it 'center' or 'squash' in config.json")
    return replace(
        likely,
        input_size=size_hw,
        resize_mode="squash" if mode == "squash" else "crop",
        mean=_numbers(description.get("mean"), likely.mean),
        std=_numbers(description.get("std"), likely.std),
        crop_pct=float(description.get("crop_pct") or 1.0),
        interpolation="bilinear" if description.get("interpolation") == "bilinear" else "bicubic",
    )


def from_processor(description: Mapping[str, Any], likely: Preprocessing) -> Preprocessing:
    """From transformers' preprocessor_config.json; what it leaves out is taken from `likely`.

    A shorter side without a crop (images of any shape) becomes the central square.
    """
    description = description.get("image_processor", description)
    resize, size_hw, central = _resizing(description, likely)
    mean, std = _numbers(description.get("image_mean"), likely.mean), _numbers(description.get("image_std"), likely.std)
    if description.get("do_normalize") is False:
        mean, std = (0.0,) * len(mean), (1.0,) * len(std)
    scale = 255 * float(description.get("rescale_factor") or 1 / 255)  # they multiply bytes by it, we divide by 255
    return replace(
        likely,
        input_size=size_hw,
        resize_mode=resize,
        mean=tuple(value / scale for value in mean),
        std=tuple(value / scale for value in std),
        crop_pct=central,
        interpolation=PILLOW_FILTERS.get(description.get("resample", 3), "bicubic"),
    )


def _resizing(description: Mapping[str, Any], likely: Preprocessing) -> tuple[str, tuple[int, int], float]:
    """The rule, the size that the model sees, and the central share."""
    size, crop = description.get("size"), description.get("crop_size")
    cropping = crop is not None and description.get("do_center_crop", True)
    seen = _height_width(crop if cropping else size, likely.input_size)
    squashed = isinstance(size, Mapping) and "height" in size
    if isinstance(size, int):  # the old form: a shorter side where a crop follows, except in DeiT's
        kind = str(description.get("image_processor_type") or description.get("feature_extractor_type") or "")
        squashed = not cropping or kind.startswith("DeiT")
    if not cropping:
        return "squash" if squashed else "crop", seen, 1.0
    before = min(_height_width(size, seen))
    return "squash" if squashed else "crop", seen, min(1.0, min(seen) / before)


def _height_width(size: Any, otherwise: tuple[int, int]) -> tuple[int, int]:
    """A size in any of transformers' forms."""
    if isinstance(size, Mapping):
        side = size.get("shortest_edge", otherwise[0])
        return int(size.get("height", side)), int(size.get("width", side))
    if isinstance(size, (list, tuple)):
        return int(size[0]), int(size[-1])
    return otherwise if size is None else (int(size), int(size))


def _numbers(values: Any, otherwise: tuple[float, ...]) -> tuple[float, ...]:
    """One number a channel."""
    if values is None:
        return otherwise
    return tuple(map(float, values)) if isinstance(values, (list, tuple)) else (float(values),) * len(otherwise)


def expressible(preprocessing: Preprocessing, note: Callable[[str], object]) -> Preprocessing:
    """The nearest that other libraries have a rule for, with a note where it is another."""
    height, width = preprocessing.input_size
    if preprocessing.resize_mode == "squash" or (preprocessing.resize_mode == "crop" and height == width):
        return preprocessing
    resize = "crop" if height == width else "squash"
    note(
        f"other libraries can't say '{preprocessing.resize_mode}' at {height} × {width}: they are told '{resize}', and will "
        f"see other pixels than Vitreous, which reads its own rule back from config.json ({KEPT})"
    )
    return replace(preprocessing, resize_mode=resize)


def kept(preprocessing: Preprocessing, *, in_timm: bool) -> dict[str, Any]:
    """What config.json holds beside the other library's words, where they don't say it all; else nothing."""
    heard = _heard(preprocessing, preprocessing, in_timm=in_timm)
    return {} if heard == preprocessing else {KEPT: to_dict(preprocessing)}


def restored(found: Preprocessing, description: Mapping[str, Any], *, in_timm: bool) -> Preprocessing:
    """What `kept` put into a config.json, if the other library's words, read as `found`, still stand for it.

    Raises:
        InputError: it is damaged.
    """
    if KEPT not in description:
        return found
    own = from_dict(Preprocessing, migrate_preprocessing(description[KEPT]), f"config.json: {KEPT}")
    return own if _heard(own, found, in_timm=in_timm) == found else found


def _heard(preprocessing: Preprocessing, likely: Preprocessing, *, in_timm: bool) -> Preprocessing:
    """What is read of a preprocessing that was written in another library's words."""
    nearest = expressible(preprocessing, lambda _: None)
    if in_timm:
        return from_timm(to_timm(nearest), likely)
    return from_processor(to_processor(nearest), likely)


def to_timm(preprocessing: Preprocessing) -> dict[str, Any]:
    """As timm's `pretrained_cfg`."""
    return {
        "input_size": [len(preprocessing.mean), *preprocessing.input_size],
        "interpolation": preprocessing.interpolation,
        "crop_pct": preprocessing.crop_pct,
        "crop_mode": "squash" if preprocessing.resize_mode == "squash" else "center",
        "mean": list(preprocessing.mean),
        "std": list(preprocessing.std),
    }


def to_processor(preprocessing: Preprocessing) -> dict[str, Any]:
    """As transformers' preprocessor_config.json."""
    height, width = preprocessing.input_size
    cropped, squashed = (
        preprocessing.crop_pct < 1 or preprocessing.resize_mode == "crop",
        preprocessing.resize_mode == "squash",
    )
    before = [round(side / preprocessing.crop_pct) for side in (height, width)]
    kind = "BitImageProcessor" if not squashed else "DeiTImageProcessor" if cropped else "ViTImageProcessor"
    description = {
        "image_processor_type": kind,
        "do_resize": True,
        "size": {"height": before[0], "width": before[1]} if squashed else {"shortest_edge": min(before)},
        "resample": next(number for number, name in PILLOW_FILTERS.items() if name == preprocessing.interpolation),
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(preprocessing.mean),
        "image_std": list(preprocessing.std),
    }
    if cropped:
        description |= {"do_center_crop": True, "crop_size": {"height": height, "width": width}}
    return description
