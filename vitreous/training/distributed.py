"""What a process that fails says to the others of its run, so that the cause is shown once and nobody waits."""

import json
import os
import re
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar
from uuid import uuid4

import torch
import torch.distributed as dist
from torch import Tensor

from vitreous import runtime
from vitreous.errors import InputError

FAILURE_KEY = "vitreous/last-words"
GRACE_SECONDS = 3.0
"""Seconds for the words to arrive, and for the first to fail to print them before torchrun ends it."""
CONNECTION_ERROR = re.compile(r"gloo|nccl|connection|socket|peer|broken pipe|timed? ?out", re.IGNORECASE)


Result = TypeVar("Result")
JOIN_TIMEOUT = timedelta(minutes=2)
STEP_TIMEOUTS = {"cuda": timedelta(seconds=50), "cpu": timedelta(minutes=10)}
"""How long a process waits for the others within a step. gloo (on the processor) learns at once that a process has
ended; nccl (on GPUs) learns it only by waiting."""
RANK0_TIMEOUT = timedelta(hours=2)
"""How long the others wait while the first process reads, writes or draws."""
LAUNCH_KEY = "vitreous/launch"


class FailureBroadcast:
    """Who failed first, and of what; kept where torchrun lets the processes meet."""

    def __init__(self, store: dist.Store, rank: int) -> None:
        self.store, self.rank = store, rank
        self.host = os.environ.get("GROUP_RANK", "0")

    def exit_if_peer_failed(self, error: Exception) -> None:
        """Return if `error` is this process' own and for it to say; else end it as the others' failure demands.

        Raises:
            InputError: another process failed, and nobody on this host has said so.
            SystemExit: it is said already.
        """
        lost = is_peer_lost(error)
        first = self._wait_for_failure() if lost else self._publish(error)
        if first is None:
            if lost:
                raise InputError(
                    "another process of the run has ended without a word, killed perhaps for want of memory: "
                    "go on with --resume"
                ) from error
            return
        if first["rank"] == self.rank:
            return
        time.sleep(GRACE_SECONDS)
        if first["host"] == self.host:
            raise SystemExit(2) from error
        raise InputError(f"process {first['rank']}, on another host, failed: {first['words']}") from error

    def _publish(self, error: Exception) -> dict | None:
        """Say it, unless another was first; the words of the first."""
        kind = "" if isinstance(error, InputError) else f"{type(error).__name__}: "
        mine = json.dumps({"rank": self.rank, "host": self.host, "words": f"{kind}{error}"})
        try:
            first = json.loads(self.store.compare_set(FAILURE_KEY, "", mine))
        except (RuntimeError, ValueError):  # the meeting place is gone with the process that kept it
            return None
        # What fails in all processes alike is said once; an error of one's own is always said.
        return first if first["words"] == f"{kind}{error}" else None

    def _wait_for_failure(self) -> dict | None:
        """What another process said, for which there may be a moment to wait."""
        deadline = time.monotonic() + GRACE_SECONDS
        try:
            while not self.store.check([FAILURE_KEY]):
                if time.monotonic() > deadline:
                    return None
                time.sleep(0.1)
            return json.loads(self.store.get(FAILURE_KEY))
        except (RuntimeError, ValueError):
            return None


def is_peer_lost(error: Exception) -> bool:
    """Whether it says no more than that another process can't be reached."""
    return isinstance(error, dist.DistError) or (
        type(error) is RuntimeError and CONNECTION_ERROR.search(str(error)) is not None
    )


