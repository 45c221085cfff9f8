"""Models that Vitreous did not train: from a public place, a folder of another library's, or a file of weights."""

from pathlib import Path

import torch

from vitreous.errors import InputError
from vitreous.files import read_json
from vitreous.hub import HubRepository, LocalRepository
from vitreous.model.classifier import ImageClassifier
from vitreous.model.serialization import CONFIG, WEIGHTS, is_vitreous_config, load_classifier
from vitreous.pretrained.import_weights import WEIGHT_FILES, Foreign, Note, build_classifier, read_repository
from vitreous.pretrained.registry import Address, find_origin, is_origin
from vitreous.pretrained.weight_files import check_file, read_tensors


def find_elsewhere(model: str, device: torch.device, note: Note) -> ImageClassifier:
    """The model of this origin or path.

    Raises:
        InputError: there is none, its files are damaged or in no known layout, or it can't be downloaded.
    """
    path = Path(model)
    if is_origin(model):
        place = find_origin(model)
        if isinstance(place, HubRepository):
            return from_hub(place, device, note)
        if isinstance(place, Path):
            return load_classifier(place, device)
        foreign = from_address(model, place)
    elif (path / CONFIG).is_file():
        foreign = read_repository(LocalRepository(path))
    elif path.is_dir() and not (path / WEIGHTS).is_file():
        raise InputError(f"{path / CONFIG} is not there: the folder holds no model")
    else:
        foreign = from_file(path / WEIGHTS if path.is_dir() else path)
    return build_classifier(foreign, device, note)


def from_hub(repository: HubRepository, device: torch.device, note: Note) -> ImageClassifier:
    """The model in a repository of the hub: another library's, or a run of ours that was put there."""
    config = repository.find(CONFIG)
    if config is not None and is_vitreous_config(read_json(config)) and repository.find(WEIGHTS):
        return load_classifier(config.parent, device)
    return build_classifier(read_repository(repository), device, note)


def from_address(name: str, address: Address) -> Foreign:
    """What a single file on the web holds."""
    return Foreign(name, read_tensors(address.obtain()), preprocessing=address.preprocessing, published=True)


def from_file(path: Path) -> Foreign:
    """What a weights file holds, with the config.json beside it where its name says that they belong together."""
    check_file(path)
    if path.name in WEIGHT_FILES and path.with_name(CONFIG).is_file():
        return read_repository(LocalRepository(path.parent), path)
    return Foreign(str(path), read_tensors(path))
