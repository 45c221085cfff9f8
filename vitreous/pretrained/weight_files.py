"""Read tensors from weights files of other libraries: safetensors, PyTorch (without running code), NumPy."""

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
from vitreous.files import os_error_reason
from vitreous.model.serialization import is_vitreous_weights
from vitreous.pretrained.formats.checkpoint_keys import flatten
from vitreous.pretrained.formats.npz import read_npz

LFS_POINTER = b"version https://git-lfs"


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a weights file by name, floating-point ones as float32, all on the CPU.

    Raises:
        InputError: the file is missing, empty, truncated, a Git LFS pointer, of no known kind, or can't be read without
            running code in it.
    """
    check_file(path)
    try:
        content = READERS[path.suffix.lower()](path)
    except OSError as error:
        raise InputError(f"can't read {path}: {os_error_reason(error)}") from None
    if not isinstance(content, dict):
        raise InputError(f"{path} holds no named tensors: give a file with a model's weights (its state_dict)")
    try:
        tensors = flatten(content)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    return {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}


def check_file(path: Path) -> None:
    """Check that a path can be a weights file.

    Raises:
        InputError: it is missing, empty, a Git LFS pointer, or of no known kind.
    """
    if not path.is_file():
        raise InputError(f"there is no model at {path}: give a run folder, a weights file, or origin:name")
    if path.suffix.lower() not in READERS:
        raise InputError(f"{path} is not a safetensors file and does not end in {', '.join(list(READERS)[1:])}")
    with path.open("rb") as file:
        start = file.read(len(LFS_POINTER))
    if not start:
        raise InputError(f"{path} is empty: download it again")
    if start == LFS_POINTER:
        raise InputError(f"{path} is a Git LFS pointer, not the weights: run 'git lfs pull' in its repository")


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file."""
    try:
        if is_vitreous_weights(path):
            raise InputError(f"{path} is a model of Vitreous without its config.json: put that beside it")
        return load_file(path)
    except SafetensorError as error:
        raise InputError(f"{path} is damaged or no safetensors file ({error}): download it again") from None


def read_pickle(path: Path) -> Any:
    """Read a file of torch.save without running code in it."""
    try:
        with warnings.catch_warnings(action="ignore"):  # torch warns about what it then refuses
            return torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        if error.filename is not None:
            raise
        raise InputError(f"{path} {unsupported_error(str(error))}") from None
    except (
        pickle.UnpicklingError,
        RuntimeError,
        EOFError,
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
    ) as error:
        raise InputError(f"{path} {unsupported_error(str(error))}") from None


def unsupported_error(message: str) -> str:
    """Explain why torch.load refused a file, given its message."""
    if "TorchScript" in message:
        return "is a TorchScript program: save the state_dict() of the original model as safetensors"
    if found := re.search(r"GLOBAL ([\w.]+)|Unsupported (?:global|class) ([\w.]+)|function ([\w.]+)", message):
        name = next(filter(None, found.groups())).rstrip(".")
        advice = "save only the state_dict, preferably as safetensors"
        return f"contains {name}, which can't be read without running code: {advice}"
    return "is damaged, truncated or no PyTorch file: download it again"


READERS: dict[str, Callable[[Path], Any]] = {
    ".safetensors": read_safetensors,
    ".pt": read_pickle,
    ".pth": read_pickle,
    ".bin": read_pickle,
    ".ckpt": read_pickle,
    ".npz": read_npz,
}
"""Functions that read a file, by its suffix."""
