"""Load the user's own model: a Python function that builds it, and a file with its weights."""

import importlib
import sys
import warnings
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vitreous.callbacks import Callback, LogCallback
from vitreous.errors import InputError, unknown
from vitreous.model.classifier import ImageClassifier
from vitreous.pretrained.formats.checkpoint_keys import TRAINING_KEYS, WRAPPED_PARTS, strip_wrappers
from vitreous.pretrained.formats.stored_tensors import check_stored
from vitreous.pretrained.weight_files import read_tensors
from vitreous.pretrained.wrap import describe_exception, wrap
from vitreous.runtime import select_device

MAX_WARNING = 300
"""Characters of a library's warning that a note repeats."""


def load_factory(
    factory: str,
    checkpoint: str | Path | None = None,
    device: str | torch.device = "auto",
    callback: Callback | None = None,
) -> ImageClassifier:
    """Build a model with a function of the user's, and load a checkpoint into it.

    The current folder becomes the first entry of Python's module search path (`sys.path`), as with `python -m`. It
    stays there, so that modules that the model imports only when it runs are found too.

    Args:
        factory: "module:function". The function takes no arguments and returns a torch.nn.Module, or an ImageClassifier
            from `vitreous.wrap` (to state the preprocessing).
        checkpoint: a .safetensors file, or a file of torch.save (read without running code in it); every name and shape
            must fit. None keeps the weights that the function made.
        device: "auto", "cpu" or "cuda", or a torch.device.
        callback: receives what was assumed about the model; see `vitreous.wrap`.

    Raises:
        InputError: there is no such module or function, it fails, exits or returns something else, the checkpoint
            doesn't fit, or the model can't be run.
    """
    _import_from_current_folder()
    with _warnings_as_notes(factory, callback or LogCallback()):
        built = _call(_find_function(factory), factory)
    if not isinstance(built, (nn.Module, ImageClassifier)):
        raise InputError(
            f"{factory} returns {type(built).__name__}: let it return a torch.nn.Module, or vitreous.wrap(model, ...)"
        )
    module = built if isinstance(built, nn.Module) else getattr(built.model, "module", built.model)
    if checkpoint is not None:
        load_weights(module, read_tensors(Path(checkpoint), callback), str(checkpoint))
    module.to(select_device(device))
    with _warnings_as_notes(factory, callback or LogCallback()):
        return wrap(built, callback=callback) if isinstance(built, nn.Module) else built


@contextmanager
def _warnings_as_notes(factory: str, callback: Callback) -> Generator[None]:
    """Pass the warnings of libraries that a model uses on as notes, one line each, instead of printing their source."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        yield
    hidden = (DeprecationWarning, FutureWarning, ImportWarning, ResourceWarning)  # for the library's own authors
    texts = [" ".join(str(one.message).split()) for one in caught if not issubclass(one.category, hidden)]
    for text in dict.fromkeys(texts):
        callback.on_note(f"{factory} warns: {text[:MAX_WARNING]}")


def load_weights(module: nn.Module, tensors: Mapping[str, Tensor], source: str) -> None:
    """Load weights into a module; a prefix of all names is removed if the names fit then.

    Raises:
        InputError: names or shapes don't fit; the message has the first of them.
    """
    expected = module.state_dict()
    candidates = list(_without_wrappers(tensors))
    chosen = max(candidates, key=lambda candidate: (len(expected.keys() & candidate.keys()), -len(candidate)))
    missing = [name for name in expected if name not in chosen]
    unexpected = [name for name in chosen if name not in expected]
    if missing or unexpected:
        what = [
            f"{text} {names[0]}" + (f" and {len(names) - 1} more" if len(names) > 1 else "")
            for text, names in (("lacks", missing), ("has an unexpected", unexpected))
            if names
        ]
        raise InputError(f"{source} doesn't fit the model: it {' and '.join(what)}")
    for name, tensor in expected.items():
        if tensor.shape != chosen[name].shape:
            shapes = f"{tuple(chosen[name].shape)}, the model's is {tuple(tensor.shape)}"
            raise InputError(f"{source} doesn't fit the model: {name} is {shapes}")
    try:
        check_stored({name: chosen[name] for name, it in expected.items() if it.is_floating_point()})
    except InputError as error:
        raise InputError(f"{source}: {error}") from None
    module.load_state_dict(chosen)


def _without_wrappers(tensors: Mapping[str, Tensor]) -> Iterator[dict[str, Tensor]]:
    """Yield the tensors by their names, and by the names without what wrappers and trainers add, one by one."""
    yield dict(tensors)
    yield {bare: tensors[name] for bare, name in strip_wrappers(tensors).items()}
    stripped = {WRAPPED_PARTS.sub("", name): one for name, one in tensors.items() if not TRAINING_KEYS.fullmatch(name)}
    while True:
        yield stripped
        prefixes = {name.partition(".")[0] + "." for name in stripped}
        if len(prefixes) != 1 or not all("." in name for name in stripped):
            return
        stripped = {name.removeprefix(*prefixes): tensor for name, tensor in stripped.items()}


def _find_function(factory: str) -> Callable[[], Any]:
    module_name, _, name = factory.partition(":")
    if not module_name or not name.isidentifier():
        raise InputError(f"'{factory}' is not a factory: write module:function, such as my_module:build")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name != module_name and not module_name.startswith(f"{error.name}."):
            raise InputError(
                f"{module_name} can't be imported: it needs {error.name}, which is not installed"
            ) from error
        raise InputError(f"there is no module '{module_name}' here ({Path.cwd()}) or installed") from None
    except (Exception, SystemExit) as error:  # whatever the user's own code raises
        raise InputError(f"{module_name} can't be imported: {describe_exception(error)}") from error
    if not callable(getattr(module, name, None)):
        raise unknown(
            f"function in {module_name}", name, [one for one, it in vars(module).items() if _is_defined_in(it, module)]
        )
    return getattr(module, name)


def _is_defined_in(thing: Any, module: Any) -> bool:
    return callable(thing) and getattr(thing, "__module__", None) == module.__name__


def _call(build: Callable[[], Any], factory: str) -> Any:
    try:
        return build()
    except InputError:
        raise
    except (Exception, SystemExit) as error:  # whatever the user's own code raises
        raise InputError(f"{factory} failed: {describe_exception(error)}") from error


def _import_from_current_folder() -> None:
    """Make the current folder the first entry of `sys.path`; calling it again changes nothing."""
    folder = str(Path.cwd())
    if sys.path[:1] != [folder]:
        sys.path.insert(0, folder)
    importlib.invalidate_caches()
