"""Read tensors from weights files of other libraries: safetensors, PyTorch (without running code), NumPy."""

import argparse
import pathlib
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from vitreous.callbacks import Callback
from vitreous.errors import InputError
from vitreous.files import os_error_reason
from vitreous.model.serialization import is_vitreous_weights
from vitreous.pretrained.formats.checkpoint_keys import find_weights
from vitreous.pretrained.formats.npz import read_npz
from vitreous.pretrained.formats.stored_tensors import to_float32
from vitreous.pretrained.resolve import DISTRIBUTED_CHECKPOINT

LFS_POINTER = b"version https://git-lfs"


def read_tensors(path: Path, callback: Callback | None = None) -> dict[str, Tensor]:
    """Read the tensors of a weights file by name, floating-point ones as float32, all on the CPU.

    Those that can't be used as weights stay as they are: `check_stored` tells them.

    Args:
        path: the file.
        callback: `on_note` receives which weights were taken, where there are several or their record's name is
            unusual.

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
        record, others = find_weights(content)
        tensors = {name: to_float32(tensor) for name, tensor in record.tensors.items()}
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    if callback is not None and (others or not record.is_known):
        rest = f", not those in {', '.join(others)}" if others else ""
        callback.on_note(f"{path}: the weights in '{record.name}' are used{rest}")
    return tensors


def check_file(path: Path) -> None:
    """Check that a path can be a weights file.

    Raises:
        InputError: it is missing, empty, a Git LFS pointer, or of no known kind.
    """
    if not path.is_file():
        raise InputError(f"there is no model at {path}: give a run folder, a weights file, timm:NAME or hf:OWNER/NAME")
    if path.suffix.lower() in OTHER_FILES:
        raise InputError(f"{path} {OTHER_FILES[path.suffix.lower()]}")
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
    except (NotImplementedError, KeyError, AttributeError, TypeError) as error:  # a kind of number that torch lacks
        raise InputError(f"{path} has numbers of a kind that can't be read ({error}): save it in float32") from None


def read_pickle(path: Path) -> Any:
    """Read a file of torch.save without running code in it."""
    try:
        with warnings.catch_warnings(action="ignore"), torch.serialization.safe_globals(PLAIN_CLASSES):
            return torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        if error.filename is not None:
            raise
        raise InputError(f"{path} {unsupported_error(str(error))}") from None
    except Exception as error:  # a damaged file can raise anything
        raise InputError(f"{path} {unsupported_error(str(error))}") from error


def unsupported_error(message: str) -> str:
    """Explain why torch.load refused a file, given its message."""
    if "ExportedProgram" in message or "torch.export" in message:
        return "is an exported program (torch.export): save the state_dict() of the original model as safetensors"
    if "_rebuild_qtensor" in message or "torch.q" in message or "ScriptObject" in message:
        return "holds quantized weights: save the model's weights in floating point"
    if "TorchScript" in message:
        return "is a TorchScript program: save the state_dict() of the original model as safetensors"
    if found := re.search(r"GLOBAL ([\w.]+)|Unsupported (?:global|class) ([\w.]+)|function ([\w.]+)", message):
        name = next(filter(None, found.groups())).rstrip(".")
        advice = "save only the state_dict, preferably as safetensors"
        return f"contains {name}, which can't be read without running code: {advice}"
    return "is damaged, truncated or no PyTorch file: download it again"


def _numpy_classes() -> list[Any]:
    """Return numpy's scalars and arrays, as old and new versions name them: metrics and random states."""
    from numpy._core import multiarray

    found: list[Any] = [np.dtype, np.ndarray, *(type(np.dtype(kind)) for kind in "?bBhHiIlLqQefdUS")]
    for module in ("numpy.core.multiarray", "numpy._core.multiarray"):
        found += [(getattr(multiarray, name), f"{module}.{name}") for name in ("scalar", "_reconstruct")]
    return found


PLAIN_CLASSES: list[Any] = [
    argparse.Namespace,
    *((getattr(pathlib, name), f"{module}.{name}")
      for module in ("pathlib", "pathlib._local") for name in ("PosixPath", "PurePosixPath", "PureWindowsPath")),
    *_numpy_classes(),
]  # fmt: skip
"""Classes beside torch's own that checkpoints of timm, DeiT, MAE and DINO hold: plain records, paths and numbers."""

OTHER_FILES = {
    ".onnx": "is an ONNX program: save the state_dict() of the original model as safetensors",
    ".pt2": "is an exported program (torch.export): save the state_dict() of the original model as safetensors",
    ".distcp": DISTRIBUTED_CHECKPOINT,
    **dict.fromkeys(
        (".h5", ".keras", ".tflite", ".pb", ".msgpack"), "is a file of TensorFlow or JAX: convert it to PyTorch first"
    ),
    ".gguf": "holds quantized weights: save the model's weights in floating point",
}
"""Files of other kinds, by suffix, and what to do."""
READERS: dict[str, Callable[[Path], Any]] = {
    ".safetensors": read_safetensors,
    ".pt": read_pickle,
    ".pth": read_pickle,
    ".tar": read_pickle,
    ".bin": read_pickle,
    ".ckpt": read_pickle,
    ".npz": read_npz,
}
"""Functions that read a file, by its suffix."""
