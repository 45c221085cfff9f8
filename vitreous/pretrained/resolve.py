"""Resolve the name of a model: a run folder, a weights file, a public origin, or a function of the user's own."""

from dataclasses import dataclass
from pathlib import Path

from vitreous.errors import InputError
from vitreous.files import read_json
from vitreous.hub import HubRepository, LocalRepository
from vitreous.model.lora_file import is_lora_file
from vitreous.model.serialization import CONFIG, WEIGHTS, is_vitreous_config
from vitreous.pretrained.registry import WeightsUrl, is_origin_name, resolve_origin

FACTORY = "factory:"
DISTRIBUTED_CHECKPOINT = (
    "is a distributed checkpoint: convert it to one file with torch.distributed.checkpoint.format_utils."
    "dcp_to_torch_save first"
)


@dataclass(frozen=True)
class VitreousModel:
    """A model that Vitreous wrote: its folder, or its weights file beside a config.json."""

    path: Path


@dataclass(frozen=True)
class WeightsFile:
    """A weights file of another library."""

    path: Path


@dataclass(frozen=True)
class LoRAFile:
    """LoRA matrices, without the weights that they adapt."""

    path: Path


@dataclass(frozen=True)
class Factory:
    """A function that builds a model, as "module:function", and a file with its weights."""

    function: str
    weights: Path | None


ModelSource = VitreousModel | LoRAFile | WeightsFile | WeightsUrl | HubRepository | LocalRepository | Factory


def resolve(model: str) -> ModelSource:
    """Find out what the name of a model stands for, as `vitreous.load` takes it.

    Raises:
        InputError: there is no such origin or model, or the folder holds none.
    """
    if model.startswith(FACTORY):
        function, _, weights = model.removeprefix(FACTORY).partition("@")
        return Factory(function, Path(weights) if weights else None)
    path = Path(model)
    if path.suffix == ".safetensors" and path.is_file() and is_lora_file(path):
        return LoRAFile(path)
    if (path.is_dir() or (path.is_file() and path.suffix == ".safetensors")) and _has_vitreous_config(path):
        return VitreousModel(path)
    if is_origin_name(model):
        return _resolve_published(resolve_origin(model))
    if (path / CONFIG).is_file():
        return LocalRepository(path)
    if path.is_dir() and next(path.glob("*.distcp"), None):
        raise InputError(f"{path} {DISTRIBUTED_CHECKPOINT}")
    if path.is_dir() and not (path / WEIGHTS).is_file():
        raise InputError(f"{path / CONFIG} is missing: the folder holds no model")
    return WeightsFile(path / WEIGHTS if path.is_dir() else path)


def _has_vitreous_config(path: Path) -> bool:
    """Whether a folder, or the folder of a weights file, has a config.json that Vitreous wrote."""
    config = path / CONFIG if path.is_dir() else path.with_name(CONFIG)
    return config.is_file() and is_vitreous_config(read_json(config))


def _resolve_published(found: HubRepository | WeightsUrl | Path) -> ModelSource:
    """Tell a repository with a model of Vitreous from one of another library."""
    if isinstance(found, Path):
        return VitreousModel(found)
    if isinstance(found, HubRepository):
        config = found.find(CONFIG)
        if config is not None and is_vitreous_config(read_json(config)) and found.find(WEIGHTS):
            return VitreousModel(config.parent)
    return found
