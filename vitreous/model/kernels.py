"""softmax(query keyᵀ / √d) value by the fastest way for the device, the precision and the number of tokens."""

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from vitreous.model.linear import is_transformed, multiplies, product

# Up to this many tokens, attention written out beats the fused kernel on a CPU (forward and backward, 2 cores with
# AVX512-BF16, torch 2.13; LOG.md 2026-11-21). In bfloat16 off the graph it always does, on other devices never.
WRITTEN_OUT_TOKENS = {torch.bfloat16: 1024, torch.float32: 160}
GRADIENTLESS_WRITTEN_OUT_TOKENS = 256
"""The same off the graph in float32: written out an image at a time it takes the fused kernel's time, and A is there
for whoever explains the pass."""
BLOCK_NUMBERS = 2**20
"""Numbers of one head's matrix that the blocked form holds at a time: 4 MiB, which caches hold."""
BFLOAT16_NUMBERS = 2**21
"""The same for attention in bfloat16, of all heads and images that are taken together."""
FEWEST_ROWS = 128
"""But never fewer rows: the product of so few with very many keys would be slow (65,536 tokens: 11.1, not 5.3 s)."""


class Attended(NamedTuple):
    """What attention gives: the values gathered, and the by-products of the kernel that ran (see AttentionRecord)."""

    output: Tensor
    weights: Tensor | None = None
    log_sums: Tensor | None = None


def attend(query: Tensor, key: Tensor, value: Tensor) -> Attended:
    """softmax(query keyᵀ / √d) value; all are (batch, heads, tokens, head width d).

    This is the one place where a kernel is chosen.
    """
    if query.device.type != "cpu":
        return Attended(functional.scaled_dot_product_attention(query, key, value))
    tokens = query.shape[-2]
    on_graph = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in (query, key, value))
    if query.dtype == torch.bfloat16 and not on_graph and not is_transformed():
        return Attended(in_bfloat16(query, key, value))
    if tokens <= WRITTEN_OUT_TOKENS.get(query.dtype, 0):
        scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-2, -1)
        weights = torch.softmax(scores, -1, dtype=value.dtype)
        return Attended(weights @ value, weights)
    if not on_graph and multiplies(query, key) and multiplies(key, value):
        return (
            written_out(query, key, value) if tokens <= GRADIENTLESS_WRITTEN_OUT_TOKENS else blocked(query, key, value)
        )
    output, log_sums = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(query, key, value)
    return Attended(output, None, log_sums)


def written_out(query: Tensor, key: Tensor, value: Tensor) -> Attended:
    """By the definition, an image at a time, so that its matrices stay in the cache."""
    output, scale = joined_heads(query), query.shape[-1] ** -0.5
    weights = query.new_empty(*query.shape[:3], key.shape[2])
    for image, matrices in enumerate(weights):
        torch.baddbmm(matrices, query[image], key[image].transpose(1, 2), beta=0, alpha=scale, out=matrices)
        torch.softmax(matrices, -1, out=matrices)
        output[image] = matrices @ value[image]
    return Attended(output, weights)


def blocked(query: Tensor, key: Tensor, value: Tensor) -> Attended:
    """In blocks of rows of one head's matrix, by `product`: 1.7 times as fast as the fused kernel, in linear memory.

    Rows are shifted by their largest score before they become powers of 2, and divided by their sum after they have
    gathered the values; the sums stay as a by-product.
    """
    output, log_sums = joined_heads(query), query.new_empty(query.shape[:3])
    rows = max(FEWEST_ROWS, BLOCK_NUMBERS // key.shape[2])
    for image, head in torch.cartesian_prod(*(torch.arange(size) for size in query.shape[:2])).tolist():
        asking = query[image, head] * (query.shape[-1] ** -0.5 / math.log(2))
        keys, values = key[image, head].contiguous(), value[image, head].contiguous().t()
        for start in range(0, len(asking), rows):
            chosen = slice(start, start + rows)
            weights = product(asking[chosen], keys)
            largest = weights.amax(-1, keepdim=True)
            sums = weights.sub_(largest).exp2_().sum(-1, keepdim=True)
            torch.div(product(weights, values), sums, out=output[image, head, chosen])
            log_sums[image, head, chosen] = (largest + sums.log2_()).squeeze(1).mul_(math.log(2))
    return Attended(output, None, log_sums)


def in_bfloat16(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """By the definition, as many images, or rows of one head, at a time as caches hold: in linear memory."""
    output = joined_heads(query)
    tensors = (output, query * query.shape[-1] ** -0.5, key, value)
    images = BFLOAT16_NUMBERS // (query.shape[1] * query.shape[2] * key.shape[2])
    if images:
        blocks = zip(*(tensor.split(images) for tensor in tensors), strict=True)
    else:
        rows = max(FEWEST_ROWS, BFLOAT16_NUMBERS // key.shape[2])
        blocks = (
            (gathered, asking, keys, values)
            for image in zip(*tensors, strict=True)
            for filled, queries, keys, values in zip(*image, strict=True)
            for gathered, asking in zip(filled.split(rows), queries.split(rows), strict=True)
        )
    for gathered, asking, keys, values in blocks:
        gathered.copy_(torch.softmax(asking @ keys.transpose(-2, -1), -1, dtype=value.dtype) @ values)
    return output


def joined_heads(query: Tensor) -> Tensor:
    """Room for an output (batch, heads, tokens, width) that lies in memory as (batch, tokens, heads, width)."""
    batch, heads, tokens, width = query.shape
    return query.new_empty(batch, tokens, heads, width).transpose(1, 2)
