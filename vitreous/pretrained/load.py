"""Load a model from a run folder, a weights file, a public origin or a function of the user's own."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from vitreous.arguments import check_arguments
from vitreous.callbacks import Callback, LogCallback
from vitreous.errors import InputError
from vitreous.imaging.geometry import check_patch_count, grid_for, to_pair
from vitreous.imaging.preprocessing import ResizeMode
from vitreous.model.classifier import ImageClassifier
from vitreous.model.serialization import load_classifier
from vitreous.model.vit import ViT
from vitreous.pretrained.preprocessing_formats import describe_preprocessing
from vitreous.pretrained.resolve import Factory, LoRAFile, ModelSource, VitreousModel, resolve
from vitreous.runtime import select_device


@check_arguments
@torch.inference_mode(mode=False)
def load(
    model: str | Path | ImageClassifier | ViT,
    device: str | torch.device = "auto",
    *,
    input_size: int | Sequence[int] | None = None,
    resize_mode: ResizeMode | None = None,
    callback: Callback | None = None,
) -> ImageClassifier:
    """Load a model with its preprocessing and class names; a loaded one is returned unchanged, a ViT in `wrap`.

    Args:
        model: one of
            a run folder such as "runs/quick", or a model.safetensors with its config.json beside it;
            the lora.safetensors of a run with tune=lora, if the model that it adapts is found under its recorded name;
            a weights file of another library (.safetensors, .pt, .pth, .pth.tar, .bin, .ckpt, .npz) in any known
            format, which is recognized by the names and shapes in it, or a folder with model.safetensors and
            config.json; of a training checkpoint, the averaged weights are taken if there are any;
            "origin:name": "timm:vit_base_patch16_224.augreg_in21k_ft_in1k", "hf:OWNER/NAME" (with "@REVISION" for
            another revision than the main branch), "dinov2:vits14", "dino:vits16", "torchvision:vit_b_16";
            "factory:MODULE:FUNCTION", a function of your own that builds a module, optionally with "@weights.pt".
        device: "auto" (the GPU if there is one), "cpu" or "cuda", or a torch.device.
        input_size: the side, or (height, width), in pixels of the model's input; the model's own by default. With
            resize_mode "aspect" it sets the area. A weights file without a config gets the size that its positions were
            learned for, or 224 if that is more than twice as large (DINOv2: 518).
        resize_mode: how images are brought to that size: "squash" ignores their aspect ratio, "crop" cuts out the
            center, "aspect" keeps the aspect ratio and about the area, "letterbox" adds bars. The model's own by
            default; for a weights file without a config, "crop" if the model has classes, else "aspect".
        callback: `on_note` receives what was assumed or changed, one line each; written to the log by default.

    Raises:
        InputError: there is no such model, its files are damaged, in no known format, or can't be downloaded.

    >>> load("vitreous:cifar10", "cpu").class_names[:2]
    ('airplane', 'automobile')
    """
    if isinstance(model, ViT):
        from vitreous.pretrained.wrap import wrap  # models by name need no module of observation

        model = wrap(model, callback=callback)
    if isinstance(model, ImageClassifier):
        if input_size is None and resize_mode is None:
            return model
        return with_input_size(model, input_size, resize_mode, callback)
    if not isinstance(model, str | Path):
        hint = "wrap it: vitreous.wrap(model)" if isinstance(model, torch.nn.Module) else "give a name or a path"
        raise InputError(f"can't load a model from an object of type {type(model).__name__}: {hint}")
    notes, changes = _HeldNotes(), {}
    try:
        classifier = _load(resolve(str(model)), str(model), select_device(device), notes)
        classifier.origin = str(model)
        _check_finite(classifier)
        if input_size is None and resize_mode is None:
            _note_resampling(classifier, notes)
            return classifier
        own = classifier.preprocessing
        classifier = with_input_size(classifier, input_size, resize_mode, notes)
        changes = {describe_preprocessing(own): describe_preprocessing(classifier.preprocessing)}
        return classifier
    finally:
        notes.release(str(model), callback, changes)


_LOGGED: set[tuple[str, str]] = set()
"""Models and the notes on them that were written to the log: each once."""


class _HeldNotes(Callback):
    """Keeps notes until the model's final input size is known, which they name."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def on_note(self, text: str) -> None:
        """Keep a note."""
        self.lines.append(text)

    def release(self, model: str, callback: Callback | None, changes: Mapping[str, str]) -> None:
        """Pass each note on once, with the changed parts; to the log once per model."""
        for line in dict.fromkeys(self.lines):
            for old, new in changes.items():
                line = line.replace(old, new)
            if callback is not None:
                callback.on_note(line)
            elif (model, line) not in _LOGGED:
                _LOGGED.add((model, line))
                LogCallback().on_note(line)


