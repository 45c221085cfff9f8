"""The streamed forms equal the plain ones; both obey the axioms."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vitreous.explanation.methods.attention import fuse_heads
from vitreous.explanation.methods.rollout import propagate, reference_rollout
from vitreous.explanation.options import MethodOptions
from vitreous.explanation.streaming import attention_products
from vitreous.explanation.streaming.attention_products import (
    reference_attention,
    reference_row_times_attention,
    row_times_attention,
)
from vitreous.model import kernels
from vitreous.model.kernels import dot_product_attention
from vitreous.model.trace import AttentionRecord, TokenLayout, Trace


def fused_rows(trace: Trace, layer: int, head: int | None = None) -> torch.Tensor:
    """What the readout's tokens attend to in a layer."""
    return fuse_heads(row_times_attention(trace.readout, trace.records[layer]), MethodOptions(head=head))


def random_trace(
    layers=4, batch=2, heads=3, tokens=37, width=8, dtype=torch.float64, readout="class", kernel="unknown"
) -> Trace:
    """A trace with the by-products of the kernel: none, the whole matrix, or the rows' sums."""
    records = []
    for _ in range(layers):
        query, key, value = (torch.randn(batch, heads, tokens, width, dtype=dtype) * 3 for _ in range(3))
        fused = dot_product_attention(query, key, value)
        by_products = {
            "unknown": (None, None),
            "written out": (torch.softmax(query @ key.transpose(-2, -1) * width**-0.5, -1), None),
            "fused": (None, fused.log_sums),
        }
        records.append(AttentionRecord(query, key, value, fused.output, width**-0.5, *by_products[kernel]))
    row = torch.rand(batch, tokens, dtype=dtype) if readout == "random" else torch.zeros(batch, tokens, dtype=dtype)
    if readout == "class":
        row[:, 0] = 1
    if readout == "patches":
        row[:, 1:] = 1
    return Trace(records, TokenLayout(1, 1, tokens - 1), row / row.sum(1, keepdim=True))


@pytest.mark.parametrize("readout", ["class", "patches", "random"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
@pytest.mark.parametrize("block", [1, 1000, 2**22])
@pytest.mark.parametrize("kernel", ["unknown", "written out", "fused"])
def test_streamed_rollout_equals_reference(readout, dtype, tolerance, block, kernel, monkeypatch):
    monkeypatch.setattr(attention_products, "BLOCK_ELEMENTS", block)
    monkeypatch.setattr(attention_products, "MIN_TOKENS_PER_HEAD", 2)
    monkeypatch.setattr(attention_products, "MIN_ROWS", 1)
    monkeypatch.setattr(kernels, "EAGER_MAX_TOKENS", {})
    monkeypatch.setattr(kernels, "EAGER_MAX_TOKENS_NO_GRAD", 0)
    trace = random_trace(dtype=dtype, readout=readout, kernel=kernel)
    assert kernel != "fused" or trace.records[0].log_sums is not None
    assert (propagate(trace.records, trace.readout) - reference_rollout(trace, trace.readout)).abs().max() < tolerance


@given(
    heads=st.integers(1, 3),
    tokens=st.integers(2, 20),
    layers=st.integers(1, 4),
    block=st.integers(1, 100),
    seed=st.integers(0, 99),
)
@settings(max_examples=30, deadline=None)
def test_any_shape_and_block_size(heads, tokens, layers, block, seed):
    torch.manual_seed(seed)
    trace = random_trace(layers, 2, heads, tokens, 4, readout="random")
    before = attention_products.BLOCK_ELEMENTS
    attention_products.BLOCK_ELEMENTS = block
    try:
        assert (propagate(trace.records, trace.readout) - reference_rollout(trace, trace.readout)).abs().max() < 1e-10
    finally:
        attention_products.BLOCK_ELEMENTS = before


@pytest.mark.parametrize("readout", ["class", "patches", "random"])
def test_rows_sum_to_one(readout):
    trace = random_trace(readout=readout)
    ones = torch.ones(2, dtype=torch.float64)
    assert torch.allclose(propagate(trace.records, trace.readout).sum(1), ones)
    for head in (None, 0, 2):
        assert torch.allclose(fused_rows(trace, 1, head).sum(1), ones)


def test_attention_of_the_class_token_is_its_row():
    trace = random_trace()
    for layer in range(4):
        whole = reference_attention(trace.records[layer])
        assert torch.allclose(fused_rows(trace, layer), whole[:, :, 0].mean(1))
        assert torch.allclose(fused_rows(trace, layer, 1), whole[:, 1, 0])
    assert torch.equal(
        fused_rows(trace, -1),
        fused_rows(trace, 3),
    )


def test_layer_order_equals_that_of_autograd():
    """A token that the first layer moves and the second one reads is found; the other way round it isn't.

    The linear map that rollout describes is built as a computation, and its gradient asked which inputs count.
    """
    trace = random_trace(layers=3, readout="class")
    inputs = torch.randn(2, 37, 1, dtype=torch.float64, requires_grad=True)
    tokens = inputs
    for record in trace.records:
        tokens = (tokens + reference_attention(record).mean(1) @ tokens) / 2
    (gradient,) = torch.autograd.grad(tokens[:, 0].sum(), inputs)
    assert torch.allclose(propagate(trace.records, trace.readout), gradient.squeeze(-1), atol=1e-12)


def test_a_second_call_is_equal_and_does_not_change_the_trace():
    trace = random_trace()
    kept = trace.readout.clone()
    first = propagate(trace.records, trace.readout)
    assert torch.equal(propagate(trace.records, trace.readout), first)
    assert torch.equal(trace.readout, kept) and len(trace.records) == 4


def test_half_precision_records_are_computed_in_float32():
    trace = random_trace(dtype=torch.float32)
    halves = [
        AttentionRecord(r.query.bfloat16(), r.key.bfloat16(), r.value.bfloat16(), r.output, r.scale)
        for r in trace.records
    ]
    row = propagate(halves, trace.readout.bfloat16())
    assert row.dtype == torch.float32
    assert torch.allclose(row.sum(1), torch.ones(2), atol=1e-5)


def test_row_times_attention_computes_only_rows_with_weight():
    trace = random_trace(tokens=50)
    record, row = trace.records[0], torch.zeros(2, 50, dtype=torch.float64)
    row[0, 7], row[1, 9] = 0.3, 0.7
    assert torch.allclose(row_times_attention(row, record), reference_row_times_attention(row, record))
    assert row_times_attention(torch.zeros_like(row), record).abs().sum() == 0
