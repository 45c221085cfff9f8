"""What others say of a model's images, read and written, and held against transformers' own processors."""

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from vitreous.errors import InputError
from vitreous.imaging.preprocessing import Preprocessing, preprocess_image
from vitreous.model.config import ViTConfig
from vitreous.pretrained.preprocessing_formats import (
    CLIP_MEAN,
    IMAGENET_MEAN,
    PILLOW_FILTERS,
    default_for,
    from_image_processor,
    from_timm_cfg,
    to_image_processor,
    to_representable,
    to_timm_cfg,
)

LIKELY = Preprocessing((224, 224), "crop", (0.1, 0.2, 0.3), (0.4, 0.5, 0.6), 14)
SQUARE, EDGE = {"height": 256, "width": 256}, {"shortest_edge": 256}
CROP = {"height": 224, "width": 224}

# What is in the preprocessor_config.json of well-known models, in the new form and the old.
PROCESSORS = {
    "ViT": ({"size": {"height": 224, "width": 200}, "resample": 2}, ("squash", (224, 200), 1.0, "bilinear")),
    "ViT, old": ({"size": 384, "resample": 3}, ("squash", (384, 384), 1.0, "bicubic")),
    "DINOv2": ({"size": EDGE, "crop_size": CROP, "do_center_crop": True}, ("crop", (224, 224), 0.875, "bicubic")),
    "CLIP, old": ({"size": 224, "crop_size": 224, "do_center_crop": True}, ("crop", (224, 224), 1.0, "bicubic")),
    "DeiT": ({"size": SQUARE, "crop_size": CROP}, ("squash", (224, 224), 0.875, "bicubic")),
    "DeiT, old": (
        {"size": 256, "crop_size": 224, "do_center_crop": True, "feature_extractor_type": "DeiTFeatureExtractor"},
        ("squash", (224, 224), 0.875, "bicubic"),
    ),
    "no crop": ({"size": SQUARE, "crop_size": CROP, "do_center_crop": False}, ("squash", (256, 256), 1.0, "bicubic")),
    "any shape": ({"size": EDGE}, ("crop", (256, 256), 1.0, "bicubic")),
    "nested": ({"image_processor": {"size": 384}}, ("squash", (384, 384), 1.0, "bicubic")),
    "nothing": ({}, ("crop", (224, 224), 1.0, "bicubic")),
}


@pytest.mark.parametrize("name", PROCESSORS)
def test_image_processor_configs(name):
    description, expected = PROCESSORS[name]
    found = from_image_processor(description, LIKELY)
    assert (found.resize_mode, found.input_size, found.crop_pct, found.interpolation) == expected
    assert (found.mean, found.std, found.patch_size) == (LIKELY.mean, LIKELY.std, 14)


def test_other_scales_and_no_normalization():
    doubled = from_image_processor(
        {"rescale_factor": 1 / 127.5, "image_mean": [1.0] * 3, "image_std": [1.0] * 3}, LIKELY
    )
    assert np.allclose(doubled.mean, 0.5) and np.allclose(doubled.std, 0.5)  # v / 127.5 − 1 = (v / 255 − ½) / ½
    plain = from_image_processor({"do_normalize": False, "image_mean": [0.5] * 3}, LIKELY)
    assert (plain.mean, plain.std) == ((0, 0, 0), (1, 1, 1))


def test_pixels_that_are_not_rescaled_stay_bytes(shared):
    """do_rescale: false, by its definition: (byte - mean) / std."""
    found = from_image_processor(
        {"size": 32, "do_rescale": False, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}, LIKELY
    )
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    expected = (image.astype(np.float64).transpose(2, 0, 1) - 0.5) / 0.5
    assert np.allclose(preprocess_image(image, found)[0].numpy(), expected, atol=1e-2)


def test_the_crop_of_convnext():
    description = {"image_processor_type": "ConvNextImageProcessor", "size": {"shortest_edge": 224}, "crop_pct": 0.875}
    found = from_image_processor(description, LIKELY)
    assert (found.resize_mode, found.input_size, found.crop_pct) == ("crop", (224, 224), 0.875)
    found = from_image_processor(description | {"size": {"shortest_edge": 384}}, LIKELY)
    assert (found.resize_mode, found.input_size, found.crop_pct) == ("squash", (384, 384), 1.0)


