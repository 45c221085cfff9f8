"""The user's own model: a Python function that builds it, and a file with its weights."""

import importlib
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from vitreous.errors import InputError, unknown
from vitreous.model.classifier import ImageClassifier
from vitreous.pretrained.formats.checkpoint_keys import AROUND
from vitreous.pretrained.weight_files import read_tensors
from vitreous.pretrained.wrap import in_one_line, wrap
from vitreous.runtime import find_device


def load_factory(factory: str, checkpoint: str | Path | None = None, device: str = "auto") -> ImageClassifier:
    """The model that a function of the user's builds, with the weights of a checkpoint.

    The current folder becomes the first place where Python looks for modules and stays so, as with `python -m`: what
    the model imports only once it runs is then found too.

    Args:
        factory: "module:function". The function takes nothing and gives a torch.nn.Module, or a Classifier as
            `vitreous.wrap` makes (to say what its images are like).
        checkpoint: a .safetensors file, or what torch.save wrote (read without running anything); every name and
            shape must fit. None to keep the weights that the function made.
        device: "auto", "cpu" or "cuda".

    Raises:
        InputError: no such module or function, it fails, ends the program or gives something else, the checkpoint
            doesn't fit, or the model can't be run.
    """
    _look_in_current_folder()
    built = _run(_find(factory), factory)
    if not isinstance(built, (nn.Module, ImageClassifier)):
        raise InputError(
            f"{factory} gives {type(built).__name__}: let it return a torch.nn.Module, or vitreous.wrap(model, ...)"
        )
    module = built if isinstance(built, nn.Module) else getattr(built.model, "module", built.model)
    if checkpoint is not None:
        fill(module, read_tensors(Path(checkpoint)), str(checkpoint))
    module.to(find_device(device))
    return wrap(built) if isinstance(built, nn.Module) else built


def fill(module: nn.Module, tensors: Mapping[str, Tensor], source: str) -> None:
    """Load weights into a module; what trainers put before all names is taken off if that makes them fit.

    Raises:
        InputError: names or shapes don't fit; names the first.
    """
    wanted = module.state_dict()
    candidates = list(_bared(tensors))
    given = max(candidates, key=lambda candidate: len(wanted.keys() & candidate.keys()))
    missing = [name for name in wanted if name not in given]
    unexpected = [name for name in given if name not in wanted]
    if missing or unexpected:
        what = [
            f"{text} {names[0]}" + (f" and {len(names) - 1} more" if len(names) > 1 else "")
            for text, names in (("lacks", missing), ("has the unexpected", unexpected))
            if names
        ]
        raise InputError(f"{source} doesn't fit the model: it {' and '.join(what)}")
    for name, tensor in wanted.items():
        if tensor.shape != given[name].shape:
            shapes = f"{tuple(given[name].shape)}, the model's is {tuple(tensor.shape)}"
            raise InputError(f"{source} doesn't fit the model: {name} is {shapes}")
    module.load_state_dict(given)


def _bared(tensors: Mapping[str, Tensor]) -> Iterator[dict[str, Tensor]]:
    """The tensors by their names, and by these without what stands before all of them."""
    bare = dict(tensors)
    while True:
        yield bare
        around = next((text for text in AROUND if all(name.startswith(text) for name in bare)), None)
        if around is None:
            return
        bare = {name.removeprefix(around): tensor for name, tensor in bare.items()}


def _find(factory: str) -> Callable[[], Any]:
    module_name, _, name = factory.partition(":")
    if not module_name or not name.isidentifier():
        raise InputError(f"'{factory}' is no factory: write module:function, such as my_module:build")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name != module_name and not module_name.startswith(f"{error.name}."):
            raise InputError(f"{module_name} can't be imported: it needs {error.name}, which isn't there") from error
        raise InputError(f"there is no module '{module_name}' here ({Path.cwd()}) or installed") from None
    except (Exception, SystemExit) as error:  # whatever the user's own code raises
        raise InputError(f"{module_name} can't be imported: {in_one_line(error)}") from error
    if not callable(getattr(module, name, None)):
        raise unknown(f"function in {module_name}", name, [one for one, it in vars(module).items() if _own(it, module)])
    return getattr(module, name)


def _own(thing: Any, module: Any) -> bool:
    return callable(thing) and getattr(thing, "__module__", None) == module.__name__


def _run(build: Callable[[], Any], factory: str) -> Any:
    try:
        return build()
    except InputError:
        raise
    except (Exception, SystemExit) as error:  # whatever the user's own code raises
        raise InputError(f"{factory} failed: {in_one_line(error)}") from error


def _look_in_current_folder() -> None:
    """Make the current folder the first place where Python looks for modules; a second time changes nothing."""
    folder = str(Path.cwd())
    if sys.path[:1] != [folder]:
        sys.path.insert(0, folder)
    importlib.invalidate_caches()