def with_input_size(
    classifier: ImageClassifier,
    input_size: int | Sequence[int] | None,
    resize_mode: ResizeMode | None = None,
    callback: Callback | None = None,
) -> ImageClassifier:
    """Return the same model with another input size or resize mode, as `load` takes them.

    Raises:
        InputError: the size is invalid, too large, or not divisible into patches; the message names the nearest sizes.
    """
    own = classifier.preprocessing
    size = own.input_size if input_size is None else input_size
    size_hw = to_pair(size)
    grid_for(size_hw, own.patch_size)  # raises for a size that isn't divisible
    check_patch_count(size_hw, own.patch_size)
    preprocessing = replace(own, input_size=size_hw)
    if resize_mode is not None and resize_mode != own.resize_mode:
        preprocessing = replace(preprocessing, resize_mode=resize_mode, crop_pct=1.0)
    resized = classifier.replace(preprocessing=preprocessing)
    given = {"input_size": None if input_size is None else size_hw, "resize_mode": resize_mode}
    resized.load_options = classifier.load_options | {name: one for name, one in given.items() if one is not None}
    if not isinstance(resized.model, ViT):
        from vitreous.pretrained.wrap import try_model  # models of Vitreous need no module of observation

        try_model(resized.model, preprocessing)
    _note_resampling(resized, callback or LogCallback())
    return resized


def _check_finite(classifier: ImageClassifier) -> None:
    for name, weight in classifier.model.state_dict().items():
        if weight.is_floating_point() and not weight.isfinite().all():
            raise InputError(
                f"{classifier.origin}: the weight {name} has values that are NaN or infinite: "
                "the file is damaged, or its training diverged"
            )


def _note_resampling(classifier: ImageClassifier, callback: Callback) -> None:
    """Note that a model's learned positions are resampled to its input size, if they are."""
    if not isinstance(classifier.model, ViT):
        return
    config, preprocessing = classifier.model.config, classifier.preprocessing
    learned, used = config.grid_size, grid_for(preprocessing.input_size, config.patch_size)
    if config.pos_embed == "learned" and (learned != used or preprocessing.resize_mode == "aspect"):
        each = "each image's own grid, of about " if preprocessing.resize_mode == "aspect" else ""
        height, width = preprocessing.input_size
        callback.on_note(
            f"positions learned for {learned[0]} × {learned[1]} patches are resampled to {each}{used[0]} × {used[1]} "
            f"(images of {height} × {width} pixels)"
        )


def _load(source: ModelSource, name: str, device: torch.device, callback: Callback) -> ImageClassifier:
    if isinstance(source, VitreousModel):
        from vitreous.tasks.registry import TASKS  # bare weights need no task

        return load_classifier(source.path, device, {name: task.model_type for name, task in TASKS.items()})
    if isinstance(source, LoRAFile):
        from vitreous.pretrained.apply_lora import load_lora_file  # it loads models itself

        return load_lora_file(source.path, device, callback)
    # Models of Vitreous need none of the following modules.
    if isinstance(source, Factory):
        from vitreous.pretrained.factory import load_factory

        return load_factory(source.function, source.weights, device, callback)
    from vitreous.pretrained.import_weights import build_classifier, read_checkpoint

    return build_classifier(read_checkpoint(source, name, callback), device, callback)
