"""A row vector times an attention matrix, without the matrix: what attention maps and rollout are made of.

An explanation needs r A for a weighting r of the tokens (one at the class token, or the model's readout), where
A = softmax(scale · q kᵀ) is N × N a head. Two forms stand here: the plain one builds A and is the definition; the
streamed one works through A in blocks of rows that are forgotten at once, so its memory grows with N alone.
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
"""Numbers of the attention matrix that the streamed form holds at a time: 4 MiB in float32, which caches hold."""

MIN_TOKENS_PER_HEAD = 512
"""From so many tokens on a product a head is worth its start: 1.4 to 1.6 times as fast as one of all heads."""

MIN_ROWS = 128
"""Of one head in one product: with fewer it would be slow at very many tokens."""


GRADIENT_BLOCK_ELEMENTS = 2**19
"""Numbers of a matrix that the streamed forms hold at a time, of two such matrices at most: 2 MiB each in float32."""


def full_precision(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Have a map's arithmetic run in the precision of its numbers and off the graph, whatever the caller has on."""

    @wraps(function)
    def run(*arguments: Arguments.args, **named: Arguments.kwargs) -> Result:
        first = next((value for value in arguments if isinstance(value, Tensor)), None)
        device = "cpu" if first is None else first.device.type
        with torch.no_grad(), torch.autocast(device, enabled=False):
            return function(*arguments, **named)

    return run


class AttentionLayer(Protocol):
    """What rows of attention are computed from: an AttentionRecord, or the less that a LightTrace keeps."""

    @property
    def scale(self) -> float: ...
    @property
    def weights(self) -> Tensor | None: ...
    @property
    def log_sums(self) -> Tensor | None: ...
    def query_and_key(self) -> tuple[Tensor, Tensor]: ...


def reference_attention(record: AttentionRecord) -> Tensor:
    """The attention matrix itself: (batch, heads, tokens, tokens), rows sum to 1. For tests and small models."""
    return torch.softmax(record.scale * at_least_float32(record.query) @ at_least_float32(record.key).transpose(-2, -1), -1)


def reference_row_times_attention(row: Tensor, record: AttentionRecord) -> Tensor:
    """r A of each head: `row` (batch, tokens) to (batch, heads, tokens), by the definition."""
    return (at_least_float32(row)[:, None, None] @ reference_attention(record)).squeeze(2)


@full_precision
def row_times_attention(row: Tensor, layer: AttentionLayer) -> Tensor:
    """r A of each head: `row` (batch, tokens) to (batch, heads, tokens), full_precision and in memory linear in N.

    Where the kernel wrote A out, it is there to be used. Else rows of A whose weight is 0 in every image are never
    computed: for the class token, one row is.
    """
    if layer.weights is not None and is_full_precision(layer.weights):
        return (row.to(layer.weights.dtype)[:, None, None] @ layer.weights).squeeze(2)
    used = row.ne(0).any(0)
    if row.shape[1] >= MIN_TOKENS_PER_HEAD and used.all():
        query, key = layer.query_and_key()
        if is_supported(at_least_float32(query), at_least_float32(key)):
            # Powers of 2 are faster than those of e. Of a pass in half precision the sums are not told full_precision.
            told = layer.log_sums[..., None] / math.log(2) if layer.log_sums is not None and is_full_precision(query) else None
            return _head_by_head(row, at_least_float32(query) * (layer.scale / math.log(2)), at_least_float32(key), told)
    attention = AttentionRows(layer, used)
    rows = row[:, None, used].to(attention.dtype).expand(-1, attention.heads, -1).flatten(0, 1)[:, None]
    result = rows.new_zeros(len(rows), 1, row.shape[1])
    for chosen in attention.slices(BLOCK_ELEMENTS):
        result.baddbmm_(rows[:, :, chosen], attention.block(chosen))
    return result.unflatten(0, (-1, attention.heads)).squeeze(2)


