"""What our own programs ask of the process they run in, before torch is loaded. `import vitreous` asks for nothing."""

import ctypes
import os

# Numbers of malloc.h (glibc), the same on every machine.
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4


def keep_freed_memory() -> bool:
    """Have the allocator keep what is freed, where it is glibc's and nobody has set it. Whether it does now.

    glibc returns large blocks to the system as they are freed, and the system clears every page that it hands out: a
    pass of a small model, and a training step, spend up to a third of their time on that (LOG.md 2026-11-21).
    """
    if any(name.startswith("MALLOC_") or name == "LD_PRELOAD" for name in os.environ):
        return False  # somebody has chosen
    try:
        set_option = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False  # another C library
    return set_option(_TRIM_THRESHOLD, 2**31 - 1) == set_option(_MMAP_MAX, 0) == 1


def share_cores() -> None:
    """Have torch's threads sleep soon when they wait, for programs that decode, draw and encode beside the model.

    By default they turn in circles for milliseconds on cores that the others need: a tenth of a clip's time. A program
    that only computes is better off so.
    """
    os.environ.setdefault("GOMP_SPINCOUNT", "2000")
