"""Rollout with other ways of joining heads: in blocks as defined, and the axioms."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vitreous.errors import InputError
from vitreous.explanation.methods.rollout import (
    fuse_rows,
    propagate,
    propagate_fused,
    reference_fused_rollout,
    reference_rollout,
    rollout,
)
from vitreous.explanation.options import MethodOptions
from vitreous.explanation.streaming import attention_products
from vitreous.model.config import ViTConfig
from vitreous.model.trace import AttentionRecord, TokenLayout, Trace
from vitreous.model.vit import ViT
from vitreous.tasks.classification.targets import PredictedClassTarget

OPTIONS = [
    MethodOptions(head_fusion=fusion, discard_ratio=discard)
    for fusion in ("mean", "max", "min")
    for discard in (0.0, 0.5, 0.9)
]


def random_trace(layers=3, heads=3, tokens=23, dtype=torch.float64) -> Trace:
    records = []
    for _ in range(layers):
        query, key, value = (torch.randn(2, heads, tokens, 8, dtype=dtype) * 2 for _ in range(3))
        records.append(AttentionRecord(query, key, value, value, 8**-0.5))
    row = torch.rand(2, tokens, dtype=dtype)
    return Trace(records, TokenLayout(1, 1, tokens - 1), row / row.sum(1, keepdim=True))


@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: f"{options.head_fusion}-{options.discard_ratio}")
@pytest.mark.parametrize("block", [1, 700, 2**20])
def test_fused_rollout_in_blocks_equals_reference_and_rows_sum_to_one(options, block, monkeypatch):
    monkeypatch.setattr(attention_products, "BLOCK_ELEMENTS", block)
    torch.manual_seed(1)
    trace = random_trace()
    one_token = torch.zeros_like(trace.readout)
    one_token[:, 0] = 1
    for row in (trace.readout, one_token):
        found = propagate_fused(trace, row, options)
        assert (found - reference_fused_rollout(trace, row, options)).abs().max() < 1e-10
        assert torch.allclose(found.sum(1), torch.ones(2, dtype=torch.float64), atol=1e-12)


def test_the_mean_without_discarding_is_abnar_and_zuidemas_rollout():
    trace = random_trace()
    assert (
        propagate_fused(trace, trace.readout, MethodOptions()) - propagate(trace.records, trace.readout)
    ).abs().max() < 1e-12
    plain = reference_fused_rollout(trace, trace.readout, MethodOptions())
    assert (plain - reference_rollout(trace, trace.readout)).abs().max() < 1e-12


def test_mean_max_and_min_of_one_head_are_equal():
    trace = random_trace(heads=1)
    first, *others = (
        propagate_fused(trace, trace.readout, MethodOptions(head_fusion=options)) for options in ("mean", "max", "min")
    )
    assert all(torch.allclose(first, other, atol=1e-12) for other in others)


@given(tokens=st.integers(1, 30), discard=st.floats(0, 1, exclude_max=True), seed=st.integers(0, 99))
@settings(max_examples=50, deadline=None)
def test_the_smallest_weights_of_each_row_are_discarded_and_one_is_kept(tokens, discard, seed):
    attention = torch.rand(2, 2, 4, tokens, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    joined = fuse_rows(attention, MethodOptions(head_fusion="max", discard_ratio=discard))
    whole = attention.amax(1)
    gone = joined == 0
    assert (gone.sum(-1) == min(tokens - 1, int(discard * tokens + 1e-9))).all()
    assert torch.allclose(joined.sum(-1), torch.ones(2, 4, dtype=torch.float64))
    assert (whole.where(gone, 0).amax(-1) <= whole.masked_fill(gone, 2).amin(-1)).all()


def test_equal_weights_are_kept_together():
    even = torch.full((1, 2, 3, 10), 0.1, dtype=torch.float64)
    assert torch.allclose(fuse_rows(even, MethodOptions(discard_ratio=0.9)), even[:, 0])


def test_the_minimum_of_disjoint_heads_leaves_the_residual_connection():
    """By minimum nothing is left of such a row, and all of it stays where it is."""
    attention = torch.zeros(1, 2, 2, 2)
    attention[:, 0, :, 0] = attention[:, 1, :, 1] = 1
    assert fuse_rows(attention, MethodOptions(head_fusion="min")).abs().sum() == 0
    query = torch.tensor([[[[1.0], [1.0]], [[1.0], [1.0]]]])
    key = torch.tensor([[[[900.0], [-900.0]], [[-900.0], [900.0]]]])
    trace = Trace([AttentionRecord(query, key, key, key, 1.0)])
    row = torch.tensor([[0.3, 0.7]])
    assert torch.allclose(propagate_fused(trace, row, MethodOptions(head_fusion="min")), row)


def test_the_method_uses_the_options():
    torch.manual_seed(0)
    vit = ViT(ViTConfig((12, 20), 4, embed_dim=24, depth=2, num_heads=2, num_classes=3, reg_tokens=2)).eval()
    with torch.no_grad():
        for weight in vit.parameters():
            weight.normal_(std=0.3)
    images = torch.randn(2, 3, 12, 20)
    grids = [rollout(vit, images, PredictedClassTarget(), options).values for options in OPTIONS]
    assert all(grid.shape == (2, 3, 5) for grid in grids)
    assert not any(torch.allclose(grids[0], other) for other in grids[1:])


@pytest.mark.parametrize("discard", [-0.1, 1.0, 2.0, float("nan")])
def test_a_discard_ratio_outside_its_range_raises(discard):
    vit = ViT(ViTConfig((8, 8), 4, embed_dim=8, depth=1, num_heads=2, num_classes=2))
    with pytest.raises(InputError, match="0 to below 1"):
        rollout(vit, torch.randn(1, 3, 8, 8), PredictedClassTarget(), MethodOptions(discard_ratio=discard))
