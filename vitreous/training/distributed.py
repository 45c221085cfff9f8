"""Distributed training: the process group, what the processes exchange, and how the failure of one ends all.

The failure of one process is broadcast to the others, so that its cause is reported once and no process waits for it.
"""

import json
import os
import re
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypedDict, TypeVar
from uuid import uuid4

import torch
import torch.distributed as dist
from torch import Tensor

from vitreous import runtime
from vitreous.errors import InputError

Result = TypeVar("Result")

FAILURE_KEY, LAUNCH_KEY = "vitreous/failure", "vitreous/launch"
GRACE_SECONDS = 3.0
"""Time for a failure to reach the other processes, and for the first one to print it before torchrun ends it."""
CONNECTION_ERROR = re.compile(r"gloo|nccl|connection|socket|peer|broken pipe|timed? ?out", re.IGNORECASE)
JOIN_TIMEOUT = timedelta(minutes=2)
STEP_TIMEOUTS = {"cuda": timedelta(seconds=50), "cpu": timedelta(minutes=10)}
"""How long a process waits for the others within a step. gloo (on the CPU) learns at once that a process has ended;
nccl (on GPUs) learns it only by waiting."""
RANK0_TIMEOUT = timedelta(hours=2)
"""How long the other processes wait while rank 0 reads, writes or draws."""


class Failure(TypedDict):
    """The first failure of a process."""

    rank: int
    host: str
    message: str


class FailureBroadcast:
    """Tells all processes which one failed first, and why, through the store at which torchrun lets them meet."""

    def __init__(self, store: dist.Store, rank: int) -> None:
        self.store, self.rank = store, rank
        self.host = os.environ.get("GROUP_RANK", "0")

    def exit_if_peer_failed(self, error: Exception) -> None:
        """Return if this process has to report `error` itself; otherwise end as the failure of another demands.

        Raises:
            InputError: another process failed, and no process on this host has reported it.
            SystemExit: it is reported already.
        """
        lost = is_peer_lost(error)
        first = self._wait_for_failure() if lost else self._publish(error)
        if first is None:
            if lost:
                raise InputError(
                    "another process of the run exited without an error message (possibly out of memory): "
                    "resume the run (--resume)"
                ) from error
            return
        if first["rank"] == self.rank:
            return
        time.sleep(GRACE_SECONDS)
        if first["host"] == self.host:
            raise SystemExit(2) from error
        raise InputError(f"process {first['rank']}, on another host, failed: {first['message']}") from error

    def _publish(self, error: Exception) -> Failure | None:
        """Publish the error, unless another process failed first, and return the first failure."""
        kind = "" if isinstance(error, InputError) else f"{type(error).__name__}: "
        mine = json.dumps({"rank": self.rank, "host": self.host, "message": f"{kind}{error}"})
        try:
            first = json.loads(self.store.compare_set(FAILURE_KEY, "", mine))
        except (RuntimeError, ValueError):  # the store is gone with the process that kept it
            return None
        # An error that all processes share is reported once; any other is reported by its own process.
        return first if first["message"] == f"{kind}{error}" else None

    def _wait_for_failure(self) -> Failure | None:
        """Return the failure that another process published, or is about to publish."""
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
    """Whether an error only says that another process can't be reached."""
    return isinstance(error, dist.DistError) or (
        type(error) is RuntimeError and CONNECTION_ERROR.search(str(error)) is not None
    )


