"""Attention weighted by the norm of what it carries (Kobayashi et al. 2020, section 3)."""

import torch
from torch import Tensor

from vitreous.errors import InputError
from vitreous.explanation.method import ExplainableModel, Maps
from vitreous.explanation.options import MethodOptions, resolve_index
from vitreous.explanation.streaming.attention_products import (
    at_least_float32,
    attention_row_blocks,
    full_precision,
    reference_attention,
    row_times_attention,
)
from vitreous.explanation.streaming.tokens import readout_row, to_grid
from vitreous.explanation.targets import Target
from vitreous.model.trace import AttentionRecord, Trace


def value_norm(model: ExplainableModel, images: Tensor, target: Target, settings: MethodOptions) -> Maps:
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
    layer = resolve_index("layer", -1 if settings.layer is None else settings.layer, len(trace.records))
    record, row = trace.records[layer], at_least_float32(readout_row(trace, settings))
    if record.projection is None:
        raise InputError(
            "method 'value-norm' needs the projection that joins the heads, which can't be seen in this model: "
            "choose attention or rollout"
        )
    if settings.head is None:
        return Maps(to_grid(fused_norms(row, record), trace), logits, layer)
    head = resolve_index("head", settings.head, record.query.shape[1])
    return Maps(to_grid(head_norms(row, record)[:, head], trace), logits, layer, head)


@full_precision
def head_norms(row: Tensor, record: AttentionRecord) -> Tensor:
    """Σ_i r_i ‖α_ij f(v_j)‖ of each head: `row` (batch, tokens) to (batch, heads, tokens), in memory linear in N.

    The weights are positive, so the norm of v_j's image can be multiplied in after the rows have been summed.
    """
    norms = _products(record).diagonal(dim1=1, dim2=2).transpose(1, 2).clamp_min(0).sqrt()
    return row_times_attention(row, record) * norms


@full_precision
def fused_norms(row: Tensor, record: AttentionRecord) -> Tensor:
    """Σ_i r_i ‖Σ_h α^h_ij f^h(v_j)‖: `row` (batch, tokens) to (batch, tokens), in memory linear in N.

    The square of the norm is Σ_gh α^g_ij α^h_ij (f^g(v_j) · f^h(v_j)), and the products of heads do not depend on i.
    """
    products = _products(record)
    result = torch.zeros_like(at_least_float32(row))
    for chosen, attention in attention_row_blocks(row, record):
        squares = torch.einsum("bhrn,bhgn,bgrn->brn", attention, products, attention)
        result += torch.einsum("br,brn->bn", at_least_float32(row[:, chosen]), squares.clamp_min(0).sqrt())
    return result


def reference_norms(row: Tensor, record: AttentionRecord, head: int | None) -> Tensor:
    """The same by the definition, every weighted vector built: N² × width numbers a head. For tests."""
    assert record.projection is not None
    maps = at_least_float32(record.projection).unflatten(1, (record.value.shape[1], -1))
    carried = torch.einsum("bhjd,whd->bhjw", at_least_float32(record.value), maps)
    vectors = reference_attention(record)[..., None] * carried[:, :, None]
    chosen = vectors.sum(1) if head is None else vectors[:, head]
    return torch.einsum("bi,bij->bj", at_least_float32(row), chosen.norm(dim=-1))


def _products(record: AttentionRecord) -> Tensor:
    """f^g(v_j) · f^h(v_j) of each token and each two heads: (batch, heads, heads, tokens)."""
    assert record.projection is not None
    value = at_least_float32(record.value)
    maps = at_least_float32(record.projection).to(value.dtype).unflatten(1, (value.shape[1], -1))
    rows = []
    for head in range(value.shape[1]):
        between = torch.einsum("wd,wge->gde", maps[:, head], maps)
        seen = torch.einsum("bnd,gde->bgne", value[:, head], between)
        rows.append((seen * value).sum(-1))
    return torch.stack(rows, 1)