UNSUPPORTED = {
    "do_resize": {"do_resize": False},
    "crop_size": {"size": {"shortest_edge": 64}, "crop_size": {"height": 64, "width": 48}},
    "crop_size=": {"size": {"shortest_edge": 64}, "crop_size": 96},
    "resample=1": {"resample": 1},
    "resample=0": {"resample": 0},
    "crop_pct": {"size": 224, "crop_pct": 0.9},
    "do_flip_channel_order": {"do_flip_channel_order": True},
    "do_pad": {"do_pad": True},
    "do_something_new": {"do_something_new": True},
    "keep_aspect_ratio": {"keep_aspect_ratio": True},
    "longest_edge": {"size": {"longest_edge": 224}},
}


@pytest.mark.parametrize("name", UNSUPPORTED)
def test_settings_that_would_make_other_pixels_are_refused_by_name(name):
    with pytest.raises(InputError, match=name):
        from_image_processor(UNSUPPORTED[name], LIKELY)


def test_timm_cfgs():
    description = {"input_size": [3, 224, 200], "crop_pct": 0.9, "interpolation": "bilinear", "mean": [0.5] * 3}
    found = from_timm_cfg(description, LIKELY)
    assert (found.input_size, found.resize_mode, found.crop_pct) == ((224, 200), "crop", 0.9)
    assert (found.mean, found.std, found.interpolation) == ((0.5, 0.5, 0.5), LIKELY.std, "bilinear")
    assert from_timm_cfg({"crop_mode": "squash"}, LIKELY).resize_mode == "squash"
    with pytest.raises(InputError, match="interpolation 'lanczos'"):
        from_timm_cfg({"interpolation": "lanczos"}, LIKELY)
    with pytest.raises(InputError, match="crop_mode 'border'"):
        from_timm_cfg({"crop_mode": "border"}, LIKELY)


VARIANTS = [
    LIKELY,
    replace(LIKELY, crop_pct=0.875),
    replace(LIKELY, resize_mode="squash", input_size=(224, 280), interpolation="bilinear"),
    replace(LIKELY, resize_mode="squash", crop_pct=0.875),
]


@pytest.mark.parametrize("preprocessing", VARIANTS)
def test_round_trips(preprocessing):
    assert from_timm_cfg(to_timm_cfg(preprocessing), LIKELY) == preprocessing
    again = from_image_processor(to_image_processor(preprocessing), LIKELY)
    assert again == replace(preprocessing, mean=again.mean, std=again.std)
    assert np.allclose(again.mean + again.std, preprocessing.mean + preprocessing.std)


# Where the image is cropped, transformers rounds the resized sides and the corner to whole pixels of its own.
@pytest.mark.parametrize(("variant", "most", "mean"), [(0, 1.0, 0.03), (1, 2.0, 0.12), (2, 1e-5, 1e-6), (3, 0.2, 1e-3)])
def test_transformers_makes_the_same_pixels(variant, most, mean, shared, tmp_path):
    transformers, preprocessing = pytest.importorskip("transformers"), VARIANTS[variant]
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(to_image_processor(preprocessing)))
    with Image.open(shared / "photos" / "two-cats.png") as file:
        image = file.convert("RGB")
    theirs = transformers.AutoImageProcessor.from_pretrained(tmp_path)(image, return_tensors="pt")["pixel_values"][0]
    ours = preprocess_image(np.array(image), preprocessing)[0]
    assert theirs.shape == ours.shape
    assert (theirs - ours).abs().max() < most and (theirs - ours).abs().mean() < mean


def test_what_others_cannot_express_is_noted(notes):
    assert to_representable(LIKELY, notes) is LIKELY and not notes.lines
    assert to_representable(replace(LIKELY, resize_mode="aspect"), notes).resize_mode == "crop"
    assert to_representable(replace(LIKELY, input_size=(224, 280)), notes).resize_mode == "squash"
    assert ["'aspect' at 224 × 224" in notes.lines[0], "'crop' at 224 × 280" in notes.lines[1]] == [True, True]


def test_defaults_without_a_config():
    large = ViTConfig((518, 518), 14, num_classes=0)
    assert (default_for("dinov2", large).input_size, default_for("dinov2", large).mean) == ((224, 224), IMAGENET_MEAN)
    assert (
        default_for("dinov2", large).resize_mode == "aspect" and default_for("timm", ViTConfig()).resize_mode == "crop"
    )
    assert default_for("clip", ViTConfig()).mean == CLIP_MEAN and default_for("siglip", large).resize_mode == "squash"
    assert default_for("timm", ViTConfig((384, 384))).input_size == (384, 384)
    assert default_for("timm", ViTConfig((28, 28), 4, in_chans=1)).mean == (0.5,)


def test_interpolation_round_trips():
    assert len(set(PILLOW_FILTERS.values())) == len(PILLOW_FILTERS)
