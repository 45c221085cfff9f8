"""FSDP2: shard the weights over the processes, for models that don't fit into one, and gather them for the disk.

torch takes almost two seconds to import the modules for this, so they are imported where they are used.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from vitreous.errors import InputError
from vitreous.model.vit import Block


def shard_model(model: nn.Module, world_size: int) -> None:
    """Leave each process a shard of each weight; the weights of a block are gathered while it computes.

    Raises:
        InputError: this version of torch can't do it.
    """
    try:
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import FSDPModule, fully_shard

        assert hasattr(FSDPModule, "set_force_sum_reduction_for_comms")
    except (ImportError, AssertionError):
        raise InputError(f"fsdp needs torch 2.9 or later, this is {torch.__version__}: leave it out") from None
    mesh = init_device_mesh(next(model.parameters()).device.type, (world_size,))
    for module in (*(part for part in model.modules() if isinstance(part, Block)), model):
        sharded = fully_shard(module, mesh=mesh)
        sharded.set_gradient_divide_factor(1.0)
        sharded.set_force_sum_reduction_for_comms(True)


def is_sharded(model: nn.Module) -> bool:
    """Whether the model's weights are sharded over the processes."""
    return hasattr(model, "set_requires_gradient_sync")


def reshard(model: nn.Module) -> None:
    """Leave each process its shards again, after a forward pass without gradients; FSDP2 keeps the full weights."""
    if is_sharded(model):
        model.reshard()  # ty: ignore[not-callable]


def is_dtensor(tensor: Tensor) -> bool:
    """Whether a tensor is sharded over the processes."""
    return hasattr(tensor, "full_tensor")


def full_tensor(tensor: Tensor) -> Tensor:
    """Gather a tensor from its shards; all processes have to call this at once. A plain tensor is returned as it is."""
    return tensor.full_tensor() if is_dtensor(tensor) else tensor  # ty: ignore[missing-attribute]


def to_local(tensor: Tensor) -> Tensor:
    """Return this process' shard of a tensor, or a plain tensor as it is."""
    return tensor.to_local() if is_dtensor(tensor) else tensor  # ty: ignore[missing-attribute]


def distribute_like(tensor: Tensor, weight: Tensor) -> Tensor:
    """Move a full tensor, the same in all processes, to the device of a weight, and shard it like the weight."""
    tensor = tensor.to(weight.device)
    if not is_dtensor(weight) or tensor.shape != weight.shape:
        return tensor
    from torch.distributed.tensor import DTensor, distribute_tensor

    assert isinstance(weight, DTensor)
    return distribute_tensor(tensor, weight.device_mesh, weight.placements, src_data_rank=None)


@torch.no_grad()
def load_full_weights(model: nn.Module, read: Callable[[str], Tensor]) -> None:
    """Copy full weights into a model, one after the other; `read` gives each by its name in the model."""
    for name, own in model.state_dict().items():
        own.copy_(distribute_like(read(name), own))
