"""What a piece of code allocates and which fused attention kernels it runs, counted operation by operation."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class MemoryMeter(TorchDispatchMode):
    """Counts the bytes of tensors alive that were made inside, and calls of fused attention.

    Deterministic, unlike the process's memory; what a kernel holds within itself isn't seen, and is linear in the
    tokens for those counted here.
    """

    def __init__(self) -> None:
        super().__init__()
        self.peak_bytes = self.fused_images = 0
        self._alive: dict[int, tuple[StorageWeakRef, int]] = {}

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Run the operation and count what it made."""
        given = {one.untyped_storage()._cdata for one in tree_leaves((args, kwargs)) if isinstance(one, Tensor)}
        result = func(*args, **(kwargs or {}))
        self.fused_images += len(args[0]) if "scaled_dot_product" in str(func) else 0
        self._alive = {place: kept for place, kept in self._alive.items() if not kept[0].expired()}
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor) and tensor.untyped_storage()._cdata not in given:
                storage = tensor.untyped_storage()
                self._alive[storage._cdata] = StorageWeakRef(storage), storage.nbytes()
        self.peak_bytes = max(self.peak_bytes, sum(size for _, size in self._alive.values()))
        return result


def fused_images_of(run: Callable[[], object]) -> int:
    """How many images go through fused attention, each counted once a layer."""
    with torch.no_grad(), MemoryMeter() as meter:
        run()
    return meter.fused_images
