"""Attention weighted by the norm of what it carries (Kobayashi et al. 2020, section 3)."""

import torch
from torch import Tensor

from vitreous.errors import InputError
from vitreous.explanation.method import Maps, Model
from vitreous.explanation.options import Settings, index
from vitreous.explanation.streaming.attention_products import (
    exact,
    exactly,
    plain_attention,
    row_blocks,
    row_times_attention,
)
from vitreous.explanation.streaming.tokens import on_grid, starting_row
from vitreous.explanation.targets import Target
from vitreous.model.trace import AttentionRecord, Trace


def value_norm(model: Model, images: Tensor, target: Target, settings: Settings) -> Maps:
    """How long the vectors are that one layer's attention brings to the readout, or to a chosen patch.

    Token i receives Σ_j α_ij f(v_j), where f is the part of the output projection that belongs to the head; the map at
    j is ‖α_ij f(v_j)‖, for one head or, by default, ‖Σ_h α^h_ij f^h(v_j)‖ for all together. Where the readout is a
    weighting of several tokens i, so is the map. Norms are in the residual stream's units and add to nothing in
    particular; the layer's bias and a learned factor on its branch are not counted.

    Raises:
        InputError: no such layer or head, or the model doesn't show the projection that joins its heads.
    """
    trace = Trace()
    logits = model(images, trace)
    layer = index("layer", -1 if settings.layer is None else settings.layer, len(trace.records))
    record, row = trace.records[layer], exact(starting_row(trace, settings))
    if record.projection is None:
        raise InputError(
            "method 'value-norm' needs the projection that joins the heads, which can't be seen in this model: "
            "choose attention or rollout"
        )
    if settings.head is None:
        return Maps(on_grid(joined_norms(row, record), trace), logits, layer)
    head = index("head", settings.head, record.query.shape[1])
    return Maps(on_grid(head_norms(row, record)[:, head], trace), logits, layer, head)


@exactly
def head_norms(row: Tensor, record: AttentionRecord) -> Tensor:
    """Σ_i r_i ‖α_ij f(v_j)‖ of each head: `row` (batch, tokens) to (batch, heads, tokens), in memory linear in N.

    The weights are positive, so the norm of v_j's image can be multiplied in after the rows have been summed.
    """
    norms = _products(record).diagonal(dim1=1, dim2=2).transpose(1, 2).clamp_min(0).sqrt()
    return row_times_attention(row, record) * norms


@exactly
def joined_norms(row: Tensor, record: AttentionRecord) -> Tensor:
    """Σ_i r_i ‖Σ_h α^h_ij f^h(v_j)‖: `row` (batch, tokens) to (batch, tokens), in memory linear in N.

    The square of the norm is Σ_gh α^g_ij α^h_ij (f^g(v_j) · f^h(v_j)), and the products of heads do not depend on i.
    """
    products = _products(record)
    result = torch.zeros_like(exact(row))
    for chosen, attention in row_blocks(row, record):
        squares = torch.einsum("bhrn,bhgn,bgrn->brn", attention, products, attention)
        result += torch.einsum("br,brn->bn", exact(row[:, chosen]), squares.clamp_min(0).sqrt())
    return result


def plain_norms(row: Tensor, record: AttentionRecord, head: int | None) -> Tensor:
    """The same by the definition, every weighted vector built: N² × width numbers a head. For tests."""
    assert record.projection is not None
    maps = exact(record.projection).unflatten(1, (record.value.shape[1], -1))
    carried = torch.einsum("bhjd,whd->bhjw", exact(record.value), maps)
    vectors = plain_attention(record)[..., None] * carried[:, :, None]
    chosen = vectors.sum(1) if head is None else vectors[:, head]
    return torch.einsum("bi,bij->bj", exact(row), chosen.norm(dim=-1))


def _products(record: AttentionRecord) -> Tensor:
    """f^g(v_j) · f^h(v_j) of each token and each two heads: (batch, heads, heads, tokens)."""
    assert record.projection is not None
    value = exact(record.value)
    maps = exact(record.projection).to(value.dtype).unflatten(1, (value.shape[1], -1))
    rows = []
    for head in range(value.shape[1]):
        between = torch.einsum("wd,wge->gde", maps[:, head], maps)
        seen = torch.einsum("bnd,gde->bgne", value[:, head], between)
        rows.append((seen * value).sum(-1))
    return torch.stack(rows, 1)
