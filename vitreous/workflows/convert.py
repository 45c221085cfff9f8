"""Convert a model to the format of another library."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vitreous.arguments import check_arguments
from vitreous.callbacks import Callback, LogCallback
from vitreous.errors import InputError, unknown
from vitreous.files import atomic_folder, require_new_folder, write_text
from vitreous.hub import LocalRepository
from vitreous.model.classifier import ImageClassifier
from vitreous.model.config import ViTConfig
from vitreous.model.serialization import CONFIG, WEIGHTS, write_tensors
from vitreous.pretrained.formats.registry import FORMATS
from vitreous.pretrained.formats.state_dict_format import StateDictFormat
from vitreous.pretrained.import_weights import PROCESSOR_FILES, build_classifier, read_repository
from vitreous.pretrained.load import load
from vitreous.pretrained.preprocessing_formats import save_exact, to_image_processor, to_representable, to_timm_cfg

MAX_RELATIVE_DIFFERENCE = 1e-5
"""Largest difference between the outputs of both models, over the largest absolute output."""

LIBRARIES = {
    "hf": ("hf-vit", "hf-deit", "hf-dinov2", "hf-dinov2-registers", "hf-dinov3", "siglip", "clip"),
    "timm": ("timm",),
    "dinov2": ("dinov2",),
}
"""The formats of each library, the most common first."""

SQUARE_GRID_FORMATS = ("hf-dinov2", "hf-dinov2-registers", "dinov2", "clip")
"""Formats whose libraries assume that position tables are square."""


@dataclass(frozen=True, repr=False)
class ConvertedModel:
    """A model that was written for another library.

    Attributes:
        format_name: The format, such as "hf-dinov2".
        load_code: The line of Python that loads it.
    """

    folder: Path
    format_name: str
    load_code: str

    def to_json(self) -> dict[str, object]:
        """Return the record as a plain dictionary."""
        return {**asdict(self), "folder": str(self.folder)}

    def __repr__(self) -> str:
        return f"{self.folder} ({self.format_name}), loaded by\n{self.load_code}"


@check_arguments
def convert(
    model: str | Path | ImageClassifier, to: str, output: str | Path, *, callback: Callback | None = None
) -> ConvertedModel:
    """Write a model as a folder that another library loads, and verify outputs, classes and preprocessing.

    Args:
        model: anything that `load` takes.
        to: "hf" (transformers), "timm", or "dinov2" (the names of facebookresearch/dinov2).
        output: the folder to write; it must not exist, or be empty.
        callback: `on_note` receives what the other library will do differently; written to the log by default.

    Raises:
        InputError: the other library can't express the model (the message says which can), or the folder can't be
            written.
    """
    if to not in LIBRARIES:
        raise unknown("library to convert to", to, LIBRARIES)
    folder = Path(output)
    require_new_folder(folder)
    callback = callback or LogCallback()
    classifier = load(model, "cpu", callback=callback)
    if classifier.task != ImageClassifier.task:
        raise InputError(f"other libraries would take this model for a classifier, and its task is {classifier.task}")
    target, tensors = choose_format(classifier.vit.config, classifier.model.state_dict(), to)
    for caveat in target.caveats(classifier.vit.config):
        callback.on_note(caveat)
    with atomic_folder(folder) as temporary:
        write_model(classifier, target, tensors, temporary, callback)
        verify_model(classifier, temporary)
    return ConvertedModel(folder, target.name, load_code(to, folder, external_config(classifier, target)))


def choose_format(config: ViTConfig, state: Mapping[str, Tensor], to: str) -> tuple[StateDictFormat, dict[str, Tensor]]:
    """Return the first format of the library that can hold the model, and the weights in it.

    Raises:
        InputError: none can; the message says why, and which other libraries can.
    """
    try:
        return _first_format(config, state, to)
    except InputError as error:
        able = [library for library in LIBRARIES if library != to and _can_hold(config, state, library)]
        advice = f"--to {' or --to '.join(able)} can" if able else "no other supported library can either"
        raise InputError(f"{error}; {advice}") from None


def _can_hold(config: ViTConfig, state: Mapping[str, Tensor], to: str) -> bool:
    try:
        _first_format(config, state, to)
    except InputError:
        return False
    return True


def _first_format(config: ViTConfig, state: Mapping[str, Tensor], to: str) -> tuple[StateDictFormat, dict[str, Tensor]]:
    """Return the first format that can hold the model, or raise the most helpful reason why none can."""
    reasons: list[str] = []
    for target in (FORMATS[name] for name in LIBRARIES[to]):
        try:
            tensors = target.to_external(state, config)
            target.external_config(config, [])
        except InputError as error:
            reasons.append(str(error))
            continue
        if target.name not in SQUARE_GRID_FORMATS or config.grid_size[0] == config.grid_size[1]:
            return target, tensors
        grid = " × ".join(map(str, config.grid_size))
        reasons.insert(0, f"{target.name} can't hold positions for {grid} patches, only for a square of them")
    raise InputError(reasons[0])


def external_config(classifier: ImageClassifier, target: StateDictFormat) -> dict[str, Any]:
    """Return the config.json of the other library; if it has none, what the weights alone don't tell."""
    config = classifier.vit.config
    minimal = {"image_size": list(config.image_size), "num_heads": config.num_heads}
    return target.external_config(config, classifier.class_names) or minimal


