"""Calls of PyTorch's scaled_dot_product_attention: their arguments, and their weights with masks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vitreous.errors import InputError
from vitreous.explanation.streaming.attention_products import at_least_float32

POSITIONAL_ARGUMENTS = {
    "scaled_dot_product_attention": ("attn_mask", "dropout_p", "is_causal"),
    "_scaled_dot_product_flash_attention_for_cpu": ("dropout_p", "is_causal"),
    "_scaled_dot_product_flash_attention": ("dropout_p", "is_causal", "return_debug_mask"),
}
"""The positional arguments after query, key and value, of the kernels that are supported."""


@dataclass(frozen=True)
class KernelCall:
    """The arguments of softmax(scale · query keyᵀ + mask) value; tensors are (..., tokens, head width)."""

    query: Tensor
    key: Tensor
    value: Tensor
    scale: float
    mask: Tensor | None
    is_causal: bool
    others: Sequence[Any]
    named: Mapping[str, Any]

    @property
    def is_plain(self) -> bool:
        """Whether there is no mask."""
        return self.mask is None and not self.is_causal


def parse_kernel_call(name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> KernelCall:
    """Parse the arguments of a call.

    Raises:
        InputError: attention is dropped at random, heads share keys, or the kernel isn't supported.
    """
    if name not in POSITIONAL_ARGUMENTS:
        raise InputError(f"the attention kernel {name} isn't supported: let the model use scaled_dot_product_attention")
    tensors = dict(zip(("query", "key", "value"), args, strict=False)) | dict(kwargs)
    query, key, value = (tensors[one] for one in ("query", "key", "value"))
    options = dict(zip(POSITIONAL_ARGUMENTS[name], args[3:], strict=False)) | dict(kwargs)
    if options.get("dropout_p"):
        raise dropout_error(options["dropout_p"])
    shared = query.shape[:-2] != key.shape[:-2] and query.shape[-2] > 1
    if shared or value.shape[:-2] != key.shape[:-2]:
        raise InputError("the observed attention shares keys among heads (grouped queries), which isn't supported")
    scale = options.get("scale")
    named = {one: value for one, value in kwargs.items() if one not in ("query", "key", "value")}
    return KernelCall(
        query, key, value, query.shape[-1] ** -0.5 if scale is None else float(scale),
        _effective_mask(options.get("attn_mask")), bool(options.get("is_causal")), args[3:], named,
    )  # fmt: skip


@torch.no_grad()
def kernel_weights(call: KernelCall) -> Tensor:
    """Compute the attention (..., queries, keys) by the definition, with its masks.

    Raises:
        InputError: a whole row is masked.
    """
    scores = call.scale * at_least_float32(call.query) @ at_least_float32(call.key).transpose(-2, -1)
    if call.is_causal:
        scores = scores.masked_fill(torch.ones_like(scores, dtype=torch.bool).tril().logical_not(), -torch.inf)
    if call.mask is not None and call.mask.dtype == torch.bool:
        scores = scores.masked_fill(~call.mask, -torch.inf)
    elif call.mask is not None:
        scores = scores + call.mask
    if scores.amax(-1).eq(-torch.inf).any():
        raise InputError("the observed attention has a token that attends to nothing (its whole row is masked)")
    return torch.softmax(scores, -1)


def dropout_error(probability: float) -> InputError:
    """Return the error for attention with dropout."""
    return InputError(f"attention is dropped at random (probability {probability:g}): call model.eval() first")


def _effective_mask(mask: Tensor | None) -> Tensor | None:
    """Return the mask, or None if it hides nothing."""
    if mask is None or (mask.dtype == torch.bool and bool(mask.all())):
        return None
    return mask
