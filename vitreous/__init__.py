"""Vitreous: Vision Transformers you can see through.

The public names are loaded when they are first used, so that `vitreous --help` needn't wait for torch.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vitreous.errors import InputError
    from vitreous.workflows.evaluate import evaluate
    from vitreous.workflows.explain import explain
    from vitreous.workflows.load import load
    from vitreous.workflows.train import train
    from vitreous.workflows.video import explain_video

__version__ = "0.1.0"
__all__ = ["InputError", "evaluate", "explain", "explain_video", "load", "train"]

_HOMES = {
    "InputError": "errors",
    "evaluate": "workflows.evaluate",
    "explain": "workflows.explain",
    "explain_video": "workflows.video",
    "load": "workflows.load",
    "train": "workflows.train",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'vitreous' has no attribute '{name}'")
    value = getattr(import_module(f"vitreous.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


class _Package(ModuleType):
    """Keeps `vitreous.explain` the function: importing the folder of that name would put the module in its place."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _HOMES and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