@dataclass(frozen=True)
class DistributedContext:
    """The processes of a run, seen from one of them; a run in a single process has nothing to exchange.

    >>> context = DistributedContext()
    >>> context.is_rank0, context.shard(5), context.broadcast_from_rank0(lambda: 3)
    (True, slice(0, 5, None), 3)
    """

    rank: int = 0
    world_size: int = 1
    rank0_group: dist.ProcessGroup | None = None
    """All processes, on the CPU, with a long timeout."""
    launch_id: str | None = None
    """Identifies a launch of torchrun; it stays the same when torchrun restarts the processes (--max-restarts)."""

    @property
    def is_rank0(self) -> bool:
        """Whether this is the process that writes."""
        return self.rank == 0

    def shard(self, count: int) -> slice:
        """Return this process' shard of `count` consecutive items; the shards differ by one item at most."""
        return shard_of(count, self.rank, self.world_size)

    def broadcast_from_rank0(self, action: Callable[[], Result]) -> Result:
        """Run a function on rank 0 alone; all processes get its result, or the InputError that it raised."""
        if self.world_size == 1:
            return action()
        outcome: list = [None, None]
        if self.is_rank0:
            try:
                outcome[0] = action()
            except InputError as error:
                outcome[1] = error
        dist.broadcast_object_list(outcome, src=0, group=self.rank0_group)
        if outcome[1] is not None:
            raise outcome[1]
        return outcome[0]

    def local_rank0_first(self, action: Callable[[], Result]) -> Result:
        """Run a function in each process, but first in one of each host, so that the others find what it downloaded."""
        result = action() if self.world_size == 1 or runtime.local_rank() == 0 else None
        if self.world_size > 1:
            dist.barrier(group=self.rank0_group)
        return action() if result is None else result

    def any(self, flag: bool) -> bool:
        """Whether the flag is set in any process."""
        if self.world_size == 1:
            return flag
        found = torch.tensor([flag], dtype=torch.int32)
        dist.all_reduce(found, dist.ReduceOp.MAX)
        return bool(found)

    def all_reduce_sum(self, values: Tensor) -> Tensor:
        """Sum a tensor over the processes, element by element."""
        if self.world_size > 1:
            values = values.clone()
            dist.all_reduce(values)
        return values

    def all_gather(self, value: Result) -> list[Result]:
        """Collect a value from each process, by rank."""
        if self.world_size == 1:
            return [value]
        values: list = [None] * self.world_size
        dist.all_gather_object(values, value, group=self.rank0_group)
        return values


def shard_of(count: int, index: int, shards: int) -> slice:
    """Return shard `index` of `count` consecutive items, cut into nearly equal shards.

    >>> [shard_of(10, index, 4) for index in range(4)]
    [slice(0, 2, None), slice(2, 5, None), slice(5, 7, None), slice(7, 10, None)]
    """
    return slice(count * index // shards, count * (index + 1) // shards)


@contextmanager
def init_distributed(device: torch.device) -> Generator[DistributedContext]:
    """Join the processes that torchrun has started, if it has, and leave the group in good order.

    A process that fails tells the others why; they end too, and the error is reported once on each host.

    Raises:
        InputError: the processes can't find each other.
    """
    world_size = runtime.world_size()
    if world_size == 1 and not dist.is_torchelastic_launched():
        yield DistributedContext()
        return
    store, rank, launch_id = init_process_group(device)
    if world_size == 1:
        yield DistributedContext(launch_id=launch_id)
        return
    rank0_group = dist.new_group(backend="gloo", timeout=RANK0_TIMEOUT)
    try:
        yield DistributedContext(rank, world_size, rank0_group, launch_id)
        dist.barrier(group=rank0_group)
    except Exception as error:
        FailureBroadcast(store, rank).exit_if_peer_failed(error)
        raise
    dist.destroy_process_group()


def init_process_group(device: torch.device) -> tuple[dist.Store, int, str]:
    """Meet the other processes where the environment says, and form the process group if there are others.

    Returns:
        The store that the processes share, the rank of this one, and the launch id.
    """
    address = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
    try:
        store, rank, world_size = next(dist.rendezvous("env://", timeout=JOIN_TIMEOUT))
        store.set_timeout(JOIN_TIMEOUT)
        launch_id = store.compare_set(LAUNCH_KEY, "", uuid4().hex).decode()
        if world_size == 1:
            return store, rank, launch_id
        # After a restart by torchrun, the store still holds the addresses of the dead processes.
        store = dist.PrefixStore(f"attempt {runtime.restart_count()}", store)
        backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "cpu:gloo"
        timeout = STEP_TIMEOUTS[device.type]
        if device.type == "cuda":
            torch.cuda.set_device(device)
        dist.init_process_group(backend, store=store, rank=rank, world_size=world_size, timeout=timeout)
    except (dist.DistError, ValueError) as error:
        if "EADDRINUSE" in str(error):
            raise InputError(f"the port of {address} is in use: choose another MASTER_PORT") from None
        detail = str(error).splitlines()[0]
        raise InputError(
            f"the processes of this run can't meet at {address}: start them with torchrun ({detail})"
        ) from None
    return store, rank, launch_id
