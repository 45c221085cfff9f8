"""Apply LoRA matrices from a file to the model that they were trained on."""

import copy
from pathlib import Path

import torch
from torch import nn

from vitreous.arguments import check_arguments
from vitreous.callbacks import Callback
from vitreous.errors import InputError
from vitreous.model.classifier import ImageClassifier
from vitreous.model.lora import add_lora, load_lora, merge_lora
from vitreous.model.lora_file import is_lora_file, read_lora
from vitreous.model.resizing import resize_input
from vitreous.model.vit import ViT
from vitreous.pretrained.fingerprint import parameters_fingerprint
from vitreous.pretrained.load import load
from vitreous.pretrained.resolve import FACTORY
from vitreous.runs.run_folder import RunFolder
from vitreous.tasks.registry import find_task


@check_arguments
@torch.inference_mode(mode=False)
def apply_lora(
    model: str | Path | ImageClassifier,
    path: str | Path,
    device: str | torch.device = "auto",
    *,
    callback: Callback | None = None,
) -> ImageClassifier:
    """Return a model with the LoRA matrices and the head of a file, merged into its weights.

    It is the model of the run that wrote the file (RUN/lora.safetensors, with tune=lora), to the bit.

    Args:
        model: the model that the matrices were trained on, which isn't changed: as `load` takes it, or a loaded one.
        path: the LoRA file, or the folder of the run.
        device: as in `load`.
        callback: as in `load`.

    Raises:
        InputError: the file is damaged or no LoRA file, or it was trained on another model.
    """
    file = RunFolder(Path(path)).lora if Path(path).is_dir() else Path(path)
    tensors, description = read_lora(file)
    task = find_task(description.task)
    base = load(model, device, callback=callback)
    if not isinstance(base.model, ViT) or parameters_fingerprint(base.model) != description.fingerprint:
        raise InputError(
            f"{file} adapts another model than {base.origin or 'this one'}: it was trained on '{description.base}', "
            f"whose weights have the fingerprint {description.fingerprint}; give that model"
        )
    adapted = copy.deepcopy(base.model).cpu()
    resize_input(adapted, description.model.image_size)
    adapted.reset_classifier(description.model.num_classes, description.model.global_pool)
    add_lora(adapted, description.lora)
    load_lora(adapted, {name: weight for name, weight in tensors.items() if ".lora_" in name})
    assert isinstance(adapted.head, nn.Linear)
    head = {name.removeprefix("head."): weight for name, weight in tensors.items() if name.startswith("head.")}
    merged = task.model_type.make_model(description.model)
    try:
        adapted.head.load_state_dict(head)
        merge_lora(adapted)
        merged.load_state_dict(adapted.state_dict())
    except RuntimeError as error:
        detail = "".join(str(error).splitlines()[1:2]).strip()
        raise InputError(f"{file} doesn't fit its own description ({detail}): copy or train it again") from None
    return task.model_type(merged.to(base.device), description.preprocessing, description.class_names)


def load_lora_file(file: Path, device: torch.device, callback: Callback | None = None) -> ImageClassifier:
    """Load the model that a LoRA file adapts under its recorded name, and apply the file to it.

    Raises:
        InputError: as `apply_lora`, or the model isn't there any more, or its name would run code.
    """
    name = _recorded_base(file)
    advice = f"give its place by vitreous.apply_lora(MODEL, {str(file)!r})"
    if name.startswith(FACTORY):
        raise InputError(f"{file} adapts '{name}', a function, which a file's word isn't enough to run: {advice}")
    try:
        base = load(name, device, callback=callback)
    except InputError as error:
        raise InputError(f"{file} adapts '{name}', which can't be loaded ({error}): {advice}") from None
    return apply_lora(base, file, device)


def _recorded_base(file: Path) -> str:
    """Return the name of the model that a file adapts, which may be another such file.

    Raises:
        InputError: these files adapt each other.
    """
    name = following = read_lora(file)[1].base
    seen = {file.resolve()}
    while Path(following).is_file() and is_lora_file(Path(following)):
        if Path(following).resolve() in seen:
            raise InputError(f"{file} adapts '{name}', which adapts this file: train it again")
        seen.add(Path(following).resolve())
        following = read_lora(Path(following))[1].base
    return name
