"""Write a model in the form that another library loads."""

import json
import os
import shutil
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vitreous.errors import InputError, unknown
from vitreous.files import flush_to_disk, make_folder, os_error_reason, write_text
from vitreous.hub import LocalRepository
from vitreous.model.classifier import ImageClassifier
from vitreous.model.config import ViTConfig
from vitreous.model.serialization import CONFIG, WEIGHTS, write_tensors
from vitreous.pretrained.formats.registry import FORMATS
from vitreous.pretrained.formats.state_dict_format import StateDictFormat
from vitreous.pretrained.import_weights import PROCESSORS, build_classifier, read_repository
from vitreous.pretrained.load import Note, load, log
from vitreous.pretrained.preprocessing_formats import save_exact, to_image_processor, to_representable, to_timm_cfg

LARGEST_DIFFERENCE = 1e-5
"""By how much an answer of the written model may differ, against the largest number in the answer."""

TARGETS = {
    "hf": ("hf-vit", "hf-deit", "hf-dinov2", "hf-dinov2-registers", "hf-dinov3", "siglip", "clip"),
    "timm": ("timm",),
    "dinov2": ("dinov2",),
}
"""Layouts of each library that a model may fit, the plainest first."""

SQUARE = ("hf-dinov2", "hf-dinov2-registers", "dinov2", "clip")
"""Layouts whose libraries take every position table for a square one."""


@dataclass(frozen=True)
class Converted:
    """What was written, and how to load it."""

    folder: Path
    layout: str
    loading: str
    """The line of Python that loads it."""


def convert(model: str | Path | ImageClassifier, to: str, output: str | Path, *, on_note: Note = log) -> Converted:
    """Write a model as a folder that another library loads, and read it back: same answers, classes and preprocessing.

    Args:
        model: anything that `load` takes.
        to: "hf" (transformers), "timm", or "dinov2" (the names of facebookresearch/dinov2).
        output: the folder to write; there must be none, or an empty one.
        on_note: told, in a line each, what the other library will do differently.

    Raises:
        InputError: the other library can't express the model (says which can), or the folder can't be written.
    """
    if to not in TARGETS:
        raise unknown("library to convert to", to, TARGETS)
    folder = Path(output)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} is there already: name a new folder with --output")
    classifier = load(model, "cpu", on_note=on_note)
    layout, tensors = choose_layout(classifier.vit.config, classifier.model.state_dict(), to)
    for caveat in layout.caveats(classifier.vit.config):
        on_note(caveat)
    with folder_written_beside(folder) as temporary:
        write_folder(classifier, layout, tensors, temporary, on_note)
        check(classifier, temporary)
    return Converted(folder, layout.name, loading_line(to, folder, describe(classifier, layout)))


def choose_layout(config: ViTConfig, state: Mapping[str, Tensor], to: str) -> tuple[StateDictFormat, dict[str, Tensor]]:
    """The first layout of the library that can hold the model, and the weights in it.

    Raises:
        InputError: none can; says why, and which other libraries can.
    """
    found = _fitting(config, state, to)
    if not isinstance(found, str):
        return found
    able = [other for other in TARGETS if other != to and not isinstance(_fitting(config, state, other), str)]
    advice = f"--to {' or --to '.join(able)} can" if able else "no other library that we write for can either"
    raise InputError(f"{found}; {advice}")


def _fitting(
    config: ViTConfig, state: Mapping[str, Tensor], to: str
) -> tuple[StateDictFormat, dict[str, Tensor]] | str:
    """The first layout of a library that can hold the model, and the weights in it; or why the first can't."""
    complaints: list[str] = []
    for layout in (FORMATS[name] for name in TARGETS[to]):
        try:
            tensors = layout.to_external(state, config)
            layout.external_config(config, [])
        except InputError as error:
            complaints.append(str(error))
            continue
        if layout.name not in SQUARE or config.grid_size[0] == config.grid_size[1]:
            return layout, tensors
        grid = " × ".join(map(str, config.grid_size))
        complaints.insert(0, f"{layout.name} can't hold positions for {grid} patches, only for a square of them")
    return complaints[0]


def describe(classifier: ImageClassifier, layout: StateDictFormat) -> dict[str, Any]:
    """The config.json of the other library; where it has none, what its weights alone don't tell a reader."""
    config = classifier.vit.config
    alone = {"image_size": list(config.image_size), "num_heads": config.num_heads}
    return layout.external_config(config, classifier.class_names) or alone


def write_folder(
    classifier: ImageClassifier, layout: StateDictFormat, tensors: Mapping[str, Tensor], folder: Path, on_note: Note
) -> None:
    """Write weights, config.json and what the library reads of images."""
    description, preprocessing = describe(classifier, layout), to_representable(classifier.preprocessing, on_note)
    description |= save_exact(classifier.preprocessing, in_timm=layout.name == "timm")
    if layout.name == "timm":
        description["pretrained_cfg"] |= to_timm_cfg(preprocessing)
    else:
        write_text(folder / PROCESSORS[0], json.dumps(to_image_processor(preprocessing), indent=2) + "\n")
    write_text(folder / CONFIG, json.dumps(description, indent=2) + "\n")
    write_tensors(tensors, folder / WEIGHTS, {"format": "pt"})


def check(classifier: ImageClassifier, folder: Path) -> None:
    """Read a written folder back and compare it with the model, which must answer alike."""
    written = build_classifier(read_repository(LocalRepository(folder)), classifier.device, lambda _: None)
    config = classifier.vit.config
    images = torch.randn(2, config.in_chans, *config.image_size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected, found = classifier.model(images.to(classifier.device)), written.model(images.to(classifier.device))
    difference = float((expected - found).abs().max() / expected.abs().max().clamp_min(1e-6))
    if not difference <= LARGEST_DIFFERENCE:
        raise AssertionError(f"what was written answers otherwise: {difference:.1e} of the largest number apart")
    if written.class_names != classifier.class_names:
        raise AssertionError("what was written has other class names")
    if written.preprocessing != classifier.preprocessing:
        raise AssertionError("what was written takes other images")


@contextmanager
def folder_written_beside(folder: Path) -> Generator[Path]:
    """Yield a temporary folder beside `folder`; on success it takes its place, on any error it is removed.

    Raises:
        InputError: it can't be made.
    """
    folder = folder.resolve()
    make_folder(folder.parent)
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    make_folder(temporary)
    try:
        yield temporary
        temporary.replace(folder)
        flush_to_disk(folder.parent)
    except OSError as error:
        raise InputError(f"can't write {folder}: {os_error_reason(error)}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def loading_line(to: str, folder: Path, description: Mapping[str, Any]) -> str:
    """The line of Python that loads the folder."""
    if to == "timm":
        return f'timm.create_model("local-dir:{folder}", pretrained=True)'
    if to == "dinov2":
        return f'model.load_state_dict(safetensors.torch.load_file("{folder / WEIGHTS}"))'
    name = description["architectures"][0]
    bare = ", add_pooling_layer=False" if name in ("ViTModel", "DeiTModel") else ""
    return f'transformers.{name}.from_pretrained("{folder}"{bare})'
