"""softmax(query keyᵀ / √d) value by the fastest way for the device, the precision and the number of tokens."""

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from vitreous.model.linear import is_supported, needs_standard_ops, onednn_linear

# Up to so many tokens, attention by its definition beats the fused kernel on a CPU (forward and backward, 2 cores with
# AVX512-BF16, torch 2.13; LOG.md 2026-11-21). In bfloat16 without gradients it always does, on other devices never.
EAGER_MAX_TOKENS = {torch.bfloat16: 1024, torch.float32: 160}
EAGER_MAX_TOKENS_NO_GRAD = 256
"""The same without gradients in float32: by the definition, image by image, it takes the fused kernel's time, and A is
there for whoever explains the pass."""
CHUNK_ELEMENTS = 2**20
"""Elements of one head's matrix that the chunked form holds at a time: 4 MiB, which caches hold."""
BF16_CHUNK_ELEMENTS = 2**21
"""The same for attention in bfloat16, over all heads and images that are taken together."""
MIN_CHUNK_ROWS = 128
"""But never fewer rows: the product of so few with very many keys would be slow (65,536 tokens: 11.1, not 5.3 s)."""


class AttentionOutput(NamedTuple):
    """The values that attention gathered, and the by-products of the kernel that ran (see AttentionRecord)."""

    output: Tensor
    weights: Tensor | None = None
    log_sums: Tensor | None = None


def dot_product_attention(query: Tensor, key: Tensor, value: Tensor) -> AttentionOutput:
    """Compute softmax(query keyᵀ / √d) value; all are (batch, heads, tokens, head width d).

    This is the one place where a kernel is chosen.
    """
    if query.device.type != "cpu":
        return AttentionOutput(functional.scaled_dot_product_attention(query, key, value))
    tokens = query.shape[-2]
    on_graph = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in (query, key, value))
    if query.dtype == torch.bfloat16 and not on_graph and not needs_standard_ops():
        return AttentionOutput(bf16_attention(query, key, value))
    if tokens <= EAGER_MAX_TOKENS.get(query.dtype, 0):
        scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-2, -1)
        weights = torch.softmax(scores, -1, dtype=value.dtype)
        return AttentionOutput(weights @ value, weights)
    if not on_graph and is_supported(query, key) and is_supported(key, value):
        kernel = eager_attention if tokens <= EAGER_MAX_TOKENS_NO_GRAD else chunked_attention
        return kernel(query, key, value)
    output, log_sums = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(query, key, value)
    return AttentionOutput(output, None, log_sums)


def eager_attention(query: Tensor, key: Tensor, value: Tensor) -> AttentionOutput:
    """Compute attention by its definition, image by image, so that the matrices of one stay in the cache."""
    output, scale = empty_merged_heads(query), query.shape[-1] ** -0.5
    weights = query.new_empty(*query.shape[:3], key.shape[2])
    for image, matrices in enumerate(weights):
        torch.baddbmm(matrices, query[image], key[image].transpose(1, 2), beta=0, alpha=scale, out=matrices)
        torch.softmax(matrices, -1, out=matrices)
        output[image] = matrices @ value[image]
    return AttentionOutput(output, weights)


def chunked_attention(query: Tensor, key: Tensor, value: Tensor) -> AttentionOutput:
    """Compute attention in chunks of rows, by `onednn_linear`: 1.7 times as fast as the fused kernel, in linear memory.

    The largest score of a row is subtracted before powers of 2 are taken, and the row is divided by its sum after it
    has gathered the values; the sums are kept as a by-product.
    """
    output, log_sums = empty_merged_heads(query), query.new_empty(query.shape[:3])
    rows = max(MIN_CHUNK_ROWS, CHUNK_ELEMENTS // key.shape[2])
    for image, head in torch.cartesian_prod(*(torch.arange(size) for size in query.shape[:2])).tolist():
        queries = query[image, head] * (query.shape[-1] ** -0.5 / math.log(2))
        keys, values = key[image, head].contiguous(), value[image, head].contiguous().t()
        for start in range(0, len(queries), rows):
            chunk = slice(start, start + rows)
            weights = onednn_linear(queries[chunk], keys)
            largest = weights.amax(-1, keepdim=True)
            sums = weights.sub_(largest).exp2_().sum(-1, keepdim=True)
            torch.div(onednn_linear(weights, values), sums, out=output[image, head, chunk])
            log_sums[image, head, chunk] = (largest + sums.log2_()).squeeze(1).mul_(math.log(2))
    return AttentionOutput(output, None, log_sums)


def bf16_attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Compute attention by its definition, with as many images, or rows of one head, at a time as caches hold."""
    output = empty_merged_heads(query)
    tensors = (output, query * query.shape[-1] ** -0.5, key, value)
    images = BF16_CHUNK_ELEMENTS // (query.shape[1] * query.shape[2] * key.shape[2])
    if images:
        chunks = zip(*(tensor.split(images) for tensor in tensors), strict=True)
    else:
        rows = max(MIN_CHUNK_ROWS, BF16_CHUNK_ELEMENTS // key.shape[2])
        chunks = (
            (out_rows, query_rows, keys, values)
            for image in zip(*tensors, strict=True)
            for head_output, queries, keys, values in zip(*image, strict=True)
            for out_rows, query_rows in zip(head_output.split(rows), queries.split(rows), strict=True)
        )
    for gathered, queries, keys, values in chunks:
        gathered.copy_(torch.softmax(queries @ keys.transpose(-2, -1), -1, dtype=value.dtype) @ values)
    return output


def empty_merged_heads(query: Tensor) -> Tensor:
    """Allocate an output (batch, heads, tokens, width) whose memory is (batch, tokens, heads, width): heads merged."""
    batch, heads, tokens, width = query.shape
    return query.new_empty(batch, tokens, heads, width).transpose(1, 2)
