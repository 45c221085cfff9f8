"""How much memory decoded images may take, here and on a GPU."""

import os
from pathlib import Path

import torch

SHARE = 0.5  # of the memory that is free, for images; the rest is for the model and everybody else
LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def budget_bytes(device: torch.device | None = None) -> int:
    """The memory that images may take in bytes: half of what is free, on the processor or on a GPU."""
    if device is not None and device.type == "cuda":
        return int(SHARE * torch.cuda.mem_get_info(device)[0])
    return int(SHARE * free_bytes())


def free_bytes() -> int:
    """The memory that a program can still get in bytes, and no more than this container may have in all."""
    limits = [int(text) for path in LIMITS if (text := content(path)).isdecimal()]
    return min([available_bytes(), *limits])


def available_bytes() -> int:
    """What the system says is available; where it says nothing (outside Linux), all the memory there is."""
    for line in content("/proc/meminfo").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def content(path: str) -> str:
    """A small file's text; empty where there is none."""
    try:
        return Path(path).read_text(encoding="ascii").strip()
    except OSError:
        return ""
