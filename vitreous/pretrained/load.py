"""A model from wherever it lies, ready to answer on real images."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from math import isqrt
from pathlib import Path

import torch

from vitreous.errors import InputError
from vitreous.files import read_json
from vitreous.model.classifier import ImageClassifier
from vitreous.model.config import grid_for
from vitreous.model.serialization import CONFIG, is_vitreous_config, load_classifier
from vitreous.model.vit import ViT
from vitreous.runtime import find_device

Note = Callable[[str], object]

FACTORY = "factory:"
MOST_PATCHES = 256 * 256
"""Of an image; attention over more of them would take 17 GB a head and layer."""


def log(text: str) -> None:
    """Say something beside the results: on standard error, unless the user's logging says otherwise."""
    logging.getLogger("vitreous").warning(text)


@torch.inference_mode(mode=False)
def load(
    model: str | Path | ImageClassifier,
    device: str = "auto",
    *,
    size: int | Sequence[int] | None = None,
    fit: str | None = None,
    on_note: Note = log,
) -> ImageClassifier:
    """The model in a run folder, a weights file or a public place; one that is loaded already is returned as it is.

    Args:
        model: one of
            a run folder such as "runs/quick", or the path of a model.safetensors beside its config.json;
            a file that another library wrote (.safetensors, .pt, .pth, .bin, .ckpt, .npz) in any known layout, which
            is recognized by its names and shapes, or a folder with model.safetensors and config.json;
            "origin:name": "timm:vit_base_patch16_224.augreg_in21k_ft_in1k", "hf:OWNER/NAME" (of a certain revision
            with "@REVISION"), "dinov2:vits14", "dino:vits16", "torchvision:vit_b_16";
            "factory:MODULE:FUNCTION", a function of your own that builds a module, and "@weights.pt" after it.
        device: "auto" (a GPU where there is one), "cpu" or "cuda".
        size: the images' side, or (height, width), in pixels that the model is given, if another than its origin
            says; where images keep their shape, their area. A file that comes alone says nothing: it gets the size
            its positions were learned for, or 224 if that is more than twice as large (DINOv2: 518); of models with
            classes the central square of an image, of others the whole image in its own shape.
        fit: how images are brought to that size, if in another way than the model's own: "squash" squashes them,
            "crop" cuts out their center, "aspect" keeps their shape and about the area, "letterbox" adds bars.
        on_note: told, in a line each, what was assumed or changed on the way; written to the log by default.

    Raises:
        InputError: there is no model, its files are damaged, in no known layout, or can't be downloaded.
    """
    if isinstance(model, ImageClassifier):
        return model if size is None and fit is None else at_size(model, size, on_note, fit)
    classifier = _find(str(model), find_device(device), on_note)
    classifier.origin = str(model)
    _check_finite(classifier)
    if size is not None or fit is not None:
        return at_size(classifier, size, on_note, fit)
    note_resampling(classifier, on_note)
    return classifier


def at_size(
    classifier: ImageClassifier, size: int | Sequence[int] | None, on_note: Note = log, fit: str | None = None
) -> ImageClassifier:
    """The same model, given images of another size, or brought to its size in another way: as `load` takes them.

    Raises:
        InputError: the size is none, too large, or its patches don't divide it; names the nearest that fit.
    """
    own = classifier.preprocessing
    size = own.input_size if size is None else size
    size_hw = (size, size) if isinstance(size, int) else tuple(size)
    if len(size_hw) != 2 or not all(isinstance(side, int) for side in size_hw):
        raise InputError(f"{size} is no size: give a side or (height, width) in pixels")
    check_patches(grid_for((size_hw[0], size_hw[1]), classifier.preprocessing.patch_size), classifier)
    preprocessing = replace(own, input_size=(size_hw[0], size_hw[1]))
    if fit is not None and fit != own.resize_mode:
        preprocessing = replace(preprocessing, resize_mode=fit, crop_pct=1.0)
    sized = ImageClassifier(classifier.model, preprocessing, classifier.class_names)
    sized.origin = classifier.origin
    note_resampling(sized, on_note)
    return sized


def check_patches(grid_hw: tuple[int, int], classifier: ImageClassifier) -> None:
    """Refuse a size before an image of it fills the memory.

    Raises:
        InputError: it has more patches than MOST_PATCHES.
    """
    multiple, patches = classifier.preprocessing.patch_size, grid_hw[0] * grid_hw[1]
    if patches > MOST_PATCHES:
        side = isqrt(MOST_PATCHES) * multiple
        raise InputError(
            f"an image of {grid_hw[0] * multiple} × {grid_hw[1] * multiple} would have {patches} patches of "
            f"{multiple}, more than {MOST_PATCHES}, which is the limit: choose {side} × {side} or less"
        )


def _check_finite(classifier: ImageClassifier) -> None:
    for name, weight in classifier.model.state_dict().items():
        if weight.is_floating_point() and not weight.isfinite().all():
            raise InputError(
                f"{classifier.origin}: the weight {name} holds what is no number (NaN or infinite): "
                "the file is damaged, or its training diverged"
            )


def note_resampling(classifier: ImageClassifier, on_note: Note) -> None:
    """Say so where a model's learned positions are resampled for the images that it is given."""
    if not isinstance(classifier.model, ViT):
        return
    config, preprocessing = classifier.model.config, classifier.preprocessing
    learned, seen = config.grid_size, grid_for(preprocessing.input_size, config.patch_size)
    if config.pos_embed == "learned" and (learned != seen or preprocessing.resize_mode == "aspect"):
        kept = "each image's own grid, of about " if preprocessing.resize_mode == "aspect" else ""
        height, width = preprocessing.input_size
        on_note(
            f"positions learned for {learned[0]} × {learned[1]} patches are resampled to {kept}{seen[0]} × {seen[1]} "
            f"(images of {height} × {width} pixels)"
        )


def _find(model: str, device: torch.device, on_note: Note) -> ImageClassifier:
    """The model of this name, path or origin."""
    if model.startswith(FACTORY):
        from vitreous.pretrained.factory import load_factory

        function, _, weights = model.removeprefix(FACTORY).partition("@")
        return load_factory(function, weights or None, str(device))
    path = Path(model)
    if (path / CONFIG).is_file() and is_vitreous_config(read_json(path / CONFIG)):
        return load_classifier(path, device)
    beside = path.with_name(CONFIG)
    if path.is_file() and path.suffix == ".safetensors" and beside.is_file() and is_vitreous_config(read_json(beside)):
        return load_classifier(path, device)
    # A run of our own needs none of this.
    from vitreous.pretrained.resolve import find_elsewhere

    return find_elsewhere(model, device, on_note)
