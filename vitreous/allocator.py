"""Keep freed memory for the next tensor instead of handing it to the system and asking for it again.

glibc returns large blocks to the system as they are freed, and the system clears every page that it hands out: a pass
of a small model spends up to half its time on that (`benchmarks/products.py`). It is a setting of the whole process, so
only our own programs make it, and `import vitreous` never does.
"""

import ctypes
import os

# Numbers of malloc.h (glibc), the same on every machine.
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4


def keep_freed_memory() -> bool:
    """Have this process's allocator keep what is freed, where it is glibc's and nobody has set it. Whether it does."""
    if any(name.startswith("MALLOC_") or name == "LD_PRELOAD" for name in os.environ):
        return False  # somebody has chosen
    try:
        set_option = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False  # another C library
    return set_option(_TRIM_THRESHOLD, 2**31 - 1) == set_option(_MMAP_MAX, 0) == 1
