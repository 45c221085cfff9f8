"""Attention weighted by its gradient: streamed forms equal the reference forms, which equal autograd."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import settings as property_settings
from hypothesis import strategies as st

from vitreous.errors import InputError
from vitreous.explanation.methods.attention import attention_gradient
from vitreous.explanation.methods.gradient_rollout import (
    gradient_rollout,
    propagate_relevance,
    reference_gradient_rollout,
)
from vitreous.explanation.methods.legrad import legrad
from vitreous.explanation.options import MethodOptions
from vitreous.explanation.streaming import attention_products
from vitreous.explanation.streaming.attention_products import (
    mean_positive,
    reference_attention_gradient,
    reference_mean_positive,
    reference_row_times_positive,
    row_times_positive,
)
from vitreous.explanation.streaming.gradients import forward_scored, score_gradients
from vitreous.explanation.streaming.tokens import to_grid
from vitreous.model import kernels
from vitreous.model.config import ViTConfig
from vitreous.model.trace import AttentionRecord
from vitreous.model.vit import ViT
from vitreous.tasks.classification.targets import ClassTarget

EEL = ClassTarget(1, "eel")
POOLINGS = ["token", "avg", "attention", "map"]
TIGHT = [(torch.float64, 1e-10), (torch.float32, 1e-5)]


@pytest.fixture(autouse=True)
def without_autograd():
    with torch.no_grad():
        yield


def vit(dtype=torch.float64, **options) -> ViT:
    torch.manual_seed(0)
    chosen = {"embed_dim": 24, "depth": 3, "num_heads": 2, "num_classes": 3, "reg_tokens": 2, **options}
    model = ViT(ViTConfig((16, 24), 4, **chosen)).to(dtype).eval()
    for weight in model.parameters():
        weight.normal_(std=0.3)
    return model


def make_images(dtype=torch.float64, count=2) -> torch.Tensor:
    return torch.randn(count, 3, 16, 24, dtype=dtype, generator=torch.Generator().manual_seed(1))


def random_layer(batch=2, heads=3, tokens=37, width=8, dtype=torch.float64) -> tuple[AttentionRecord, torch.Tensor]:
    query, key, value, gradient = torch.randn(4, batch, heads, tokens, width, dtype=dtype)
    output, log_sums = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(query, key, value)
    return AttentionRecord(query, key, value, output, width**-0.5, None, log_sums), gradient


def known(record: AttentionRecord, by_product: str) -> AttentionRecord:
    """The record as a kernel with that by-product leaves it."""
    weights = attention_products.reference_attention(record)
    if by_product == "weights":
        return replace(record, weights=weights, log_sums=None)
    return record if by_product == "log_sums" else replace(record, log_sums=None)


@pytest.mark.parametrize("by_product", ["weights", "log_sums", "none"])
@pytest.mark.parametrize(("dtype", "tolerance"), TIGHT)
@pytest.mark.parametrize("block", [1, 1000, 2**22])
def test_streamed_equals_reference(by_product, dtype, tolerance, block, monkeypatch):
    monkeypatch.setattr(attention_products, "BLOCK_ELEMENTS", block)
    torch.manual_seed(0)
    record, gradient = random_layer(dtype=dtype)
    record, row = known(record, by_product), torch.rand(2, 37, dtype=dtype) / 37
    kept = [tensor.clone() for tensor in (record.query, record.key, record.value, gradient)]
    ours, plain = row_times_positive(row, record, gradient), reference_row_times_positive(row, record, gradient)
    assert ours.dtype == dtype and (ours - plain).abs().max() < tolerance
    assert (mean_positive(record, gradient) - reference_mean_positive(record, gradient)).abs().max() < tolerance
    after = (record.query, record.key, record.value, gradient)
    assert all(torch.equal(*pair) for pair in zip(kept, after, strict=True))
    if record.weights is not None:
        assert torch.equal(record.weights, attention_products.reference_attention(record))


@given(heads=st.integers(1, 3), tokens=st.integers(2, 20), block=st.integers(1, 200), seed=st.integers(0, 99))
@property_settings(max_examples=30, deadline=None)
def test_any_shape_and_block_size(heads, tokens, block, seed):
    torch.manual_seed(seed)
    before, attention_products.BLOCK_ELEMENTS = attention_products.BLOCK_ELEMENTS, block
    try:
        record, gradient = random_layer(2, heads, tokens, 4)
        row = torch.rand(2, tokens, dtype=torch.float64) * (torch.rand(tokens) < 0.5)
        row[:, 0] += 0.1
        expected = reference_row_times_positive(row, record, gradient)
        assert (row_times_positive(row, record, gradient) - expected).abs().max() < 1e-10
    finally:
        attention_products.BLOCK_ELEMENTS = before


def test_gradient_of_attention_equals_finite_differences():
    """∇A_ij = g_i · v_j: change one weight of A and measure the change of a score of A v."""
    record, gradient = random_layer(1, 2, 5, 3)
    weights, weight_gradient = reference_attention_gradient(record, gradient)
    assert torch.allclose(weight_gradient, gradient @ record.value.transpose(-2, -1))

    def score(matrix):
        return ((matrix @ record.value) * gradient).sum()

    for head, i, j in ((0, 1, 2), (1, 4, 0), (1, 3, 3)):
        nudge = torch.zeros_like(weights)
        nudge[0, head, i, j] = 1e-6
        assert abs((score(weights + nudge) - score(weights - nudge)) / 2e-6 - weight_gradient[0, head, i, j]) < 1e-7


def test_rows_without_weight_are_not_computed(monkeypatch):
    record, gradient = random_layer(tokens=50)
    row = torch.zeros(2, 50, dtype=torch.float64)
    row[0, 7], row[1, 9] = 0.3, 0.7
    counted, product = [], torch.bmm
    monkeypatch.setattr(torch, "bmm", lambda rows, columns: counted.append(rows.shape[1]) or product(rows, columns))
    assert torch.allclose(
        row_times_positive(row, record, gradient), reference_row_times_positive(row, record, gradient)
    )
    assert counted == [2]
    assert row_times_positive(torch.zeros_like(row), record, gradient).abs().sum() == 0
    assert mean_positive(record, torch.zeros_like(gradient)).abs().sum() == 0


def assert_close_maps(ours, expected, tolerance):
    assert expected.abs().max() > 0
    assert (ours - expected).abs().max() < tolerance * expected.abs().max()


def matrices_by_autograd(model, images, monkeypatch):
    """The trace of a pass through attention written out, and autograd's gradients of its matrices."""
    monkeypatch.setattr(kernels, "EAGER_MAX_TOKENS", dict.fromkeys((torch.float32, torch.float64), 10**6))
    run = forward_scored(model, images, EEL)
    matrices = [record.weights for record in run.trace.records]
    return run.trace, [matrix.detach() for matrix in matrices], score_gradients(run.scores, matrices)


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize(("dtype", "tolerance"), TIGHT)
def test_maps_equal_those_of_the_models_own_matrices(pooling, dtype, tolerance, monkeypatch):
    """Through the whole model, in the fused kernel's way: layer order, gradients and heads are autograd's."""
    model, images = vit(dtype, global_pool=pooling), make_images(dtype)
    monkeypatch.setattr(kernels, "EAGER_MAX_TOKENS", {})
    rolled = gradient_rollout(model, images, EEL, MethodOptions()).values
    single = attention_gradient(model, images, EEL, MethodOptions(layer=1)).values
    headed = attention_gradient(model, images, EEL, MethodOptions(layer=1, head=-1)).values
    trace, matrices, gradients = matrices_by_autograd(model, images, monkeypatch)
    positive = [(one * gradient).clamp(min=0) for one, gradient in zip(matrices, gradients, strict=True)]
    brought = torch.zeros(trace.layout.num_tokens, trace.layout.num_tokens, dtype=dtype)  # R − I
    for one in positive:
        brought = brought + one.mean(1) + one.mean(1) @ brought
    row = trace.readout.to(dtype)[:, None]
    expected = (row @ brought).squeeze(1)
    if pooling in ("attention", "map"):
        tolerance = max(
            tolerance, 1e-6
        )  # these poolings compute their weights in float32, whatever the model's precision
    assert_close_maps(rolled, to_grid(expected, trace), tolerance)
    assert_close_maps(single, to_grid((row @ positive[1].mean(1)).squeeze(1), trace), tolerance)
    assert_close_maps(headed, to_grid((row @ positive[1][:, 1]).squeeze(1), trace), tolerance)
    assert rolled.shape == (2, 4, 6)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_legrad_equals_the_gradient_of_each_layers_score(pooling, monkeypatch):
    model, images = vit(global_pool=pooling), make_images()
    ours = legrad(model, images, EEL, MethodOptions()).values
    monkeypatch.setattr(kernels, "EAGER_MAX_TOKENS", {torch.float64: 10**6})
    total = 0
    for layer in range(3):
        run = forward_scored(model, images, EEL)
        with torch.enable_grad():
            tokens = run.trace.tokens[layer + 1]
            scores = EEL(model.logit_lens(tokens.mean(1, keepdim=True).expand_as(tokens)))
        (gradient,) = score_gradients(scores, [run.trace.records[layer].weights])
        total = total + gradient.clamp(min=0).mean((1, 2)) / 3
    assert_close_maps(ours, to_grid(total, run.trace), 1e-6 if pooling in ("attention", "map") else 1e-10)


