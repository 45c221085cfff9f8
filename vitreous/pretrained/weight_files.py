"""Tensors from files that others wrote: safetensors, PyTorch's own files without running what they hold, NumPy's."""

import pickle
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from vitreous.errors import InputError
from vitreous.files import reason
from vitreous.pretrained.formats.checkpoint_keys import flatten
from vitreous.pretrained.formats.npz import read_npz

LFS_POINTER = b"version https://git-lfs"


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a weights file by name, floating-point ones as float32, all on the processor.

    Raises:
        InputError: the file isn't there, is empty, cut short, a Git LFS pointer, of no known kind, or could be read
            only by running code that it brings.
    """
    check_file(path)
    try:
        content = READERS[path.suffix.lower()](path)
    except OSError as error:
        raise InputError(f"can't read {path}: {reason(error)}") from None
    if not isinstance(content, dict):
        raise InputError(f"{path} holds no tensors by name: give the file of a model's weights (its state_dict)")
    try:
        tensors = flatten(content)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    return {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}


def check_file(path: Path) -> None:
    """Refuse what can't be a weights file, with the reason."""
    if not path.is_file():
        raise InputError(f"there is no model at {path}: give a run folder, a weights file, or origin:name")
    if path.suffix.lower() not in READERS:
        raise InputError(f"{path} is no safetensors file, nor one that ends in {', '.join(list(READERS)[1:])}")
    with path.open("rb") as file:
        start = file.read(len(LFS_POINTER))
    if not start:
        raise InputError(f"{path} is empty: fetch it again")
    if start == LFS_POINTER:
        raise InputError(f"{path} is a Git LFS pointer, not the weights: run 'git lfs pull' where it comes from")


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file."""
    try:
        return load_file(path)
    except SafetensorError as error:
        raise InputError(f"{path} is damaged or no safetensors file ({error}): fetch it again") from None


def read_pickle(path: Path) -> Any:
    """What torch.save wrote, as far as it can be read without running anything."""
    try:
        with warnings.catch_warnings(action="ignore"):  # torch warns of what it then refuses
            return torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        if error.filename is not None:
            raise
        raise InputError(f"{path} {refusal(str(error))}") from None
    except (
        pickle.UnpicklingError,
        RuntimeError,
        EOFError,
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
    ) as error:
        raise InputError(f"{path} {refusal(str(error))}") from None


def refusal(message: str) -> str:
    """Why torch.load would not read a file, from what it said."""
    if "TorchScript" in message:
        return "is a TorchScript program: save its state_dict() as safetensors where it was made"
    if found := re.search(r"GLOBAL ([\w.]+)|Unsupported (?:global|class) ([\w.]+)|function ([\w.]+)", message):
        name = next(filter(None, found.groups())).rstrip(".")
        return f"holds {name}, which only code could read: save the state_dict alone, best as safetensors"
    return "is damaged, cut short or no file of PyTorch: fetch it again"


READERS: dict[str, Callable[[Path], Any]] = {
    ".safetensors": read_safetensors,
    ".pt": read_pickle,
    ".pth": read_pickle,
    ".bin": read_pickle,
    ".ckpt": read_pickle,
    ".npz": read_npz,
}
"""How a file is read, by its ending."""
