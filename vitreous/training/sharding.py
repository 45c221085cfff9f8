"""Weights spread over the processes (FSDP2), for models that can't be trained in one; whole ones again for the disk.

torch takes almost two seconds to import what this needs, so it is imported where it is used.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from vitreous.errors import InputError
from vitreous.model.vit import ViT


def shard_model(model: ViT, processes: int) -> None:
    """Leave each process a part of each weight; a block is gathered while it computes.

    Raises:
        InputError: this torch can't.
    """
    try:
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import FSDPModule, fully_shard

        assert hasattr(FSDPModule, "set_force_sum_reduction_for_comms")
    except (ImportError, AssertionError):
        raise InputError(f"shard_weights needs torch 2.9 or later, this is {torch.__version__}: leave it out") from None
    mesh = init_device_mesh(next(model.parameters()).device.type, (processes,))
    for module in (*model.blocks, model):
        sharded = fully_shard(module, mesh=mesh)
        sharded.set_gradient_divide_factor(1.0)
        sharded.set_force_sum_reduction_for_comms(True)


def is_sharded(model: nn.Module) -> bool:
    """Whether the model's weights are spread over the processes."""
    return hasattr(model, "set_requires_gradient_sync")


def is_dtensor(tensor: Tensor) -> bool:
    """Whether a tensor is spread over the processes."""
    return hasattr(tensor, "full_tensor")


def full_tensor(tensor: Tensor) -> Tensor:
    """A tensor in one piece; where it is spread, all processes have to ask at once."""
    return tensor.full_tensor() if is_dtensor(tensor) else tensor  # ty: ignore[missing-attribute]


def to_local(tensor: Tensor) -> Tensor:
    """What this process holds of a tensor."""
    return tensor.to_local() if is_dtensor(tensor) else tensor  # ty: ignore[missing-attribute]


def distribute_like(tensor: Tensor, weight: Tensor) -> Tensor:
    """A whole tensor, the same in all processes, on the device of a weight and spread as it is."""
    tensor = tensor.to(weight.device)
    if not is_dtensor(weight) or tensor.shape != weight.shape:
        return tensor
    from torch.distributed.tensor import DTensor, distribute_tensor

    assert isinstance(weight, DTensor)
    return distribute_tensor(tensor, weight.device_mesh, weight.placements, src_data_rank=None)


@torch.no_grad()
def load_full_weights(model: nn.Module, tensor: Callable[[str], Tensor]) -> None:
    """Give a model whole weights, of its own names and shapes, one after the other."""
    for name, own in model.state_dict().items():
        own.copy_(distribute_like(tensor(name), own))
