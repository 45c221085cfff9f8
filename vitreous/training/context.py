"""The context of a training run: its folder, its device, the processes, and whom it reports to."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch

from vitreous.callbacks import Callback
from vitreous.runtime import describe_device
from vitreous.training.distributed import DistributedContext

Result = TypeVar("Result")


class StopOnly(Callback):
    """Passes on requests to stop, but no notes and no progress: what ranks other than 0 use."""

    def __init__(self, callback: Callback) -> None:
        self.callback = callback

    def should_stop(self) -> bool:
        """Ask the wrapped callback."""
        return self.callback.should_stop()


@dataclass(frozen=True)
class TrainContext:
    """Where a run is trained this time, and with whom."""

    path: Path
    """The run folder."""
    device: torch.device
    distributed: DistributedContext
    callback: Callback
    """Silent on ranks other than 0."""

    @property
    def hardware(self) -> str:
        """What the run's bits depend on besides its seed."""
        world_size = self.distributed.world_size
        return describe_device(self.device) + (f", {world_size} processes" if world_size > 1 else "")

    def note(self, text: str) -> None:
        """Report one line to the user."""
        self.callback.on_note(text)

    def on_rank0(self, action: Callable[[], Result]) -> Result:
        """Run a function on rank 0 alone; all processes get its result, or the InputError that it raised."""
        return self.distributed.broadcast_from_rank0(action)
