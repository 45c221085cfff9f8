"""Memory and threads of the process: what Vitreous's own programs set before torch is loaded, and shared cores."""

import ctypes
import logging
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

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


SAMPLE_SECONDS = 0.5
"""Seconds between two samples of how long the threads of the process waited for a core."""
CROWDED, QUIET = 0.1, 0.02
"""Fractions of their time that threads wait for a core: above the first one cores are shared, below the second not."""
QUIET_SAMPLES = 20
"""Quiet samples in a row, after which torch's threads spin again."""
USER_CHOICES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "OMP_STACKSIZE", "GOMP_STACKSIZE")
"""Environment variables by which users choose how OpenMP's threads wait, and how much memory each one takes."""
SHARED_NOTE = (
    "torch's threads wait for cores, so they sleep while they wait for each other "
    "(OMP_WAIT_POLICY=ACTIVE keeps them spinning)"
)
MAX_TEAM = 65
"""Most threads of a `SleepingTeam`; on machines with as many cores or more, torch's threads keep spinning."""


def share_cores() -> None:
    """Let torch's threads sleep soon when they wait, for programs that decode, draw and encode beside the model.

    By default they spin for milliseconds on cores that the others need, which costs a tenth of the time of a video. A
    program that only computes is faster with spinning.
    """
    os.environ.setdefault("GOMP_SPINCOUNT", "2000")


def monitor_cores(on_note: Callable[[str], object] | None = None) -> bool:
    """Let torch's waiting threads sleep soon, but only while threads have to wait for cores; return whether it may.

    By default these threads spin. On cores of their own that is fastest; on cores that others use, it makes a forward
    pass several times slower, because the threads that spin keep away the one that they wait for. A thread looks twice
    a second at how long this process waited for a core (/proc/self/task/*/schedstat), so no program has to decide in
    advance, and results don't change. It does nothing where a user has chosen (`USER_CHOICES`), with a single thread,
    with 65 cores or more, where threads can't be created, and on other systems than Linux.

    Args:
        on_note: told once, when threads turn out to wait for cores; by default the log, at level INFO.
    """
    global _monitor
    chosen = any(os.environ.get(name) for name in USER_CHOICES) or os.environ.get("OMP_NUM_THREADS") == "1"
    if chosen or not _waiting_times() or team_size() > MAX_TEAM:
        return False
    if _monitor is None or not _monitor.is_alive():  # after a fork it isn't
        note = on_note or logging.getLogger("vitreous").info
        monitor = threading.Thread(target=_monitor_forever, args=[note], name="vitreous-cores", daemon=True)
        try:
            monitor.start()
        except RuntimeError:  # a limit of threads
            return False
        _monitor = monitor
    return True


_monitor: threading.Thread | None = None


def _monitor_forever(on_note: Callable[[str], object]) -> None:
    before: dict[str, tuple[int, int]] = {}  # so the first sample covers the time since the start of the process
    team, quiet = None, 0
    while True:
        now = _waiting_times()
        fraction = waited_fraction(before, now)
        before = now
        if team is None and (fraction or 0) > CROWDED and (libraries := _openmp_libraries()):
            if not can_start_threads(2 * team_size() * len(libraries)):
                return
            team, quiet = SleepingTeam(libraries), 0
            on_note(SHARED_NOTE)
            on_note = _ignore
        if fraction is not None:  # an idle process learns nothing
            quiet = quiet + 1 if fraction < QUIET else 0
        if team is not None and quiet >= QUIET_SAMPLES:
            team.close()
            team = None
        time.sleep(SAMPLE_SECONDS)


def waited_fraction(before: dict[str, tuple[int, int]], now: dict[str, tuple[int, int]]) -> float | None:
    """Return the fraction of the time in which threads could have run, but waited for a core; None if they were idle.

    Args:
        before: for each thread, nanoseconds on a core and waiting for one; 0 for threads that are new since.
        now: the same now.

    >>> waited_fraction({"1": (0, 0)}, {"1": (3_000_000_000, 1_000_000_000)})
    0.25
    """
    running, waiting = (sum(now[one][column] - before.get(one, (0, 0))[column] for one in now) for column in (0, 1))
    return waiting / total if (total := running + waiting) > 1e9 * SAMPLE_SECONDS / 10 else None


def team_size() -> int:
    """Return one more than the number of cores that this process may use, which is what libgomp compares with."""
    return len(os.sched_getaffinity(0)) + 1


def can_start_threads(count: int) -> bool:
    """Return whether so many threads can run at once, by trying it: libgomp ends the process where one can't.

    The limits are too many to read (RLIMIT_NPROC, RLIMIT_AS, the pids.max of each control group above the process). Ask
    for more threads than are needed, because other programs may start some meanwhile.
    """
    ended, threads = threading.Event(), []
    try:
        for _ in range(count):
            thread = threading.Thread(target=ended.wait, daemon=True)
            thread.start()
            threads.append(thread)
    except (RuntimeError, MemoryError):
        return False
    finally:
        ended.set()
        for thread in threads:
            thread.join()
    return True


class SleepingTeam:
    """Makes GNU OpenMP believe that there are more threads than cores, so that its waiting threads sleep early.

    A Python thread runs a parallel region of one thread more than there are cores, once, and then sleeps with its team.
    libgomp counts these threads; where there are more than cores, all teams spin for 1,000 rounds instead of 300,000
    (GOMP_SPINCOUNT in its manual). So the policy can change while the process runs; the variables are read only once.
    """

    def __init__(self, libraries: list[str]) -> None:
        self._libraries, self._ended, self._ready = libraries, threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._hold, name="vitreous-team", daemon=True)
        self._thread.start()
        self._ready.wait()

    def close(self) -> None:
        """End the team; libgomp's threads spin again."""
        self._ended.set()
        self._thread.join()

    def _hold(self) -> None:
        try:
            for path in self._libraries:
                with suppress(OSError, AttributeError):  # the file is gone, or another library has such a name
                    library = ctypes.CDLL(path)
                    nothing = ctypes.cast(library.omp_get_thread_num, ctypes.c_void_p)
                    library.GOMP_parallel(nothing, None, ctypes.c_uint(team_size()), ctypes.c_uint(0))
        finally:
            self._ready.set()
        self._ended.wait()


def _openmp_libraries() -> list[str]:
    """Return the copies of libgomp that the process has loaded."""
    lines = Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace").splitlines()
    return sorted({line.split(maxsplit=5)[5] for line in lines if "/libgomp" in line})


def _waiting_times() -> dict[str, tuple[int, int]]:
    """Return for each thread of the process the nanoseconds on a core and waiting for one; nothing where unknown."""
    times = {}
    for path in Path("/proc/self/task").glob("*/schedstat"):
        try:
            running, waiting, _ = map(int, path.read_text().split())
        except (OSError, ValueError):  # the thread has ended
            continue
        times[path.parent.name] = (running, waiting)
    return times if any(running for running, _ in times.values()) else {}


def _ignore(_: str) -> None:
    pass
