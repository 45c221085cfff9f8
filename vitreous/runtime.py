"""Process-wide facts: the device, the rank among several processes, the precision, and random numbers."""

import hashlib
import os
import platform
import re
from contextlib import AbstractContextManager, nullcontext

import torch

from vitreous.errors import InputError, unknown

PRECISIONS = ("auto", "bf16", "fp32")


def select_device(name: str | torch.device = "auto") -> torch.device:
    """Select the device to compute on.

    Args:
        name: "auto" (the first GPU, else the CPU), "cpu", "cuda" (under torchrun the GPU of the local rank) or
            "cuda:N"; or a torch.device.

    Raises:
        InputError: there is no such device.

    >>> select_device("cpu")
    device(type='cpu')
    """
    name = str(name)
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and world_size() > 1:
        name = f"cuda:{local_rank()}"
    if not re.fullmatch(r"cpu|cuda(:\d+)?", name):
        raise unknown("device", name, ["auto", "cpu", "cuda", "cuda:0"])
    device, count = torch.device(name), torch.cuda.device_count()
    if device.type == "cuda" and (device.index or 0) >= count:
        raise InputError(f"device '{name}' is not there: torch sees {count} GPUs; choose another device, such as cpu")
    return device


def world_size() -> int:
    """Return the number of processes that run this program together, as torchrun sets it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def rank() -> int:
    """Return the rank of this process, from 0."""
    return int(os.environ.get("RANK", "0")) if world_size() > 1 else 0


def local_rank() -> int:
    """Return the rank of this process on its host, from 0."""
    return int(os.environ.get("LOCAL_RANK", "0")) if world_size() > 1 else 0


def restart_count() -> int:
    """Return how often torchrun (--max-restarts) has restarted this program after a failure."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))


def describe_device(device: torch.device) -> str:
    """Describe what the bits of a run depend on besides its seed: the GPU's name, or the number of CPU threads."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"cpu, {torch.get_num_threads()} threads"


def has_fast_bf16(device: torch.device) -> bool:
    """Return whether the hardware computes in bfloat16, so that it is faster than float32."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    # oneDNN also says yes where AVX-512 only emulates bfloat16, which gains nothing.
    native = platform.machine() not in ("x86_64", "AMD64") or torch.cpu._is_avx512_bf16_supported()
    return native and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def choose_precision(precision: str, device: torch.device) -> str:
    """Resolve "auto" to "bf16" if the hardware has it, else to "fp32"."""
    if precision not in PRECISIONS:
        raise unknown("precision", precision, PRECISIONS)
    if precision == "auto":
        return "bf16" if has_fast_bf16(device) else "fp32"
    return precision


def autocast(device: torch.device, precision: str) -> AbstractContextManager:
    """Return the context in which matrix products run in the chosen precision."""
    if precision == "bf16":
        return torch.autocast(device.type, torch.bfloat16)
    return nullcontext()


def seed_for(seed: int, *purpose: object) -> int:
    """Derive a 63-bit seed for one purpose of a run; the same arguments give the same seed on every machine.

    Every random number of a run comes from such a seed, so that step n draws the same numbers whether or not the run
    was interrupted before it.

    >>> seed_for(0, "order", 3) == seed_for(0, "order", 3) != seed_for(0, "order", 4)
    True
    """
    text = "/".join(map(str, (seed, *purpose)))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest()) >> 1


def generator(seed: int, *purpose: object) -> torch.Generator:
    """Return a random number generator on the CPU for one purpose of a run."""
    return torch.Generator().manual_seed(seed_for(seed, *purpose))
