"""Vitreous: Vision Transformers you can see through.

The public names are loaded when they are first used, so that `vitreous --help` needn't wait for torch.
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vitreous.clips.explain import explain_video
    from vitreous.errors import InputError
    from vitreous.explanation.observation.observe import observe
    from vitreous.imaging.preprocessing import Preprocessing
    from vitreous.pretrained.load import load
    from vitreous.pretrained.wrap import wrap
    from vitreous.workflows.evaluate import evaluate
    from vitreous.workflows.explain import explain
    from vitreous.workflows.train import train

__version__ = version("vitreous")
__all__ = ["InputError", "Preprocessing", "evaluate", "explain", "explain_video", "load", "observe", "train", "wrap"]

_HOMES = {
    "InputError": "errors",
    "Preprocessing": "imaging.preprocessing",
    "evaluate": "workflows.evaluate",
    "explain": "workflows.explain",
    "explain_video": "clips.explain",
    "load": "pretrained.load",
    "observe": "explanation.observation.observe",
    "train": "workflows.train",
    "wrap": "pretrained.wrap",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'vitreous' has no attribute '{name}'")
    value = getattr(import_module(f"vitreous.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
