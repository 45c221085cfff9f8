"""Products of row vectors and attention matrices, which attention maps and rollout are made of.

An explanation needs r A for a weighting r of the tokens (one at the class token, or the model's readout), where A =
softmax(scale · q kᵀ) is N × N for each head. There are two forms: the reference form builds A and is the definition;
the streamed form computes A in blocks of rows that are dropped at once, so its memory is linear in N.
"""

import math
from collections.abc import Callable, Iterator
from functools import wraps
from typing import ParamSpec, Protocol, TypeVar

import torch
from torch import Tensor

from vitreous.model.linear import is_supported, onednn_linear
from vitreous.model.trace import AttentionRecord

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

BLOCK_ELEMENTS = 2**20
"""Elements of the attention matrix in memory at a time in the streamed form: 4 MiB in float32, which fits in caches."""

MIN_TOKENS_PER_HEAD = 512
"""From this number of tokens on, one product per head is 1.4 to 1.6 times as fast as one product of all heads."""

MIN_ROWS = 128
"""Rows of one head in one product; with fewer, it would be slow at very many tokens."""

GRADIENT_BLOCK_ELEMENTS = 2**19
"""Elements of a matrix in memory at a time in the streamed forms, which hold two matrices: 2 MiB each in float32."""


def full_precision(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Decorate a function to run without autocast and without autograd, whatever the caller has switched on."""

    @wraps(function)
    def run(*arguments: Arguments.args, **named: Arguments.kwargs) -> Result:
        first = next((value for value in arguments if isinstance(value, Tensor)), None)
        device = "cpu" if first is None else first.device.type
        with torch.no_grad(), torch.autocast(device, enabled=False):
            return function(*arguments, **named)

    return run


class AttentionLayer(Protocol):
    """What rows of attention are computed from: an AttentionRecord, or the LightRecord of a LightTrace."""

    @property
    def scale(self) -> float: ...
    @property
    def weights(self) -> Tensor | None: ...
    @property
    def log_sums(self) -> Tensor | None: ...
    def query_and_key(self) -> tuple[Tensor, Tensor]: ...


def reference_attention(record: AttentionRecord) -> Tensor:
    """Compute the attention matrix: (batch, heads, tokens, tokens), rows sum to 1. For tests and small models."""
    return torch.softmax(
        record.scale * at_least_float32(record.query) @ at_least_float32(record.key).transpose(-2, -1), -1
    )


def attention_matrix(layer: AttentionLayer) -> Tensor:
    """Return the attention matrix of a layer as a whole, (batch, heads, tokens, tokens), in at least float32."""
    if layer.weights is not None and is_full_precision(layer.weights):
        return layer.weights
    query, key = layer.query_and_key()
    return torch.softmax(layer.scale * at_least_float32(query) @ at_least_float32(key).transpose(-2, -1), -1)


def reference_row_times_attention(row: Tensor, record: AttentionRecord) -> Tensor:
    """Compute r A for each head by the definition: `row` (batch, tokens) to (batch, heads, tokens)."""
    return (at_least_float32(row)[:, None, None] @ reference_attention(record)).squeeze(2)


@full_precision
def row_times_attention(row: Tensor, layer: AttentionLayer) -> Tensor:
    """Compute r A for each head: `row` (batch, tokens) to (batch, heads, tokens), with memory linear in N.

    Where the kernel wrote A, it is used. Else rows of A whose weight is 0 in every image are never computed: for the
    class token, only one row is.
    """
    if layer.weights is not None and is_full_precision(layer.weights):
        return (row.to(layer.weights.dtype)[:, None, None] @ layer.weights).squeeze(2)
    used = row.ne(0).any(0)
    if row.shape[1] >= MIN_TOKENS_PER_HEAD and used.all():
        query, key = layer.query_and_key()
        if is_supported(at_least_float32(query), at_least_float32(key)):
            # Powers of 2 are faster than those of e. In half precision the kernel's sums are not exact.
            exact = layer.log_sums is not None and is_full_precision(query)
            sums = layer.log_sums[..., None] / math.log(2) if exact else None
            return _head_by_head(
                row, at_least_float32(query) * (layer.scale / math.log(2)), at_least_float32(key), sums
            )
    attention = AttentionRows(layer, used)
    rows = row[:, None, used].to(attention.dtype).expand(-1, attention.heads, -1).flatten(0, 1)[:, None]
    result = rows.new_zeros(len(rows), 1, row.shape[1])
    for chosen in attention.slices(BLOCK_ELEMENTS):
        result.baddbmm_(rows[:, :, chosen], attention.block(chosen))
    return result.unflatten(0, (-1, attention.heads)).squeeze(2)


def _head_by_head(row: Tensor, query: Tensor, key: Tensor, log_sums: Tensor | None) -> Tensor:
    """Compute r A for each head, one head at a time, for `row` (batch, tokens).

    The rows of A are proportional to 2 to the power of query keyᵀ. `log_sums` (batch, heads, tokens, 1) is the
    logarithm to the base 2 of the sum of these powers, where it is known.
    """
    result = query.new_zeros(*query.shape[:2], key.shape[2])
    step = max(MIN_ROWS, BLOCK_ELEMENTS // key.shape[2])
    for image, weights in enumerate(row.to(query.dtype)):
        for head, head_result in enumerate(result[image]):
            keys = key[image, head].contiguous()
            for start in range(0, len(weights), step):
                chosen = slice(start, start + step)
                block, part = onednn_linear(query[image, head, chosen], keys), weights[chosen]
                if log_sums is None:
                    part = part / block.sub_(block.amax(1, keepdim=True)).exp2_().sum(1)
                else:
                    block.sub_(log_sums[image, head, chosen]).exp2_()
                head_result.addmv_(block.t(), part)
    return result


class AttentionRows:
    """The rows of a layer's attention matrix for which `used` (tokens, boolean) is true, computed block by block.

    They are taken as the kernel wrote them, if it did, or normalized by the row sums that the fused kernel gave, in
    powers of 2, which are faster than those of e. In half precision neither is exact: there, and where the kernel gave
    no sums, a block goes through a softmax.
    """

    def __init__(self, layer: AttentionLayer, used: Tensor) -> None:
        query, key = layer.query_and_key()
        exact = is_full_precision(query)
        self.heads, self.dtype, self.count = key.shape[1], at_least_float32(query).dtype, int(used.sum())
        self.columns = len(key) * self.heads * key.shape[2]
        self._weights = layer.weights[:, :, used].flatten(0, 1) if exact and layer.weights is not None else None
        self._sums = None
        all_used = self.count == len(used)
        if exact and all_used and layer.log_sums is not None and self._weights is None:
            self._sums = layer.log_sums.flatten(0, 1)[:, :, None] / math.log(2)
        self._factor = layer.scale if self._sums is None else layer.scale / math.log(2)
        self._query = at_least_float32(query if all_used else query[:, :, used]).flatten(0, 1)
        self._key = at_least_float32(key).flatten(0, 1).transpose(1, 2)
        self._buffer = self._key.new_empty(0)

    def slices(self, elements: int) -> Iterator[slice]:
        """Split the used rows into slices whose blocks hold about `elements` elements over all images and heads."""
        step = max(1, elements // self.columns)
        return (slice(start, min(start + step, self.count)) for start in range(0, self.count, step))

    def block(self, chosen: slice) -> Tensor:
        """Compute these rows (batch × heads, rows, tokens), each summing to 1; the next call may overwrite them."""
        if self._weights is not None:
            return self._weights[:, chosen]
        query, size = self._query[:, chosen], (chosen.stop - chosen.start) * self.columns
        if size > len(self._buffer):
            self._buffer = self._key.new_empty(size)
        block = self._buffer[:size].view(len(query), query.shape[1], -1)
        if self._sums is None:
            return torch.softmax(torch.baddbmm(block, query, self._key, beta=0, alpha=self._factor, out=block), -1)
        sums = self._sums[:, chosen]
        return torch.baddbmm(sums, query, self._key, beta=-1, alpha=self._factor, out=block).exp2_()


def at_least_float32(tensor: Tensor) -> Tensor:
    """Convert float16 and bfloat16 to float32: maps are computed in more precision than a bfloat16 forward pass."""
    return tensor if is_full_precision(tensor) else tensor.float()


def is_full_precision(tensor: Tensor) -> bool:
    """Return whether a tensor is float32 or float64."""
    return tensor.dtype in (torch.float32, torch.float64)


def attention_row_blocks(row: Tensor, record: AttentionRecord) -> Iterator[tuple[Tensor, Tensor]]:
    """Compute the rows of A that have a weight in `row` (batch, tokens), in blocks.

    Rows whose weight is 0 in every image are left out. Memory is linear in N.

    Yields:
        The indices of the rows (rows), and those rows for every head (batch, heads, rows, tokens), each summing to 1.
    """
    used = row.ne(0).any(0)
    indices, attention = used.nonzero().squeeze(1), AttentionRows(record, used)
    for chosen in attention.slices(BLOCK_ELEMENTS):
        yield indices[chosen], attention.block(chosen).unflatten(0, (-1, attention.heads))


def reference_attention_gradient(record: AttentionRecord, gradient: Tensor) -> tuple[Tensor, Tensor]:
    """Compute A and ∇A (batch, heads, tokens, tokens) by autograd through the attention matrix. For tests.

    `gradient` is that of the score with respect to the layer's output, (batch, heads, tokens, head width).
    """
    with torch.enable_grad():
        weights = reference_attention(record).detach().requires_grad_()
        output = weights @ at_least_float32(record.value).detach()
        (weight_gradient,) = torch.autograd.grad(output, weights, at_least_float32(gradient))
    return weights.detach(), weight_gradient


def reference_row_times_positive(row: Tensor, record: AttentionRecord, gradient: Tensor) -> Tensor:
    """Compute r (∇A ∘ A)⁺ for each head by the definition: `row` (batch, tokens) to (batch, heads, tokens)."""
    weights, weight_gradient = reference_attention_gradient(record, gradient)
    return (row.to(weights.dtype)[:, None, None] @ (weights * weight_gradient).clamp(min=0)).squeeze(2)


@full_precision
def row_times_positive(row: Tensor, record: AttentionRecord, gradient: Tensor) -> Tensor:
    """Compute r (∇A ∘ A)⁺ for each head: `row` (batch, tokens) to (batch, heads, tokens), with memory linear in N.

    Rows whose weight is 0 in every image are never computed: for the class token, only one row is.
    """
    used = row.ne(0).any(0)
    attention, value = AttentionRows(record, used), _flat(record.value).transpose(1, 2)
    gradients = _flat(gradient[:, :, used])
    rows = row[:, None, used].to(value.dtype).expand(-1, record.value.shape[1], -1).flatten(0, 1)[:, None]
    result = value.new_zeros(len(value), 1, value.shape[2])
    for chosen in attention.slices(GRADIENT_BLOCK_ELEMENTS):
        block = torch.bmm(gradients[:, chosen], value).clamp_(min=0)
        result.baddbmm_(rows[:, :, chosen], block.mul_(attention.block(chosen)))
    return result.view(*record.value.shape[:2], -1)


def reference_mean_positive(record: AttentionRecord, gradient: Tensor) -> Tensor:
    """Compute the mean over queries of (∇A)⁺ for each head by the definition: (batch, heads, tokens)."""
    return reference_attention_gradient(record, gradient)[1].clamp(min=0).mean(2)


@full_precision
def mean_positive(record: AttentionRecord, gradient: Tensor) -> Tensor:
    """Compute the mean over queries of (∇A)⁺ for each head, (batch, heads, tokens), with memory linear in N.

    Queries on which the score doesn't depend are never computed: where the head reads the class token alone, only one
    is.
    """
    gradients = _flat(gradient[:, :, gradient.ne(0).any(-1).any(1).any(0)])
    value = _flat(record.value).transpose(1, 2)
    result = value.new_zeros(len(value), value.shape[2])
    for chosen in _blocks(gradients, value):
        result += torch.bmm(gradients[:, chosen], value).clamp_(min=0).sum(1)
    return result.view(*record.value.shape[:2], -1) / value.shape[2]


def _flat(tensor: Tensor) -> Tensor:
    """Reshape (batch, heads, tokens, width) to (batch × heads, tokens, width), contiguous and in full precision."""
    return at_least_float32(tensor).flatten(0, 1).contiguous()


def _blocks(rows: Tensor, columns: Tensor) -> Iterator[slice]:
    """Split rows (batch × heads, rows, width) so that products with (batch × heads, width, tokens) fit in a block."""
    step = max(1, GRADIENT_BLOCK_ELEMENTS // (len(columns) * columns.shape[2]))
    return (slice(start, start + step) for start in range(0, rows.shape[1], step))
