"""Whether tensors of a file can be used as weights: they are in floating point, and stored as large as they claim."""

from collections.abc import Mapping

import torch
from torch import Tensor

from vitreous.errors import InputError


def check_stored(tensors: Mapping[str, Tensor]) -> None:
    """Check tensors that are used as weights; helpers beside them, such as masks and indices, may be anything.

    Raises:
        InputError: one is quantized, sparse or without data, or claims more numbers than are stored.
    """
    for name, tensor in tensors.items():
        if fault := _find_fault(tensor):
            raise InputError(f"the weight {name} {fault}")


def to_float32(tensor: Tensor) -> Tensor:
    """Turn floating-point numbers into float32; leave what can't be used as a weight as it is, without a copy."""
    return tensor if not tensor.is_floating_point() or _find_fault(tensor) else tensor.float()


def _find_fault(tensor: Tensor) -> str | None:
    """Say why a tensor can't be a weight, and what to do; None if it can."""
    is_bytes = tensor.dtype in (torch.int8, torch.uint8) and tensor.ndim > 1
    if tensor.is_quantized or is_bytes or tensor.layout != torch.strided or tensor.is_meta:
        kind = "quantized" if tensor.is_quantized or is_bytes else "without data" if tensor.is_meta else "sparse"
        return f"is {kind}: save the model's weights in floating point"
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        return f"claims {tensor.numel()} numbers, more than are stored: save it again"
    try:
        tensor.new_empty(1).float()
    except (NotImplementedError, RuntimeError):
        return f"is {tensor.dtype}, which can't be read: save it in float32"
    return None