def test_streamed_gradient_rollout_equals_reference():
    layers = [random_layer() for _ in range(4)]
    records, gradients = [record for record, _ in layers], [gradient / 30 for _, gradient in layers]
    row = torch.rand(2, 37, dtype=torch.float64)
    expected = reference_gradient_rollout(records, gradients, row)
    assert (propagate_relevance(records, gradients, row) - expected).abs().max() < 1e-10 * expected.max()


def test_half_precision_records_are_computed_in_float32():
    record, gradient = random_layer(dtype=torch.float32)
    halves = AttentionRecord(*(one.bfloat16() for one in (record.query, record.key, record.value)), None, record.scale)
    row = torch.rand(2, 37).bfloat16()
    ours = row_times_positive(row, halves, gradient.bfloat16())
    assert ours.dtype == torch.float32
    assert torch.allclose(ours, reference_row_times_positive(row, halves, gradient.bfloat16()), atol=1e-5)


@pytest.mark.parametrize("method", [gradient_rollout, attention_gradient, legrad])
def test_attention_on_the_deciding_patch_is_found(method):
    """Known truth: only the patch that has a certain content carries a value that the class reads."""
    model = vit(torch.float32, depth=1, num_heads=1, reg_tokens=0, pos_embed="sincos")
    for weight in model.parameters():
        weight.zero_()
    model.blocks[0].norm1.weight.fill_(1)
    model.norm.weight.fill_(1)
    model.patch_embed.proj.weight[5].fill_(0.2)
    model.blocks[0].attn.qkv.weight[48, 5] = 1
    model.blocks[0].attn.proj.weight[3, 0] = 1
    model.head.weight[1, 3] = 1
    image = torch.zeros(1, 3, 16, 24)
    image[:, :, 8:12, 4:8] = 1
    grid = method(model, image, EEL, MethodOptions()).values[0]
    assert grid.argmax() == 2 * 6 + 1 and grid[2, 1] > 3 * grid.flatten().sort().values[-2]


def test_unknown_layers_and_heads_raise():
    with pytest.raises(InputError, match="no layer 3: this model has layers 0 to 2"):
        attention_gradient(vit(), make_images(), EEL, MethodOptions(layer=3))
    with pytest.raises(InputError, match="no head 2"):
        attention_gradient(vit(), make_images(), EEL, MethodOptions(head=2))
