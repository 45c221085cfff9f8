"""Process-wide facts: the device, the rank among several processes, the precision, and random numbers."""

import hashlib
import os
import platform
import re
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

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
    return _environment_number("WORLD_SIZE", 1)


def rank() -> int:
    """Return the rank of this process, from 0."""
    return _environment_number("RANK", 0) if world_size() > 1 else 0


def local_rank() -> int:
    """Return the rank of this process on its host, from 0."""
    return _environment_number("LOCAL_RANK", 0) if world_size() > 1 else 0


def restart_count() -> int:
    """Return how often torchrun (--max-restarts) has restarted this program after a failure."""
    return _environment_number("TORCHELASTIC_RESTART_COUNT", 0)


def _environment_number(name: str, default: int) -> int:
    """Read a number that torchrun sets; a variable that is empty counts as not set.

    Raises:
        InputError: it is no number, or a negative one.
    """
    text = os.environ.get(name, "").strip()
    if text and not text.isdecimal():
        raise InputError(f"the environment variable {name} is '{text}': it must be a whole number; unset it")
    return int(text or default)


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


DRAWING_FUNCTIONS = frozenset({
    torch.rand, torch.randn, torch.randint, torch.randperm, torch.bernoulli, torch.normal, torch.multinomial,
    torch.poisson, *(getattr(torch.Tensor, name) for name in (
        "uniform_", "normal_", "bernoulli_", "random_", "exponential_", "geometric_", "cauchy_", "log_normal_",
        "bernoulli", "multinomial",
    )),
    nn.init.uniform_, nn.init.normal_, nn.init.kaiming_uniform_,
})  # fmt: skip
"""Functions of torch that draw from the global generator of the process unless they are given another one."""


class OwnGenerator(TorchFunctionMode):
    """Have `DRAWING_FUNCTIONS` draw from a generator of its own while the block runs, in this thread.

    Other functions, such as dropout and `torch.rand_like`, still draw from the global one: don't use them in the block.

    The numbers are those that follow `torch.manual_seed`, but the global generator, from which other threads draw too,
    is neither used nor changed.

    >>> with OwnGenerator(torch.Generator().manual_seed(0)):
    ...     own = torch.rand(3)
    >>> bool((own == torch.rand(3, generator=torch.Generator().manual_seed(0))).all())
    True
    """

    def __init__(self, generator: torch.Generator) -> None:
        super().__init__()
        self.generator = generator

    def __torch_function__(
        self, func: Callable[..., object], types: object, args: tuple = (), kwargs: dict | None = None
    ) -> object:
        """Intercept each function of torch."""
        kwargs = kwargs or {}
        if func in DRAWING_FUNCTIONS and kwargs.get("generator") is None:
            kwargs = {**kwargs, "generator": self.generator}
        return func(*args, **kwargs)
