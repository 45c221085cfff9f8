"""Attention weighted by the norm of the values that it moves (Kobayashi et al. 2020, section 3)."""

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
from vitreous.model.trace import AttentionRecord, Trace
from vitreous.tasks.targets import Target


def value_norm(model: ExplainableModel, images: Tensor, target: Target, options: MethodOptions) -> Maps:
    """Compute the norm of the vectors that the attention of one layer moves to the readout, or to the query's patch.

    Token i receives Σ_j α_ij f(v_j), where f is the part of the output projection that belongs to the head. The map at
    j is ‖α_ij f(v_j)‖ for one head, or ‖Σ_h α^h_ij f^h(v_j)‖ for all heads together (the default). Where the readout is
    a weighted mean over several tokens i, so is the map. Norms are in the units of the residual stream; they sum to
    nothing in particular. The layer's bias and its LayerScale are not counted.

    Args:
        model: an observable model whose output projection can be observed.
        images: (batch, channels, height, width), normalized.
        target: not used.
        options: layer, head and query.

    Raises:
        InputError: there is no such layer, head or patch, or the projection that joins the heads can't be observed.
    """
    trace = Trace()
    logits = model(images, trace)
    layer = resolve_index("layer", -1 if options.layer is None else options.layer, len(trace.records))
    record, row = trace.records[layer], at_least_float32(readout_row(trace, options))
    if record.projection is None:
        raise InputError(
            "method 'value-norm' needs the projection that joins the heads, which can't be observed in this model: "
            "choose attention or rollout"
        )
    if options.head is None:
        return Maps(to_grid(fused_norms(row, record), trace), logits, layer)
    head = resolve_index("head", options.head, record.query.shape[1])
    return Maps(to_grid(head_norms(row, record)[:, head], trace), logits, layer, head)


@full_precision
def head_norms(row: Tensor, record: AttentionRecord) -> Tensor:
    """Compute Σ_i r_i ‖α_ij f(v_j)‖ for each head: `row` (batch, tokens) to (batch, heads, tokens).

    The weights are positive, so the norm of f(v_j) can be multiplied in after the rows have been summed, and memory is
    linear in N.
    """
    norms = _head_products(record).diagonal(dim1=1, dim2=2).transpose(1, 2).clamp_min(0).sqrt()
    return row_times_attention(row, record) * norms


@full_precision
def fused_norms(row: Tensor, record: AttentionRecord) -> Tensor:
    """Compute Σ_i r_i ‖Σ_h α^h_ij f^h(v_j)‖: `row` (batch, tokens) to (batch, tokens), with memory linear in N.

    The squared norm is Σ_gh α^g_ij α^h_ij (f^g(v_j) · f^h(v_j)), and the products of heads do not depend on i.
    """
    products = _head_products(record)
    result = torch.zeros_like(at_least_float32(row))
    for chosen, attention in attention_row_blocks(row, record):
        squares = torch.einsum("bhrn,bhgn,bgrn->brn", attention, products, attention)
        result += torch.einsum("br,brn->bn", at_least_float32(row[:, chosen]), squares.clamp_min(0).sqrt())
    return result


def reference_norms(row: Tensor, record: AttentionRecord, head: int | None) -> Tensor:
    """Compute the same by the definition, from every weighted vector: N² × width numbers per head. For tests."""
    assert record.projection is not None
    maps = at_least_float32(record.projection).unflatten(1, (record.value.shape[1], -1))
    projected = torch.einsum("bhjd,whd->bhjw", at_least_float32(record.value), maps)
    vectors = reference_attention(record)[..., None] * projected[:, :, None]
    chosen = vectors.sum(1) if head is None else vectors[:, head]
    return torch.einsum("bi,bij->bj", at_least_float32(row), chosen.norm(dim=-1))


def _head_products(record: AttentionRecord) -> Tensor:
    """Compute f^g(v_j) · f^h(v_j) for each token and each pair of heads: (batch, heads, heads, tokens)."""
    assert record.projection is not None
    value = at_least_float32(record.value)
    maps = at_least_float32(record.projection).to(value.dtype).unflatten(1, (value.shape[1], -1))
    rows = []
    for head in range(value.shape[1]):
        between = torch.einsum("wd,wge->gde", maps[:, head], maps)
        mapped = torch.einsum("bnd,gde->bgne", value[:, head], between)
        rows.append((mapped * value).sum(-1))
    return torch.stack(rows, 1)