def write_model(
    classifier: ImageClassifier,
    target: StateDictFormat,
    tensors: Mapping[str, Tensor],
    folder: Path,
    callback: Callback,
) -> None:
    """Write the weights, config.json and the preprocessing in the form of the other library."""
    config, preprocessing = external_config(classifier, target), to_representable(classifier.preprocessing, callback)
    if classifier.problem_type != "single_label_classification":
        config["problem_type"] = classifier.problem_type
    config |= save_exact(classifier.preprocessing, in_timm=target.name == "timm")
    if target.name == "timm":
        config["pretrained_cfg"] |= to_timm_cfg(preprocessing)
    else:
        write_text(folder / PROCESSOR_FILES[0], json.dumps(to_image_processor(preprocessing), indent=2) + "\n")
    write_text(folder / CONFIG, json.dumps(config, indent=2) + "\n")
    write_tensors(tensors, folder / WEIGHTS, {"format": "pt"})


def verify_model(classifier: ImageClassifier, folder: Path) -> None:
    """Read a written folder back and compare its outputs, class names and preprocessing with the model's."""
    written = build_classifier(read_repository(LocalRepository(folder)), classifier.device, Callback())
    config = classifier.vit.config
    images = torch.randn(2, config.in_chans, *config.image_size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected, found = classifier.model(images.to(classifier.device)), written.model(images.to(classifier.device))
    difference = float((expected - found).abs().max() / expected.abs().max().clamp_min(1e-6))
    if not difference <= MAX_RELATIVE_DIFFERENCE:
        raise AssertionError(f"the outputs of the written model differ by {difference:.1e} of the largest output")
    if written.class_names != classifier.class_names:
        raise AssertionError("the written model has other class names")
    if written.preprocessing != classifier.preprocessing:
        raise AssertionError("the written model has another preprocessing")


def load_code(to: str, folder: Path, config: Mapping[str, Any]) -> str:
    """Return the line of Python that loads the folder."""
    if to == "timm":
        return f'timm.create_model("local-dir:{folder}", pretrained=True)'
    if to == "dinov2":
        return f'model.load_state_dict(safetensors.torch.load_file("{folder / WEIGHTS}"))'
    name = config["architectures"][0]
    without_pooler = ", add_pooling_layer=False" if name in ("ViTModel", "DeiTModel") else ""
    return f'transformers.{name}.from_pretrained("{folder}"{without_pooler})'
