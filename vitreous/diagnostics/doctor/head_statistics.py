"""Statistics of the heads of one layer: entropy, distance, query dependence, similarity and contribution.

All are means over rows of the attention matrix, so rows sampled evenly over the image represent the whole. Rows are
computed in blocks and discarded: memory and time grow with the number of tokens, not with its square.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from vitreous.explanation.streaming.attention_products import BLOCK_ELEMENTS, at_least_float32
from vitreous.model.trace import AttentionRecord, TokenLayout


@dataclass(frozen=True)
class HeadStatistics:
    """Statistics of one layer on one image; the first axis of every tensor is the heads. See `ModelStatistics`."""

    entropy: Tensor
    distance: Tensor
    prefix_attention: Tensor
    query_dependence: Tensor
    max_patch_attention: Tensor
    head_similarity: Tensor


def head_statistics(record: AttentionRecord, layout: TokenLayout, queries: Tensor) -> HeadStatistics:
    """Compute the statistics of the heads from sampled rows of their attention.

    Args:
        record: attention of one image.
        layout: of the image's tokens.
        queries: int64 (count), indexes of patches, without the prefix tokens.
    """
    key = at_least_float32(record.key[0]).transpose(-2, -1)
    heads, _, tokens = key.shape
    positions = patch_positions(layout, key.device)
    entropy, distance, squares = (key.new_zeros(heads) for _ in range(3))
    total, products = key.new_zeros(heads, tokens), key.new_zeros(heads, heads)
    for block in queries.split(max(1, BLOCK_ELEMENTS // (heads * tokens))):
        query = at_least_float32(record.query[0][:, layout.num_prefix_tokens + block]) * record.scale
        rows = torch.softmax(query @ key, -1)
        patches = rows[..., layout.num_prefix_tokens :]
        distances = torch.cdist(positions[block], positions)
        entropy += torch.special.entr(rows).sum((-2, -1))
        distance += ((patches * distances).sum(-1) / patches.sum(-1).clamp_min(1e-12)).sum(-1)
        squares += rows.square().sum((-2, -1))
        total += rows.sum(-2)
        products += torch.einsum("hqk,gqk->hg", rows, rows)
    count = len(queries)
    mean_row = total / count
    return HeadStatistics(
        entropy / count / math.log(tokens) if tokens > 1 else torch.ones_like(entropy),
        distance / count,
        mean_row[:, : layout.num_prefix_tokens],
        query_dependence(mean_row, squares / count),
        mean_row[:, layout.num_prefix_tokens :].amax(-1),
        head_similarity(products, count, tokens),
    )


def patch_positions(layout: TokenLayout, device: torch.device) -> Tensor:
    """Return row and column of each patch: float32 (patches, 2)."""
    rows, columns = torch.arange(layout.grid_height), torch.arange(layout.grid_width)
    return torch.cartesian_prod(rows, columns).float().to(device)


def sample_queries(layout: TokenLayout, max_queries: int) -> Tensor:
    """Sample at most `max_queries` patches evenly over the image: int64 (count)."""
    patches = layout.grid_height * layout.grid_width
    return torch.linspace(0, patches - 1, min(max_queries, patches)).round().long().unique()


def uniform_distance(layout: TokenLayout, queries: Tensor) -> float:
    """Return the mean distance in patches from the queries to all patches, which uniform attention has."""
    positions = patch_positions(layout, queries.device)
    return float(torch.cdist(positions[queries], positions).mean())


def query_dependence(mean_row: Tensor, mean_square: Tensor) -> Tensor:
    """Return the fraction of a head's attention variance that differs between queries: (heads); 0 if no row differs.

    1 − (‖mean row‖² − 1/N) / (mean ‖row‖² − 1/N), from `mean_row` (heads, N) and `mean_square` (heads).
    """
    uniform = 1 / mean_row.shape[-1]
    common, total = mean_row.square().sum(-1) - uniform, mean_square - uniform
    return torch.where(total > 1e-9, 1 - common / total.clamp_min(1e-9), torch.zeros_like(common)).clamp(0, 1)


def head_similarity(products: Tensor, count: int, tokens: int) -> Tensor:
    """Return the correlation of every two heads' attention: (heads, heads).

    Rows sum to 1, so the mean of each head is 1 / tokens and no second pass is needed. A uniform head has correlation
    0 with any other, and 1 with itself.

    Args:
        products: (heads, heads), sums of products of two heads' rows.
        count: number of rows.
        tokens: values in a row.
    """
    covariance = products - count / tokens
    deviations = covariance.diagonal().clamp_min(0).sqrt()
    scale = deviations[:, None] * deviations
    result = torch.where(scale > 1e-9 * count, covariance / scale.clamp_min(1e-30), torch.zeros_like(scale))
    return result.clamp(-1, 1).fill_diagonal_(1)


def head_contributions(record: AttentionRecord, tokens: Tensor, factor: Tensor | None) -> Tensor | None:
    """Return the norm of what each head adds to a token, over the token's norm, mean over tokens: (heads).

    ‖factor ∘ (W_h output_h)‖ / ‖token‖, where W_h are the columns of the projection that belong to head h (Kobayashi et
    al. 2020). None if the record has no projection.

    Args:
        record: attention of one image.
        tokens: (tokens, embed_dim), the input of the block.
        factor: (embed_dim), the LayerScale factor, if the model has one.
    """
    if record.projection is None:
        return None
    output = at_least_float32(record.output[0])
    heads, _, head_dim = output.shape
    weight = at_least_float32(record.projection).unflatten(1, (heads, head_dim))
    weight = weight if factor is None else weight * at_least_float32(factor)[:, None, None]
    norms = at_least_float32(tokens).norm(dim=-1).clamp_min(1e-12)
    return torch.stack([((output[h] @ weight[:, h].T).norm(dim=-1) / norms).mean() for h in range(heads)])
