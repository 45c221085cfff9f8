"""Find how much memory decoded images may take, on the CPU and on a GPU."""

import os
from pathlib import Path

import torch

IMAGE_FRACTION = 0.5
"""The fraction of the free memory for images; the rest is for the model and other programs."""
CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def budget_bytes(device: torch.device | None = None) -> int:
    """Return the memory in bytes that images may take: half of what is free, on the CPU or on a GPU."""
    if device is not None and device.type == "cuda":
        return int(IMAGE_FRACTION * torch.cuda.mem_get_info(device)[0])
    return int(IMAGE_FRACTION * _free_bytes())


def _free_bytes() -> int:
    """Return the memory in bytes that a program can still get, at most the limit of its container."""
    limits = [int(text) for path in CGROUP_LIMITS if (text := _read_text(path)).isdecimal()]
    return min([_available_bytes(), *limits])


def _available_bytes() -> int:
    """Return what the system calls available; where it doesn't say (outside Linux), the total memory."""
    for line in _read_text("/proc/meminfo").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _read_text(path: str) -> str:
    """Return the text of a small file, empty if there is no such file."""
    try:
        return Path(path).read_text(encoding="ascii").strip()
    except OSError:
        return ""
