"""What each head of a layer does: how wide and how far it looks, whether at all, and how much it adds.

Every number is a mean over rows of the attention matrix, so some rows evenly over the image stand for all; they are
made in blocks and forgotten, and memory and time grow with the number of tokens alone.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from vitreous.explanation.streaming.attention_products import BLOCK_ELEMENTS, at_least_float32
from vitreous.model.trace import AttentionRecord, TokenLayout


@dataclass(frozen=True)
class HeadStatistics:
    """One layer's heads on one image; every tensor begins with (heads); see `evaluation.anatomy.Anatomy`."""

    entropy: Tensor
    distance: Tensor
    prefix_attention: Tensor
    query_dependence: Tensor
    one_patch: Tensor
    likeness: Tensor


def head_statistics(record: AttentionRecord, layout: TokenLayout, queries: Tensor) -> HeadStatistics:
    """Statistics of the heads, from the attention of the patches `queries`, int (count), counted without the prefix.

    The record is one of a single image.
    """
    key = at_least_float32(record.key[0]).transpose(-2, -1)
    heads, _, tokens = key.shape
    places = patch_places(layout, key.device)
    entropy, distance, squares = (key.new_zeros(heads) for _ in range(3))
    total, products = key.new_zeros(heads, tokens), key.new_zeros(heads, heads)
    for chosen in queries.split(max(1, BLOCK_ELEMENTS // (heads * tokens))):
        query = at_least_float32(record.query[0][:, layout.num_prefix_tokens + chosen]) * record.scale
        rows = torch.softmax(query @ key, -1)
        patches = rows[..., layout.num_prefix_tokens :]
        apart = torch.cdist(places[chosen], places)
        entropy += torch.special.entr(rows).sum((-2, -1))
        distance += ((patches * apart).sum(-1) / patches.sum(-1).clamp_min(1e-12)).sum(-1)
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
        likeness(products, count, tokens),
    )


def patch_places(layout: TokenLayout, device: torch.device) -> Tensor:
    """Row and column of each patch: float (patches, 2)."""
    rows, columns = torch.arange(layout.grid_height), torch.arange(layout.grid_width)
    return torch.cartesian_prod(rows, columns).float().to(device)


def even_queries(layout: TokenLayout, most: int) -> Tensor:
    """At most `most` patches evenly over the image, all where there are no more: int (count)."""
    patches = layout.grid_height * layout.grid_width
    return torch.linspace(0, patches - 1, min(most, patches)).round().long().unique()


def uniform_distance(layout: TokenLayout, queries: Tensor) -> float:
    """Mean distance in patches from the queries to all patches: what attention that is alike everywhere has."""
    places = patch_places(layout, queries.device)
    return float(torch.cdist(places[queries], places).mean())


def query_dependence(mean_row: Tensor, mean_square: Tensor) -> Tensor:
    """1 − (‖mean row‖² − 1/N) / (mean ‖row‖² − 1/N): the share of a head's attention that differs between queries.

    `mean_row` (heads, N), `mean_square` (heads). 0 where all rows are alike.
    """
    even = 1 / mean_row.shape[-1]
    common, all_of_it = mean_row.square().sum(-1) - even, mean_square - even
    return torch.where(all_of_it > 1e-9, 1 - common / all_of_it.clamp_min(1e-9), torch.zeros_like(common)).clamp(0, 1)


def likeness(products: Tensor, count: int, tokens: int) -> Tensor:
    """Correlation of every two heads' attention, from the sums of their products over `count` rows: (heads, heads).

    Rows add to 1, so each head's mean is 1 / tokens and no second pass is needed. 0 for a head that is alike
    everywhere, 1 with itself.
    """
    together = products - count / tokens
    lengths = together.diagonal().clamp_min(0).sqrt()
    both = lengths[:, None] * lengths
    result = torch.where(both > 1e-9 * count, together / both.clamp_min(1e-30), torch.zeros_like(both))
    return result.clamp(-1, 1).fill_diagonal_(1)


def head_contributions(record: AttentionRecord, stream: Tensor, factor: Tensor | None) -> Tensor | None:
    """Length of what each head adds to a token, over the token's length, mean over tokens: (heads).

    ‖factor ∘ (W_h output_h)‖ / ‖token‖, where W_h are the head's columns of the projection (Kobayashi et al. 2020)
    and `factor` (width) is LayerScale's, if there is one. `stream` (tokens, width) is what the block was given.
    None where the record has no projection.
    """
    if record.projection is None:
        return None
    output = at_least_float32(record.output[0])
    heads, _, width = output.shape
    weight = at_least_float32(record.projection).unflatten(1, (heads, width))
    weight = weight if factor is None else weight * at_least_float32(factor)[:, None, None]
    lengths = at_least_float32(stream).norm(dim=-1).clamp_min(1e-12)
    return torch.stack([((output[h] @ weight[:, h].T).norm(dim=-1) / lengths).mean() for h in range(heads)])