def _head_by_head(row: Tensor, query: Tensor, key: Tensor, log_sums: Tensor | None) -> Tensor:
    """r A of each head by the fastest product, for `row` (batch, tokens), where A's rows are in proportion to powers of
    2: of query keyᵀ, less the logarithm to the base 2 of their sum (batch, heads, tokens, 1), where it is known."""
    result = query.new_zeros(*query.shape[:2], key.shape[2])
    step = max(MIN_ROWS, BLOCK_ELEMENTS // key.shape[2])
    for image, asking in enumerate(row.to(query.dtype)):
        for head, gathered in enumerate(result[image]):
            keys = key[image, head].contiguous()
            for start in range(0, len(asking), step):
                chosen = slice(start, start + step)
                block, asked = onednn_linear(query[image, head, chosen], keys), asking[chosen]
                if log_sums is None:
                    asked = asked / block.sub_(block.amax(1, keepdim=True)).exp2_().sum(1)
                else:
                    block.sub_(log_sums[image, head, chosen]).exp2_()
                gathered.addmv_(block.t(), asked)
    return result


class AttentionRows:
    """Rows of a layer's attention matrix, computed a block at a time: those that are `used` (tokens, boolean).

    They are taken as the kernel wrote them, if it did, or normalized by the row sums that the fused kernel told, in
    powers of 2, which are faster than those of e. Of a pass in half precision neither is exact: there, and where
    nothing is told, a block goes through a softmax.
    """

    def __init__(self, layer: AttentionLayer, used: Tensor) -> None:
        query, key = layer.query_and_key()
        told = is_full_precision(query)
        self.heads, self.dtype, self.count = key.shape[1], at_least_float32(query).dtype, int(used.sum())
        self.columns = len(key) * self.heads * key.shape[2]
        self._weights = layer.weights[:, :, used].flatten(0, 1) if told and layer.weights is not None else None
        self._sums = None
        every = self.count == len(used)
        if told and every and layer.log_sums is not None and self._weights is None:
            self._sums = layer.log_sums.flatten(0, 1)[:, :, None] / math.log(2)
        self._unit = layer.scale if self._sums is None else layer.scale / math.log(2)
        self._query = at_least_float32(query if every else query[:, :, used]).flatten(0, 1)
        self._key = at_least_float32(key).flatten(0, 1).transpose(1, 2)
        self._numbers = self._key.new_empty(0)

    def slices(self, numbers: int) -> Iterator[slice]:
        """Slices of the used rows whose blocks hold about so many numbers, over all images and heads."""
        step = max(1, numbers // self.columns)
        return (slice(start, min(start + step, self.count)) for start in range(0, self.count, step))

    def block(self, chosen: slice) -> Tensor:
        """These rows (batch × heads, rows, tokens), each summing to 1; the next call may overwrite them."""
        if self._weights is not None:
            return self._weights[:, chosen]
        query, size = self._query[:, chosen], (chosen.stop - chosen.start) * self.columns
        if size > len(self._numbers):
            self._numbers = self._key.new_empty(size)
        block = self._numbers[:size].view(len(query), query.shape[1], -1)
        if self._sums is None:
            return torch.softmax(torch.baddbmm(block, query, self._key, beta=0, alpha=self._unit, out=block), -1)
        sums = self._sums[:, chosen]
        return torch.baddbmm(sums, query, self._key, beta=-1, alpha=self._unit, out=block).exp2_()


def at_least_float32(tensor: Tensor) -> Tensor:
    """In float32 at least: maps are computed more full_precision than a bfloat16 forward pass."""
    return tensor if is_full_precision(tensor) else tensor.float()


def is_full_precision(tensor: Tensor) -> bool:
    """Whether numbers are float32 at least."""
    return tensor.dtype in (torch.float32, torch.float64)


def attention_row_blocks(row: Tensor, record: AttentionRecord) -> Iterator[tuple[Tensor, Tensor]]:
    """The rows of A that have a weight in `row` (batch, tokens), in blocks.

    Yields:
        Which rows (rows), and those rows of every head (batch, heads, rows, tokens), each summing to 1. Rows whose
        weight is 0 in every image are left out, so the memory grows with N alone.
    """
    used = row.ne(0).any(0)
    places, attention = used.nonzero().squeeze(1), AttentionRows(record, used)
    for chosen in attention.slices(BLOCK_ELEMENTS):
        yield places[chosen], attention.block(chosen).unflatten(0, (-1, attention.heads))


def reference_attention_gradient(record: AttentionRecord, gradient: Tensor) -> tuple[Tensor, Tensor]:
    """A and ∇A (batch, heads, tokens, tokens) by autograd, through attention written out. For tests.

    `gradient` is the score's with respect to the layer's output, (batch, heads, tokens, head width).
    """
    with torch.enable_grad():
        weights = reference_attention(record).detach().requires_grad_()
        output = weights @ at_least_float32(record.value).detach()
        (slope,) = torch.autograd.grad(output, weights, at_least_float32(gradient))
    return weights.detach(), slope


def reference_row_times_positive(row: Tensor, record: AttentionRecord, gradient: Tensor) -> Tensor:
    """r (∇A ∘ A)⁺ of each head: `row` (batch, tokens) to (batch, heads, tokens), by the definition."""
    weights, slope = reference_attention_gradient(record, gradient)
    return (row.to(weights.dtype)[:, None, None] @ (weights * slope).clamp(min=0)).squeeze(2)


@full_precision
def row_times_positive(row: Tensor, record: AttentionRecord, gradient: Tensor) -> Tensor:
    """r (∇A ∘ A)⁺ of each head: `row` (batch, tokens) to (batch, heads, tokens), full_precision and in memory linear in N.

    Rows whose weight is 0 in every image are never computed: for the class token, one row is.
    """
    used = row.ne(0).any(0)
    attention, value = AttentionRows(record, used), _flat(record.value).transpose(1, 2)
    slopes = _flat(gradient[:, :, used])
    rows = row[:, None, used].to(value.dtype).expand(-1, record.value.shape[1], -1).flatten(0, 1)[:, None]
    result = value.new_zeros(len(value), 1, value.shape[2])
    for chosen in attention.slices(GRADIENT_BLOCK_ELEMENTS):
        block = torch.bmm(slopes[:, chosen], value).clamp_(min=0)
        result.baddbmm_(rows[:, :, chosen], block.mul_(attention.block(chosen)))
    return result.view(*record.value.shape[:2], -1)


def reference_mean_positive(record: AttentionRecord, gradient: Tensor) -> Tensor:
    """The mean over queries of (∇A)⁺ of each head, (batch, heads, tokens), by the definition."""
    return reference_attention_gradient(record, gradient)[1].clamp(min=0).mean(2)


@full_precision
def mean_positive(record: AttentionRecord, gradient: Tensor) -> Tensor:
    """The mean over queries of (∇A)⁺ of each head, (batch, heads, tokens), in memory linear in N.

    Queries on which the score doesn't depend are never computed: where the class token alone is read, one is.
    """
    slopes = _flat(gradient[:, :, gradient.ne(0).any(-1).any(1).any(0)])
    value = _flat(record.value).transpose(1, 2)
    result = value.new_zeros(len(value), value.shape[2])
    for chosen in _blocks(slopes, value):
        result += torch.bmm(slopes[:, chosen], value).clamp_(min=0).sum(1)
    return result.view(*record.value.shape[:2], -1) / value.shape[2]


def _flat(tensor: Tensor) -> Tensor:
    """(batch, heads, tokens, width) as (batch × heads, tokens, width), exact and in one piece for all blocks."""
    return at_least_float32(tensor).flatten(0, 1).contiguous()


def _blocks(rows: Tensor, columns: Tensor) -> Iterator[slice]:
    """Slices of rows (batch × heads, rows, width) whose products with (batch × heads, width, tokens) make a block."""
    step = max(1, GRADIENT_BLOCK_ELEMENTS // (len(columns) * columns.shape[2]))
    return (slice(start, start + step) for start in range(0, rows.shape[1], step))
