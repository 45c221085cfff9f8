"""Value norms: streamed as defined, and what the definition promises."""

from dataclasses import replace

import pytest
import torch

from vitreous.errors import InputError
from vitreous.explanation.methods.value_norm import fused_norms, head_norms, reference_norms, value_norm
from vitreous.explanation.options import MethodOptions
from vitreous.explanation.streaming import attention_products
from vitreous.model.config import ViTConfig
from vitreous.model.trace import AttentionRecord, Trace
from vitreous.model.vit import ViT
from vitreous.tasks.classification.targets import PredictedClassTarget


def record(heads=3, tokens=29, width=8, out=20, dtype=torch.float64) -> AttentionRecord:
    query, key, value = (torch.randn(2, heads, tokens, width, dtype=dtype) for _ in range(3))
    projection = torch.randn(out, heads * width, dtype=dtype)
    return AttentionRecord(query, key, value, value, width**-0.5, projection=projection)


@pytest.mark.parametrize("block", [1, 500, 2**20])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 2e-5)])
def test_streamed_norms_equal_reference(block, dtype, tolerance, monkeypatch):
    monkeypatch.setattr(attention_products, "BLOCK_ELEMENTS", block)
    torch.manual_seed(0)
    one, row = record(dtype=dtype), torch.rand(2, 29, dtype=dtype)
    row[:, 5:9] = 0
    row /= row.sum(1, keepdim=True)
    assert (fused_norms(row, one) - reference_norms(row, one, None)).abs().max() < tolerance
    for head in range(3):
        assert (head_norms(row, one)[:, head] - reference_norms(row, one, head)).abs().max() < tolerance


def test_fused_norms_are_at_most_the_sum_over_heads():
    torch.manual_seed(0)
    one, row = record(), torch.rand(2, 29, dtype=torch.float64)
    assert (fused_norms(row, one) <= head_norms(row, one).sum(1) + 1e-12).all()
    single = record(heads=1)
    assert torch.allclose(fused_norms(row, single), head_norms(row, single)[:, 0])


def test_tokens_with_zero_values_have_zero_norm():
    torch.manual_seed(0)
    one = record()
    one.value[:, :, 7] = 0
    one.key[:, :, 7] = one.query[:, :, 0] * 9
    row = torch.zeros(2, 29, dtype=torch.float64)
    row[:, 0] = 1
    assert fused_norms(row, one)[:, 7].abs().max() == 0
    assert (fused_norms(row, one)[:, 8] > 0).all()


@pytest.mark.parametrize("pooling", ["token", "avg", "attention", "map"])
def test_maps_equal_the_definition(pooling):
    torch.manual_seed(0)
    config = ViTConfig(
        (12, 20), 4, embed_dim=24, depth=2, num_heads=2, num_classes=3, reg_tokens=2, global_pool=pooling
    )
    vit, images = ViT(config).eval(), torch.randn(2, 3, 12, 20)
    maps = value_norm(vit, images, PredictedClassTarget(), MethodOptions(layer=0, query=(2, 3)))
    assert maps.values.shape == (2, 3, 5) and (maps.layer, maps.head) == (0, None)
    trace = Trace()
    vit(images, trace)
    row = torch.zeros(2, trace.layout.num_tokens)
    row[:, trace.layout.num_prefix_tokens + 2 * 5 + 3] = 1
    wanted = reference_norms(row, trace.records[0], None)[:, trace.layout.num_prefix_tokens :]
    assert torch.allclose(maps.values.flatten(1), wanted, atol=1e-6)
    assert value_norm(vit, images, PredictedClassTarget(), MethodOptions(head=-1)).head == 1


def test_a_model_without_observable_projection_raises():
    vit = ViT(ViTConfig((8, 8), 4, embed_dim=8, depth=1, num_heads=2, num_classes=2))

    def hiding(images, trace=None):
        logits = vit(images, trace)
        trace.records[:] = [replace(one, projection=None) for one in trace.records]
        return logits

    with pytest.raises(InputError, match="needs the projection"):
        value_norm(hiding, torch.randn(1, 3, 8, 8), PredictedClassTarget(), MethodOptions())
