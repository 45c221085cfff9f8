"""Settings that Vitreous's own programs make for their process before torch is loaded; `import vitreous` makes none."""

import ctypes
import os

# Numbers of malloc.h (glibc), the same on every machine.
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4


def keep_freed_memory() -> bool:
    """Make glibc's allocator keep freed memory, unless the user configured it; return whether it does now.

    glibc returns large blocks to the system as they are freed, and the system clears every page that it hands out. A
    forward pass of a small model, and a training step, spend up to a third of their time on that (LOG.md 2026-11-21).
    """
    if any(name.startswith("MALLOC_") or name == "LD_PRELOAD" for name in os.environ):
        return False  # somebody has chosen
    try:
        set_option = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False  # another C library
    return set_option(_TRIM_THRESHOLD, 2**31 - 1) == set_option(_MMAP_MAX, 0) == 1


def share_cores() -> None:
    """Let torch's threads sleep soon when they wait, for programs that decode, draw and encode beside the model.

    By default they spin for milliseconds on cores that the others need, which costs a tenth of the time of a video. A
    program that only computes is faster with spinning.
    """
    os.environ.setdefault("GOMP_SPINCOUNT", "2000")