@dataclass(frozen=True)
class DistributedContext:
    """The processes of a run, each of which holds one of these; a run by itself has one, and nothing to wait for."""

    rank: int = 0
    world_size: int = 1
    rank0_group: dist.ProcessGroup | None = None
    """All of them, on the processor, with a long timeout."""
    launch_id: str | None = None
    """A mark that torchrun's start has to itself, and keeps when it starts the processes again (--max-restarts)."""

    @property
    def is_rank0(self) -> bool:
        """Whether this is the process that writes."""
        return self.rank == 0

    def shard(self, count: int) -> slice:
        """This process' part of `count` things in a row; the parts differ by one at most."""
        return shard_of(count, self.rank, self.world_size)

    def broadcast_from_rank0(self, action: Callable[[], Result]) -> Result:
        """Do something in the first process alone; all get its result, or the InputError that it raised."""
        if self.world_size == 1:
            return action()
        said: list[Any] = [None, None]
        if self.is_rank0:
            try:
                said[0] = action()
            except InputError as error:
                said[1] = error
        dist.broadcast_object_list(said, src=0, group=self.rank0_group)
        if said[1] is not None:
            raise said[1]
        return said[0]

    def local_rank0_first(self, action: Callable[[], Result]) -> Result:
        """Do something in each process, in one of each host before the others, so that they find what it downloaded."""
        result = action() if self.world_size == 1 or runtime.local_rank() == 0 else None
        if self.world_size > 1:
            dist.barrier(group=self.rank0_group)
        return action() if result is None else result

    def any(self, flag: bool) -> bool:
        """Whether it is so in one of them at least."""
        if self.world_size == 1:
            return flag
        found = torch.tensor([flag], dtype=torch.int32)
        dist.all_reduce(found, dist.ReduceOp.MAX)
        return bool(found)

    def all_reduce_sum(self, values: Tensor) -> Tensor:
        """The sum over the processes, element by element."""
        if self.world_size > 1:
            values = values.clone()
            dist.all_reduce(values)
        return values

    def all_gather(self, value: Result) -> list[Result]:
        """What each process has, by rank."""
        if self.world_size == 1:
            return [value]
        values: list[Any] = [None] * self.world_size
        dist.all_gather_object(values, value, group=self.rank0_group)
        return values


def shard_of(count: int, index: int, parts: int) -> slice:
    """The part `index` of `parts` nearly equal ones of `count` things in a row.

    >>> [part_of(10, index, 4) for index in range(4)]
    [slice(0, 2, None), slice(2, 5, None), slice(5, 7, None), slice(7, 10, None)]
    """
    return slice(count * index // parts, count * (index + 1) // parts)


@contextmanager
def init_distributed(device: torch.device) -> Generator[DistributedContext]:
    """Join the processes that torchrun has started, if it has, and part in good order.

    One that fails tells the others why; they end too, and the error is said once on each host.

    Raises:
        InputError: the processes can't find each other.
    """
    count = runtime.processes()
    if count == 1 and not dist.is_torchelastic_launched():
        yield DistributedContext()
        return
    store, rank, launch = init_process_group(device)
    if count == 1:
        yield DistributedContext(launch_id=launch)
        return
    patient = dist.new_group(backend="gloo", timeout=RANK0_TIMEOUT)
    try:
        yield DistributedContext(rank, count, patient, launch)
        dist.barrier(group=patient)
    except Exception as error:
        FailureBroadcast(store, rank).exit_if_peer_failed(error)
        raise
    dist.destroy_process_group()


def init_process_group(device: torch.device) -> tuple[dist.Store, int, str]:
    """Meet the other processes where the environment says, and make the group of all of them, if there are others.

    Where they meet, which process this is, and the mark of torchrun's start.
    """
    place = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
    try:
        store, rank, count = next(dist.rendezvous("env://", timeout=JOIN_TIMEOUT))
        store.set_timeout(JOIN_TIMEOUT)
        launch = store.compare_set(LAUNCH_KEY, "", uuid4().hex).decode()
        if count == 1:
            return store, rank, launch
        # Where torchrun starts a run again, the store still holds the addresses of the processes that are dead.
        store = dist.PrefixStore(f"attempt {runtime.restarts()}", store)
        backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "cpu:gloo"
        timeout = STEP_TIMEOUTS[device.type]
        if device.type == "cuda":
            torch.cuda.set_device(device)
        dist.init_process_group(backend, store=store, rank=rank, world_size=count, timeout=timeout)
    except (dist.DistError, ValueError) as error:
        if "EADDRINUSE" in str(error):
            raise InputError(f"the port of {place} is in use: choose another MASTER_PORT") from None
        detail = str(error).splitlines()[0]
        raise InputError(
            f"the processes of this run can't meet at {place}: start them by torchrun ({detail})"
        ) from None
    return store, rank, launch
