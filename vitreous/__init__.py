"""Vitreous: Vision Transformers you can see through.

The public names are loaded when they are first used, so that `vitreous --help` needn't wait for torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vitreous.data.preprocessing import Preprocessing
    from vitreous.errors import InputError
    from vitreous.explanation.observation.observe import observe
    from vitreous.workflows.evaluate import evaluate
    from vitreous.workflows.explain import explain
    from vitreous.workflows.load import load
    from vitreous.workflows.train import train
    from vitreous.workflows.video import explain_video
    from vitreous.workflows.wrap import wrap

__version__ = "0.1.0"
__all__ = ["InputError", "Preprocessing", "evaluate", "explain", "explain_video", "load", "observe", "train", "wrap"]

_HOMES = {
    "InputError": "errors",
    "Preprocessing": "data.preprocessing",
    "evaluate": "workflows.evaluate",
    "explain": "workflows.explain",
    "explain_video": "workflows.video",
    "load": "workflows.load",
    "observe": "explanation.observation.observe",
    "train": "workflows.train",
    "wrap": "workflows.wrap",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'vitreous' has no attribute '{name}'")
    value = getattr(import_module(f"vitreous.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
