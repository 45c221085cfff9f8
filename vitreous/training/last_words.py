"""What a process that fails says to the others of its run, so that the cause is shown once and nobody waits."""

import json
import os
import re
import time

import torch.distributed as dist

from vitreous.errors import InputError

KEY = "vitreous/last-words"
GRACE = 3.0
"""Seconds for the words to arrive, and for the first to fail to print them before torchrun ends it."""
BROKEN_CONNECTION = re.compile(r"gloo|nccl|connection|socket|peer|broken pipe|timed? ?out", re.IGNORECASE)


class LastWords:
    """Who failed first, and of what; kept where torchrun lets the processes meet."""

    def __init__(self, store: dist.Store, rank: int) -> None:
        self.store, self.rank = store, rank
        self.host = os.environ.get("GROUP_RANK", "0")

    def end(self, error: Exception) -> None:
        """Return if `error` is this process' own and for it to say; else end it as the others' failure demands.

        Raises:
            InputError: another process failed, and nobody on this host has said so.
            SystemExit: it is said already.
        """
        lost = is_lost(error)
        first = self._heard() if lost else self._said(error)
        if first is None:
            if lost:
                raise InputError(
                    "another process of the run has ended without a word, killed perhaps for want of memory: "
                    "go on with --resume"
                ) from error
            return
        if first["rank"] == self.rank:
            return
        time.sleep(GRACE)
        if first["host"] == self.host:
            raise SystemExit(2) from error
        raise InputError(f"process {first['rank']}, on another host, failed: {first['words']}") from error

    def _said(self, error: Exception) -> dict | None:
        """Say it, unless another was first; the words of the first."""
        kind = "" if isinstance(error, InputError) else f"{type(error).__name__}: "
        mine = json.dumps({"rank": self.rank, "host": self.host, "words": f"{kind}{error}"})
        try:
            first = json.loads(self.store.compare_set(KEY, "", mine))
        except (RuntimeError, ValueError):  # the meeting place is gone with the process that kept it
            return None
        # What fails in all processes alike is said once; an error of one's own is always said.
        return first if first["words"] == f"{kind}{error}" else None

    def _heard(self) -> dict | None:
        """What another process said, for which there may be a moment to wait."""
        deadline = time.monotonic() + GRACE
        try:
            while not self.store.check([KEY]):
                if time.monotonic() > deadline:
                    return None
                time.sleep(0.1)
            return json.loads(self.store.get(KEY))
        except (RuntimeError, ValueError):
            return None


def is_lost(error: Exception) -> bool:
    """Whether it says no more than that another process can't be reached."""
    return isinstance(error, dist.DistError) or (
        type(error) is RuntimeError and BROKEN_CONNECTION.search(str(error)) is not None
    )
